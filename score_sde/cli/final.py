"""What stands at the end of a training: the last grid, and how its samples compare with the data."""

import pathlib
import sys
from typing import Any

from score_sde.storage.images import is_picture, save_samples
from score_sde.storage.seals import Seals
from score_sde.storage.texts import save_texts
from score_sde.storage.workdir import Workdir, read_json, write_json


class Final:
    """samples/final_<step>.png and evaluation/final_<step>.json of a run, sealed in the latter folder."""

    def __init__(self, workdir: Workdir, step: int) -> None:
        self.folder, self.step = workdir.path / "evaluation", step
        self.picture = workdir.samples / f"final_{step:08d}.png"
        self.report = self.folder / f"final_{step:08d}.json"
        self._names = {self.picture: f"../{workdir.samples.name}/{self.picture.name}", self.report: self.report.name}
        self._seals = Seals(self.folder)

    def complete(self, wanted: bool) -> bool:
        """Whether the picture and, if wanted, the figures are whole."""
        return self._seals.whole(*self._names_of(wanted))

    def taken_over(self, wanted: bool) -> bool:
        """Whether both are whole now; those of earlier versions, which sealed none here, are taken as they are.

        Names on stderr what is damaged. Whoever calls it holds the folder's lock.
        """
        names = self._names_of(wanted)
        if not self._seals.any() and is_picture(self.picture) and (read_json(self.report) or not wanted):
            self._seals.seal(*names)
        for name in names:
            if (fault := self._seals.fault(name)) and self._seals.known(name):
                print(f"{self._path(name)} {fault}: it is made again", file=sys.stderr)
        return self.complete(wanted)

    def _path(self, name: str) -> pathlib.Path:
        return next(path for path, own in self._names.items() if own == name)

    def _names_of(self, wanted: bool) -> list[str]:
        return [self._names[self.picture], *([self._names[self.report]] if wanted else [])]

    def save_picture(self, x: Any, classes: Any, finite: Any, texts: list[str] | None = None) -> str:
        """Write the grid, and samples that are texts beside it; returns what is to be said of its scale."""
        _, said = save_samples(self.picture, x, classes, finite)
        if texts is not None:
            save_texts(self.picture.with_suffix(".txt"), texts)
        self._seals.seal(self._names[self.picture])
        return said

    def save_figures(self, figures: dict[str, Any]) -> None:
        """Write the figures."""
        write_json(self.report, {"step": self.step, **figures})
        self._seals.seal(self._names[self.report])

    def not_finite(self) -> int:
        """How many of the samples that the figures are of were not finite."""
        return read_json(self.report).get("non_finite", 0)
