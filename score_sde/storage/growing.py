"""A file that grows, and how much of it is whole: its size and SHA-256 as they were after each writing."""

import hashlib
import os
import pathlib

from score_sde.storage.files import named, whole
from score_sde.storage.seals import decode, encode

MOST = 64
"""Digests that are kept: beyond, every other of the older ones goes, and what follows a damage is up to 1/32 more."""


class Growing:
    """The file, and <name>.seals.json beside it. Whoever writes holds the folder's lock; readers are free."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self._seals = path, path.with_name(f"{path.name}.seals.json")
        self._digest, self._marks = hashlib.sha256(), []

    def read(self) -> tuple[bytes, bytes]:
        """What is whole, and what follows it: written without being sealed, or damaged. Raises OSError."""
        marks = self._sealed()  # first: what is appended meanwhile follows
        content = self.path.read_bytes() if self.path.exists() else b""
        size, _, _ = _longest(content, marks)
        return content[:size], content[size:]

    def fault(self) -> str | None:
        """What is wrong: "is missing", "has no seals", "has damaged seals", "is damaged", or None. Raises OSError."""
        marks = self._sealed()
        if not marks:
            known = "has damaged seals" if self._seals.exists() else "has no seals"
            return known if self.path.exists() or self._seals.exists() else None
        if not self.path.exists():
            return "is missing"
        return None if _longest(self.path.read_bytes(), marks)[0] == marks[-1][0] else "is damaged"

    def start(self, content: bytes) -> None:
        """A new file of that content, in place of any other."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._digest, self._marks = hashlib.sha256(), []
        with whole(self.path) as unfinished:
            unfinished.write_bytes(content)
        self._seal(content)

    def mend(self) -> None:
        """Cut off what is not whole, to append behind what is."""
        content = self.read()[0]
        _, self._marks, self._digest = _longest(content, self._sealed())
        with named(self.path):
            os.truncate(self.path, len(content))

    def append(self, content: bytes) -> None:
        """Write at the end and see it onto the disk, then seal it; after `start` or `mend`."""
        with named(self.path), self.path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._seal(content)

    def _seal(self, content: bytes) -> None:
        self._digest.update(content)
        size = (self._marks[-1][0] if self._marks else 0) + len(content)
        self._marks = [*self._marks, [size, self._digest.hexdigest()]]
        if len(self._marks) > MOST:
            self._marks = [*self._marks[:-1:2], self._marks[-1]]
        with whole(self._seals) as unfinished:
            unfinished.write_bytes(encode({"whole": self._marks}))

    def _sealed(self) -> list[list]:
        try:
            return (decode(self._seals.read_bytes()) or {}).get("whole", [])
        except FileNotFoundError:
            return []


def _longest(content: bytes, marks: list[list]) -> tuple[int, list[list], "hashlib._Hash"]:
    """Of the longest beginning that was sealed: its size, the marks up to it, its digest to go on with."""
    found, digest, done = 0, hashlib.sha256(), 0
    kept, at = [], digest.copy()
    for size, expected in marks:
        digest.update(content[done:size])
        done = size
        if len(content) < size or digest.hexdigest() != expected:
            break
        found, kept, at = size, [*kept, [size, expected]], digest.copy()
    return found, kept, at
