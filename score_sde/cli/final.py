"""What stands at the end of a training: the last grid, and how its samples compare with the data."""

import json
import sys
from typing import Any

from score_sde.storage.images import save_samples
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import Workdir, write_json


class Final:
    """samples/final_<step>.png and evaluation/final_<step>.json of a run, sealed in the latter folder."""

    def __init__(self, workdir: Workdir, step: int) -> None:
        self.folder, self.step = workdir.path / "evaluation", step
        self.picture = workdir.samples / f"final_{step:08d}.png"
        self.report = self.folder / f"final_{step:08d}.json"
        self._names = {self.picture: f"../{workdir.samples.name}/{self.picture.name}", self.report: self.report.name}
        self._seals = Seals(self.folder)

    def complete(self, wanted: bool) -> bool:
        """Whether the picture and, if wanted, the figures are whole; what is damaged is named on stderr.

        Files of earlier versions, which sealed none in this folder, are taken for whole.
        """
        paths = [self.picture, *([self.report] if wanted else [])]
        if not self._seals.any():
            return all(path.exists() for path in paths)
        faults = {path: self._seals.fault(name) for path, name in self._names.items() if path in paths}
        for path, fault in faults.items():
            if fault and self._seals.known(self._names[path]):
                print(f"{path} {fault}: it is made again", file=sys.stderr)
        return not any(faults.values())

    def save_picture(self, *samples: Any) -> str:
        """Write the grid; returns what is to be said of its scale."""
        _, said = save_samples(self.picture, *samples)
        self._seals.seal(self._names[self.picture])
        return said

    def save_figures(self, figures: dict[str, Any]) -> None:
        """Write the figures."""
        write_json(self.report, {"step": self.step, **figures})
        self._seals.seal(self._names[self.report])

    def not_finite(self) -> int:
        """How many of the samples that the figures are of were not finite."""
        try:
            return int(json.loads(self.report.read_bytes())["non_finite"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0
