"""The directory of one run: whose it is, what is in it. Free of jax, so that it is refused before jax is imported."""

import importlib.metadata
import json
import pathlib
import platform
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

from score_sde.config import SCHEMA, Config, differing_fields, flatten
from score_sde.errors import UsageError, require
from score_sde.storage.files import usable, whole
from score_sde.storage.locks import locked
from score_sde.storage.seals import Seals

PACKAGES = ("score-sde", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Workdir:
    """Paths of a run. `check` looks without touching; `claim` writes config.json or notes the resumption."""

    def __init__(self, path: str | pathlib.Path) -> None:
        self.path = pathlib.Path(path).expanduser()
        self.config = self.path / "config.json"
        self.history = self.path / "config_history.jsonl"
        self.data = self.path / "data.json"
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.samples = self.path / "samples"
        self.averages = self.path / "averages"
        self.pairs = self.path / "pairs"
        self.grids = self.path / "grids"
        self.report = self.path / "report"
        self.automatic = self.report / "automatic.json"
        self.importing = self.path / "importing"
        """Stands while an import is under way: what lies beside it then was left by one that was killed."""

    def check(self, config: Config, trained: bool = False) -> None:
        """UsageError where the directory is another experiment's, cannot be written, or holds no run but should."""
        with usable(self._name):
            if trained:
                require(
                    self.config.exists() and self.checkpoints.exists(),
                    f"--workdir {self.path} holds no trained run: train first, or name the right one",
                )
            if self.config.exists():
                self._check_same(config)
            else:
                self._check_free()
            self._check_writable()

    def check_new(self) -> None:
        """UsageError where the directory holds a run, or anything in the place of one, or cannot be written.

        What an import left that was killed, or found the disk full, is nothing.
        """
        with usable(self._name):
            require(not self.config.exists(), f"--workdir {self.path} holds a run already: choose a new directory")
            if not self.importing.exists():
                self._check_free()
            self._check_writable()

    @property
    def _name(self) -> str:
        return f"--workdir {self.path}"

    def _check_same(self, config: Config) -> None:
        old = SCHEMA | flatten((self.record() or {})["config"])
        new = flatten(config)
        fields = [f"{n} ({old.get(n)} there, {new.get(n)} here)" for n in differing_fields(old, new)]
        weights = any(self.checkpoints.glob("[0-9]*"))
        start = f"start a new run with this one's weights: --workdir <another> --config.training.start_from={self.path}"
        require(
            not fields,
            f"--workdir {self.path} holds another experiment, which differs in {', '.join(fields)}:"
            " give these fields the same values, choose another --workdir, or"
            f" {start if weights else 'remove it, as it has no checkpoint'}",
        )

    def record(self) -> dict[str, Any] | None:
        """What config.json holds beside versions: config, data, frozen, start, imported; None where there is none.

        automatic: which solvers a report has found best, where one has, or the fault of the file that says so.
        Where nothing stands there of the data's content, the data of the first resumption that knew it. resumed: that
        there were resumptions. Raises UsageError where config.json is not this program's.
        """
        remedy = "put it back from a copy, or choose another --workdir"
        try:
            fault = Seals(self.path).fault(self.config.name)  # before there were seals, none was sealed
            require(fault != "is damaged", f"{self.config} is damaged: {remedy}")
            found = json.loads(self.config.read_bytes())
            require(isinstance(found["config"], dict), f"{self.config} is not a config this program wrote: {remedy}")
            return self._completed(found) | self._measured()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.config} cannot be read ({error.strerror}): {remedy}") from None
        except UsageError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(f"{self.config} is not a config this program wrote: {remedy}") from None

    def _completed(self, found: dict[str, Any]) -> dict[str, Any]:
        if "content" in found.get("data", {}) or not self.history.exists():
            return found
        later = [line["data"] for line in self._resumptions() if "content" in line.get("data", {})]
        return {**found, "resumed": True, **({"data": later[0]} if later else {})}

    def _measured(self) -> dict[str, Any]:
        seals, name = Seals(self.report), self.automatic.name
        try:
            fault = seals.fault(name)
            if fault is None:
                return {"automatic": json.loads(self.automatic.read_bytes())}
        except OSError as error:
            fault = f"cannot be read ({error.strerror})"
        if seals.any() and not seals.names():
            return {"automatic": {"fault": f"{seals.path} is damaged"}}
        return {"automatic": {"fault": f"{self.automatic} {fault}"}} if seals.known(name) else {}

    def _resumptions(self) -> Iterator[dict[str, Any]]:
        for line in self.history.read_bytes().splitlines():
            with suppress(ValueError):  # of a line that was cut
                yield dict(json.loads(line))

    def check_record(self, notes: dict[str, Any]) -> None:
        """UsageError where what a run was begun with (data, frozen parts) differs from these notes.

        A part of another run is known by what it holds, wherever that run lies now.
        """
        record = self.record() or {}
        for name, value in json.loads(json.dumps(notes)).items():
            require(
                record.get(name) is None or _without_places(record[name]) == _without_places(value),
                f"--workdir {self.path} was begun with {name} {record.get(name)}, and now there is {value}: give it the"
                " same again, or choose another --workdir",
            )

    def _check_free(self) -> None:
        places = (self.history, self.checkpoints, self.metrics, self.tensorboard, self.samples, self.averages)
        interrupted = f"--workdir {self.path} holds an import that did not end: give the same command for it again"
        require(not self.importing.exists(), f"{interrupted}, or choose an empty or new directory")
        taken = [p.name for p in places if p.exists()]
        require(
            not taken,
            f"--workdir {self.path} holds {', '.join(taken)} but no config.json: choose an empty or new directory, or"
            " remove it if an import was interrupted there",
        )

    def _check_writable(self) -> None:
        existing = self.path
        while not existing.exists():
            existing = existing.parent
        require(
            existing.is_dir(), f"--workdir {self.path} cannot be made: {existing} is a file; choose another directory"
        )
        with tempfile.TemporaryFile(dir=existing):
            pass

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from writing here until the block, or this process, ends: `locks.locked`."""
        return locked(self.path, self._name)

    def claim(self, config: Config, **notes: Any) -> None:
        """Write config.json with any notes, or where it exists append the resumption to config_history.jsonl."""
        record = {"config": config.to_dict(), "versions": versions(), **notes}
        if not self.config.exists():
            write_json(self.config, record)
            with suppress(OSError):  # whole it is, and one that is not sealed is believed
                Seals(self.path).seal(self.config.name)
            return
        lines = self.history.read_bytes().splitlines() if self.history.exists() else []
        with whole(self.history) as unfinished:
            unfinished.write_bytes(b"".join(line + b"\n" for line in (*lines, json.dumps(record).encode())))

    def changed(self, config: Config, field: str) -> str:
        """That the run's last start had another value of the field, in words that follow others; else nothing."""
        lines = self.history.read_bytes().splitlines() if self.history.exists() else []
        for text in (*reversed(lines), self.config.read_bytes()):
            try:
                old, new = flatten(json.loads(text)["config"])[field], flatten(config)[field]
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a line cut off by a kill, or of another version
            return f", with {field}={new}, which was {old}" if old != new else ""
        return ""


def _without_places(note: Any) -> Any:
    """A note without the directories that other runs were found in, and the data's content, which has its own check."""
    if not isinstance(note, dict):
        return note
    return {name: _without_places(value) for name, value in note.items() if name not in ("run", "content")}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a file, {} where there is none, or no such thing in it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with whole(path) as unfinished:
        unfinished.write_bytes(as_json(value))


def as_json(value: Any) -> bytes:
    """What write_json writes."""
    return json.dumps(value, indent=2).encode() + b"\n"
