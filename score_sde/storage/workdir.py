"""The directory of one run: whose it is, what is in it. Free of jax, so that it is refused before jax is imported."""

import datetime
import errno
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from score_sde.config import SCHEMA, Config, differing_fields, flatten
from score_sde.errors import UsageError, require
from score_sde.storage.files import held, whole

PACKAGES = ("score-sde", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Workdir:
    """Paths of a run. `check` looks without touching; `claim` writes config.json or notes the resumption."""

    def __init__(self, path: str | pathlib.Path) -> None:
        self.path = pathlib.Path(path).expanduser()
        self.config = self.path / "config.json"
        self.history = self.path / "config_history.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.samples = self.path / "samples"
        self.averages = self.path / "averages"

    def check(self, config: Config, trained: bool = False) -> None:
        """UsageError where the directory is another experiment's, cannot be written, or holds no run but should."""
        with self._usable():
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
        """UsageError where the directory holds a run, or anything in the place of one, or cannot be written."""
        with self._usable():
            require(not self.config.exists(), f"--workdir {self.path} holds a run already: choose a new directory")
            self._check_free()
            self._check_writable()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"--workdir {self.path} cannot be used ({reason}): choose another directory") from None

    def _check_same(self, config: Config) -> None:
        try:
            old = SCHEMA | flatten(json.loads(self.config.read_text())["config"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{self.config} is not a config this program wrote: choose another --workdir") from None
        new = flatten(config)
        fields = [f"{n} ({old.get(n)} there, {new.get(n)} here)" for n in differing_fields(old, new)]
        require(
            not fields,
            f"--workdir {self.path} holds another experiment, which differs in {', '.join(fields)}:"
            " give these fields the same values, choose another --workdir, or start a new run with this one's weights:"
            f" --workdir <another> --config.training.start_from={self.path}",
        )

    def record(self) -> dict[str, Any] | None:
        """What config.json holds beside versions: config, data, frozen, start, imported; None where there is none.

        Raises UsageError where it is not this program's.
        """
        try:
            found = json.loads(self.config.read_text())
            return found if isinstance(found["config"], dict) else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.config} cannot be read ({error.strerror}): choose another --workdir") from None
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{self.config} is not a config this program wrote: choose another --workdir") from None

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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing here until the block, or this process, ends.

        Raises UsageError where another holds the directory. Where the file system has no locks, a line says so.
        """
        with ExitStack() as stack:
            with self._usable():
                self.path.mkdir(parents=True, exist_ok=True)
                try:
                    descriptor = stack.enter_context(held(self.path / "lock"))
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, json.dumps(_this_process()).encode() + b"\n", 0)
                except BlockingIOError:
                    raise UsageError(self._held_by()) from None
                except OSError as error:
                    if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                        raise
                    print(f"{self.path} cannot be locked: start no other training there", file=sys.stderr)
            yield

    def _held_by(self) -> str:
        try:
            holder = json.loads((self.path / "lock").read_text())
            who = f"process {holder['pid']} on {holder['host']}, since {holder['started']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "another process"
        return f"--workdir {self.path} is being written by {who}: wait for it, stop it, or choose another directory"

    def claim(self, config: Config, **notes: Any) -> None:
        """Write config.json with any notes, or where it exists append the resumption to config_history.jsonl."""
        record = {"config": config.to_dict(), "versions": versions(), **notes}
        if self.config.exists():
            with self.history.open("a") as file:
                file.write(json.dumps(record) + "\n")
            return
        write_json(self.config, record)

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
    """A note without the directories that other runs were found in."""
    if not isinstance(note, dict):
        return note
    return {name: _without_places(value) for name, value in note.items() if name != "run"}


def _this_process() -> dict[str, Any]:
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"host": platform.node(), "pid": os.getpid(), "started": started}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with whole(path) as unfinished:
        unfinished.write_text(json.dumps(value, indent=2) + "\n")
