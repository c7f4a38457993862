"""A CSV file with one row per image, written batch by batch, that goes on where a killed run left it."""

import csv
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from score_sde.storage.growing import Growing
from score_sde.storage.seals import Seals

OLD = "is of an earlier version, which sealed nothing"


class PerImage:
    """The file of given columns, numbers all, the first of which is the image's. An empty cell stands for NaN.

    What is sealed counts (`storage.growing`); in a folder of earlier versions, which has no seals, all whole lines.
    """

    def __init__(self, path: pathlib.Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._file = Growing(path)

    def rows(self) -> np.ndarray:
        """What is written and whole, float64 [n, columns]."""
        rows = self._parsed()[0]
        return np.asarray(rows, np.float64).reshape(len(rows), len(self.columns))

    def fault(self) -> str | None:
        """What is wrong with the file, OLD or as `storage.growing` says it; None for nothing. Raises OSError."""
        fault = self._file.fault()
        return OLD if fault == "has no seals" and not Seals(self.path.parent).any() else fault

    def start(self) -> None:
        """An empty file, of the header alone."""
        self._file.start(self._header)

    def mend(self) -> None:
        """Cut off what is not whole, so that rows can be appended; a file without a whole header is started anew."""
        _, content = self._parsed()
        if not content:
            self.start()
        elif self.fault() == OLD:
            self._file.start(content)
        else:
            self._file.mend()

    def append(self, rows: np.ndarray) -> None:
        """Write rows [n, columns] and see them onto the disk; after `start` or `mend`."""
        text = io.StringIO()
        for row in rows:
            cells = [str(int(row[0]))] + ["" if np.isnan(value) else f"{value:.9g}" for value in row[1:]]
            text.write(",".join(cells) + "\n")
        self._file.append(text.getvalue().encode())

    @property
    def _header(self) -> bytes:
        return ",".join(self.columns).encode() + b"\n"

    def _parsed(self) -> tuple[list[list[float]], bytes]:
        """The rows that are whole, and their text with the header's, empty without a whole header."""
        content, more = self._file.read()
        lines = ((content + more) if self.fault() == OLD else content).splitlines(keepends=True)
        if lines[:1] != [self._header]:
            return [], b""
        rows = []
        for line in lines[1:]:
            if (row := self._row(line)) is None:
                break
            rows.append(row)
        return rows, b"".join(lines[: 1 + len(rows)])

    def _row(self, line: bytes) -> list[float] | None:
        """The numbers of a whole line, None for anything else."""
        try:
            (cells,) = csv.reader([line.decode("ascii")])
            row = [float(cell) if cell else np.nan for cell in cells]
        except ValueError:
            return None
        return row if line.endswith(b"\n") and len(row) == len(self.columns) else None
