"""Which files of a folder of results are whole: seals.json, the size and SHA-256 of each, with a digest of its own.

A file is written, then sealed: killed in between, it counts as not there. Whoever writes holds the folder's lock.
"""

import hashlib
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from score_sde.storage.files import whole

NAME = "seals.json"


def encode(content: dict[str, Any]) -> bytes:
    """The one way of writing this content, its own digest included: any changed byte makes another content or way."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps(content | {"digest": digest}, sort_keys=True, indent=1).encode() + b"\n"


def decode(encoded: bytes) -> dict[str, Any] | None:
    """What was encoded, to the byte; None for anything else."""
    try:
        content = json.loads(encoded)
        del content["digest"]
        return content if encode(content) == encoded else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file; processors compute it: 1.8 GB/s a core with SHA extensions, where BLAKE2b has 1.2."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Seals:
    """The sealed files of one folder, by name."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.path = folder / NAME

    def seal(self, *names: str) -> None:
        """These files are written: remember what they hold. Raises OSError."""
        own = {name: [(self.folder / name).stat().st_size, digest(self.folder / name)] for name in names}
        self._write(self._read() | own)

    def forget(self, *names: str) -> None:
        """These files are about to change, or go."""
        found = self._read()
        left = {name: seal for name, seal in found.items() if name not in names}
        if left != found:
            self._write(left)

    def names(self) -> list[str]:
        """Of all the files that are sealed, be they there or not."""
        return list(self._read())

    def fault(self, name: str) -> str | None:
        """What is wrong with a file: "is missing", "is not sealed", "is damaged", or None for a whole one.

        Not sealed: it was not finished, or the seals themselves are damaged or gone. Raises OSError for what cannot be
        read.
        """
        return self._fault(name, self._read())

    def any(self) -> bool:
        """Whether the folder has seals, damaged ones included; results of earlier versions have none."""
        return self.path.exists()

    def known(self, name: str) -> bool:
        """Whether a file of that name was sealed, whatever has become of it."""
        return name in self._read()

    def is_of(self, name: str, content: bytes) -> bool:
        """Whether this is what was sealed under that name."""
        return self._read().get(name) == [len(content), hashlib.sha256(content).hexdigest()]

    def whole(self, *names: str) -> bool:
        """Whether these files are what was sealed, to the byte."""
        found = self._read()
        return all(self._fault(name, found) is None for name in names)

    def leading(self, names: Sequence[str]) -> int:
        """How many of these files, from the first one on, are whole."""
        found = self._read()
        return sum(1 for _ in itertools.takewhile(lambda name: self._fault(name, found) is None, names))

    def _fault(self, name: str, found: dict[str, list]) -> str | None:
        path = self.folder / name
        if not path.is_file():
            return "is missing"
        if name not in found:
            return "is not sealed"
        size, expected = found[name]
        return None if path.stat().st_size == size and digest(path) == expected else "is damaged"

    def _read(self) -> dict[str, list]:
        try:
            content = decode(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        return (content or {}).get("files", {})

    def _write(self, files: dict[str, list]) -> None:
        with whole(self.path) as unfinished:
            unfinished.write_bytes(encode({"files": files}))
