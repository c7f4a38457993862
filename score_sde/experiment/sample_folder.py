"""The folder of one way of sampling: batches kept as they are drawn, put together at the end, every file sealed.

samples.npz says itself what it holds, so the grid and settings.json can be made of it again.
"""

import json
import pathlib
import shutil
import sys
import zipfile
import zlib
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from score_sde.data.captions import CAPTION
from score_sde.data.text import Alphabet
from score_sde.errors import require
from score_sde.evaluation.likelihoods import completed
from score_sde.experiment.answers import answers, wanted
from score_sde.experiment.editing import KNOWN, Asked
from score_sde.experiment.generation import Drawn
from score_sde.experiment.sample_forms import forms, pictured
from score_sde.storage.files import whole
from score_sde.storage.images import save_grid, save_selected, selected
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import read_json, write_json

SAMPLES, GRID, SETTINGS, PARTS = "samples.npz", "grid.png", "settings.json", "unfinished"
ANSWERS = "answers.png"
OTHERS = "add --overwrite, or change sampling.seed"
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""What a damaged archive makes Python raise."""


class Summary(NamedTuple):
    """What a finished folder holds: network evaluations per sample, samples that are not finite, the grid's scale."""

    evaluations: float
    not_finite: int
    scale: str


class SampleFolder:
    """samples.npz, grid.png and settings.json of samples of these settings, and in `unfinished` what is drawn so far.

    settings: of JSON; {"sampling": the config's section, "step": ...}. given: what the samples answer or are made of,
    for a picture of them beside it, answers.png. alphabet: of tokens. What else such samples are written as stands in
    sample_forms.py. Whoever writes holds the folder's lock. Raises OSError for what cannot be written: nothing that is
    not whole counts, and the next start goes on.
    """

    def __init__(
        self,
        path: pathlib.Path,
        settings: dict[str, Any],
        given: Asked | None = None,
        alphabet: Alphabet | None = None,
    ) -> None:
        self.path, self.settings, self._given = path, json.loads(json.dumps(settings)), given
        self._forms = forms(self.settings, alphabet)
        own = [name for form in self._forms for name in form.names]
        self._pictures = (GRID, *((ANSWERS,) if given is not None else ()), *own)
        self._seals, self._parts = Seals(path), Seals(path / PARTS)
        sampling = self.settings["sampling"]
        self.count, self.size = sampling["num_samples"], sampling["batch_size"]

    def is_done(self) -> bool:
        """Whether all is there, sealed and of these settings; changes nothing."""
        if (self.path / PARTS).exists() or not self._seals.whole(SAMPLES, SETTINGS, *self._pictures):
            return False
        return completed(read_json(self.path / SETTINGS), self.settings) == self.settings

    def resume(self, overwrite: bool) -> int:
        """How many samples are kept; all of them, where samples.npz is whole: `finish` then makes the rest.

        What is damaged or missing is named on stderr. Raises UsageError where the folder holds samples of other
        settings, or of other ones unfinished, and they may not be overwritten.
        """
        ours = self._own_settings() in (None, self.settings)
        require(ours or overwrite, f"{self.path} holds samples of other settings or of another checkpoint: {OTHERS}")
        if ours:
            self._name_faults()
        return self.count if self._holds_ours() else self._resume_parts(overwrite)

    def keep(self, drawn: Drawn) -> None:
        """Write a batch, whole and sealed."""
        name = _name(drawn.first // self.size)
        arrays: dict[str, Any] = {
            "samples": drawn.x,
            "evaluations": drawn.counts,
            "finite": drawn.finite,
            **drawn.condition,
        }
        with whole(self.path / PARTS / name) as unfinished:
            np.savez(unfinished, **arrays)
        self._parts.seal(name)

    def discard(self) -> None:
        """Remove the batches that are kept."""
        if (self.path / PARTS).exists():
            self._parts.forget(SETTINGS)  # killed on the way, what is left counts for nothing
            shutil.rmtree(self.path / PARTS)

    def finish(self, more: dict[str, Any] | None = None) -> Summary:
        """Put the batches together, where they are not yet, and write what stands beside samples.npz.

        more: what settings.json is to say besides.
        """
        if not self._holds_ours():
            self._seals.forget(SAMPLES, SETTINGS, *self._pictures)
            self._put_together()
        self._seals.seal(SAMPLES)
        file = self.path / SAMPLES
        with np.load(file) as arrays:
            finite = arrays["finite"] if "finite" in arrays else np.ones(self.count, bool)
            labels = arrays.get("label", arrays.get(CAPTION))
            evaluations = float(np.mean(arrays["evaluations"]))
            known = {name: float(np.mean(arrays[name])) for name in KNOWN if name in arrays}
        rows = selected(self.count, labels)
        numbers = rows.reshape(-1) % self.count
        _, scale = save_selected(self.path / GRID, rows, pictured(self.settings, _rows(file, numbers)), finite[numbers])
        scale += self._save_answers(file)
        scale += "".join(form.write(self.path, lambda numbers: _rows(file, numbers)) for form in self._forms)
        summary = Summary(evaluations, int(np.sum(~finite)), scale)
        found = {**self.settings, "evaluations": summary.evaluations, "not_finite": summary.not_finite}
        found |= known | (more or {})
        write_json(self.path / SETTINGS, found)
        self._seals.seal(SETTINGS, *self._pictures)
        self.discard()
        return summary

    def _save_answers(self, file: pathlib.Path) -> str:
        """The picture of samples beside what they answer; what is to be said of it."""
        if self._given is None:
            return ""
        rows = wanted(self._given, self.count)
        found = answers(self._given, [_rows(file, numbers) for numbers in rows])
        save_grid(self.path / ANSWERS, found.images, found.columns)
        return f"; {ANSWERS}: {found}"

    def purified(self) -> str:
        """How many examples of a finished folder the classifier knows, purified and before; "" where none was asked."""
        found = read_json(self.path / SETTINGS)
        if any(name not in found for name in KNOWN):
            return ""
        after, before = (found[name] for name in KNOWN)
        error = (after * (1 - after) / self.count) ** 0.5
        return f"frozen.classifier knows {before:.1%} of x as it is given, and {after:.1%} +- {error:.1%} purified"

    def not_finite(self) -> int:
        """How many samples of a finished folder are not finite."""
        return read_json(self.path / SETTINGS).get("not_finite", 0)

    def _own_settings(self) -> dict[str, Any] | None:
        """Those of the samples that are there: what samples.npz says or, in folders of before, settings.json."""
        file, found = self.path / SAMPLES, {}
        with suppress(*UNREADABLE), file.open("rb") as opened, np.load(opened) as arrays:
            found = json.loads(str(arrays["settings"]))
        found = found or read_json(self.path / SETTINGS)
        if not found and not (file.exists() and self._is_sound()):
            return None
        return completed(found, self.settings)

    def _holds_ours(self) -> bool:
        return self._own_settings() == self.settings and self._is_sound()

    def _is_sound(self) -> bool:
        """Whether samples.npz is whole: as sealed, or by its own checksums where nothing has sealed it."""
        fault = self._seals.fault(SAMPLES)
        return fault is None or (fault == "is not sealed" and _checksums_hold(self.path / SAMPLES))

    def _name_faults(self) -> None:
        """On stderr, of a folder that was finished once."""
        if (self.path / SAMPLES).exists() or (self.path / SETTINGS).exists():
            for name in (*self._pictures, SETTINGS) if self._is_sound() else (SAMPLES, *self._pictures, SETTINGS):
                if fault := self._seals.fault(name):
                    print(f"{self.path / name} {fault}: it is made again", file=sys.stderr)

    def _resume_parts(self, overwrite: bool) -> int:
        """How many samples are in whole batches of these settings, from the first on; makes the folder ready."""
        wanted = {**self.settings, "sampling": self.settings["sampling"] | {"num_samples": None}}
        folder = self.path / PARTS
        if self._parts.whole(SETTINGS):
            if completed(read_json(folder / SETTINGS), wanted) == wanted:
                require(
                    overwrite or not (folder / _name(-(-self.count // self.size))).exists(),
                    f"{folder} holds more samples than sampling.num_samples={self.count}, which would be lost: ask for"
                    " as many as were begun, or add --overwrite",
                )
                return self._kept()
            require(
                overwrite, f"{folder} holds unfinished samples of other settings or of another checkpoint: {OTHERS}"
            )
        self.discard()
        write_json(folder / SETTINGS, wanted)
        self._parts.seal(SETTINGS)
        return 0

    def _kept(self) -> int:
        names = [_name(i) for i in range(-(-self.count // self.size))]
        kept = self._parts.leading(names)
        if kept < len(names) and (fault := self._parts.fault(names[kept])) == "is damaged":
            print(f"{self.path / PARTS / names[kept]} {fault}: it is made again, and what follows", file=sys.stderr)
        if kept:  # the last one may be of fewer samples than are wanted now
            with np.load(self.path / PARTS / names[kept - 1]) as arrays:
                kept -= len(arrays["finite"]) < min(self.size, self.count - (kept - 1) * self.size)
        return min(self.count, kept * self.size)

    def _put_together(self) -> None:
        """samples.npz of all batches, one of them in memory at a time."""
        parts = [self.path / PARTS / _name(i) for i in range(-(-self.count // self.size))]
        with np.load(parts[0]) as arrays:
            names = list(arrays)
        with (
            whole(self.path / SAMPLES) as unfinished,
            zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name in names:
                _stream(archive, name, parts, self.count)
            with archive.open("settings.npy", "w") as member:
                np.save(member, np.array(json.dumps(self.settings, sort_keys=True)))


def _name(index: int) -> str:
    return f"{index:06d}.npz"


def _stream(archive: zipfile.ZipFile, name: str, parts: list[pathlib.Path], count: int) -> None:
    """The first `count` rows of the parts' arrays of a name as one .npy of the archive."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        for i, part in enumerate(parts):
            with np.load(part) as arrays:
                rows = arrays[name][:count]
            if i == 0:
                header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False}
                np.lib.format.write_array_header_1_0(member, {**header, "shape": (count, *rows.shape[1:])})
            member.write(np.ascontiguousarray(rows).data)
            count -= len(rows)


def _rows(file: pathlib.Path, numbers: np.ndarray) -> np.ndarray:
    """Those samples of a samples.npz, which is read once, a row at a time."""
    found: dict[int, np.ndarray] = {}
    wanted = set(numbers.tolist())
    with zipfile.ZipFile(file) as archive, archive.open("samples.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        size = int(np.prod(shape[1:])) * dtype.itemsize
        for i in range(max(wanted) + 1):
            row = member.read(size)
            if i in wanted:
                found[i] = np.frombuffer(row, dtype).reshape(shape[1:])
    return np.stack([found[i] for i in numbers.tolist()])


def _checksums_hold(file: pathlib.Path) -> bool:
    """Whether an archive is whole by the CRC-32 of what is in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except UNREADABLE:
        return False
