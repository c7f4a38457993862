"""A CSV file with one row per image, written batch by batch, that goes on where a killed run left it."""

import csv
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np


class PerImage:
    """The file of given columns, numbers all, the first of which is the image's. An empty cell stands for NaN."""

    def __init__(self, path: pathlib.Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)

    def rows(self) -> np.ndarray:
        """What is written so far, float64 [n, columns]; a last line that was cut off is not."""
        text = self._whole_lines()
        rows = [[float(cell) if cell else np.nan for cell in row] for row in csv.reader(text.splitlines()[1:])]
        return np.asarray(rows, np.float64).reshape(len(rows), len(self.columns))

    def start(self) -> None:
        """An empty file, of the header alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(",".join(self.columns) + "\n")

    def mend(self) -> None:
        """Drop a last line that was cut off."""
        whole = self._whole_lines().encode()
        if self.path.stat().st_size != len(whole):
            os.truncate(self.path, len(whole))

    def append(self, rows: np.ndarray) -> None:
        """Write rows [n, columns] and see them onto the disk."""
        text = io.StringIO()
        for row in rows:
            cells = [str(int(row[0]))] + ["" if np.isnan(value) else f"{value:.9g}" for value in row[1:]]
            text.write(",".join(cells) + "\n")
        with self.path.open("a") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def _whole_lines(self) -> str:
        text = self.path.read_text() if self.path.exists() else ""
        return text[: text.rfind("\n") + 1]
