"""The folder of one set's features: batches kept as they are computed, put together at the end, every file sealed."""

import json
import pathlib
import shutil
import sys
from typing import Any

import numpy as np

from score_sde.errors import require
from score_sde.storage.files import whole
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import as_json, read_json, write_json

STATISTICS, REPORT, SETTINGS, PARTS = "statistics.npz", "report.json", "settings.json", "unfinished"
Arrays = dict[str, np.ndarray]
"""One row for each picture: features, and what else there is."""


class FeatureFolder:
    """statistics.npz, settings.json and, of samples, report.json; in `unfinished` what is computed so far.

    settings: of JSON, all that decides the features. results: the files that are there in the end. Whoever writes holds
    the folder's lock.
    """

    def __init__(self, path: pathlib.Path, settings: dict[str, Any], results: tuple[str, ...]) -> None:
        self.path, self.settings, self.results = path, json.loads(json.dumps(settings)), results
        self._seals, self._parts = Seals(path), Seals(path / PARTS)

    def is_done(self) -> bool:
        """Whether all is there, sealed and of these settings; changes nothing."""
        if (self.path / PARTS).exists() or not self._seals.whole(*self.results, SETTINGS):
            return False
        return read_json(self.path / SETTINGS) == self.settings

    def resume(self, overwrite: bool) -> int:
        """How many parts are kept. UsageError where other settings' results are there and may not be overwritten."""
        ours, parts_ours = (self._is_ours(seals) for seals in (self._seals, self._parts))
        require(
            overwrite or (ours and parts_ours), f"{self.path} holds an evaluation of other settings: add --overwrite"
        )
        for name in (*self.results, SETTINGS):
            if ours and self._seals.known(name) and (fault := self._seals.fault(name)):
                print(f"{self.path / name} {fault}: it is made again", file=sys.stderr)
        if self._parts.whole(SETTINGS) and parts_ours:
            return self._parts.leading([_name(i) for i in range(len(list((self.path / PARTS).glob("*.npz"))))])
        if (self.path / PARTS).exists():
            shutil.rmtree(self.path / PARTS)
        write_json(self.path / PARTS / SETTINGS, self.settings)
        self._parts.seal(SETTINGS)
        return 0

    def _is_ours(self, seals: Seals) -> bool:
        """Whether a folder's settings.json, or its seal where it is damaged, is of these settings, or there is none."""
        if seals.fault(SETTINGS) == "is damaged":
            return seals.is_of(SETTINGS, as_json(self.settings))
        return read_json(seals.folder / SETTINGS) in ({}, self.settings)

    def keep(self, index: int, arrays: Arrays) -> None:
        """Write part `index`, whole and sealed."""
        with whole(self.path / PARTS / _name(index)) as unfinished:
            np.savez(unfinished, **arrays)  # pyright: ignore[reportArgumentType]
        self._parts.seal(_name(index))

    def gathered(self) -> Arrays:
        """The rows of all parts."""
        parts = []
        for part in sorted((self.path / PARTS).glob("*.npz")):
            with np.load(part) as arrays:
                parts.append(dict(arrays))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def finish(self) -> None:
        """Seal the results, which are written, and remove the parts."""
        write_json(self.path / SETTINGS, self.settings)
        self._seals.seal(*self.results, SETTINGS)
        if (self.path / PARTS).exists():
            self._parts.forget(SETTINGS)  # killed on the way, what is left counts for nothing
            shutil.rmtree(self.path / PARTS)


def _name(index: int) -> str:
    return f"{index:06d}.npz"
