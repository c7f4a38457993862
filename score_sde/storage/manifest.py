"""What makes a checkpoint finished and sound: manifest.json, with every file's SHA-256, written last, removed first."""

import os
import pathlib
import shutil

from score_sde.errors import UsageError
from score_sde.storage.files import sync, whole
from score_sde.storage.seals import decode, digest, encode

NAME = "manifest.json"
FORMAT = 1
TEMPORARY = "*.orbax-checkpoint-tmp*"
"""Directories that Orbax had not yet given their names."""


class Unsound(Exception):
    """A checkpoint is not what was written: the file, and what is wrong with it."""


def write(directory: pathlib.Path, step: int) -> None:
    """Finish a checkpoint: everything in it onto the disk, then its manifest, whole; raises OSError."""
    files = {name: [path.stat().st_size, _forced(path)] for name, path in _files(directory).items()}
    for folder in {directory, *(path.parent for path in _files(directory).values())}:
        sync(folder)
    with whole(directory / NAME) as unfinished:
        unfinished.write_bytes(encode({"format": FORMAT, "step": step, "files": files}))
    sync(directory)
    sync(directory.parent)


def verify(directory: pathlib.Path, step: int) -> None:
    """Raise Unsound unless the directory holds, to the byte, the files that its manifest was written for."""
    try:
        expected, found = _read(directory, step), _files(directory)
        for name in sorted(expected.keys() | found.keys()):
            _require(name in found, f"{name} is missing")
            _require(name in expected, f"{name} does not belong there")
            size, length = found[name].stat().st_size, expected[name][0]
            _require(size == length, f"{name} has {size} bytes, not {length}")
        for name, (_, written) in expected.items():
            _require(digest(found[name]) == written, f"{name} is not what was written: its SHA-256 differs")
    except OSError as error:
        raise Unsound(f"{error.filename or NAME} cannot be read: {error.strerror or error}") from None


def steps(directory: pathlib.Path) -> dict[int, bool]:
    """Every checkpoint in a directory of them, oldest first, and whether it is finished; UsageError if unreadable."""
    try:
        paths = {path.name: path for path in directory.iterdir() if path.is_dir()}
        numbers = sorted(int(name) for name in paths if name.isdecimal() and str(int(name)) == name)
        return {step: is_finished(paths[str(step)]) for step in numbers}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{directory} cannot be read ({error.strerror}): choose another --workdir") from None


def is_finished(directory: pathlib.Path) -> bool:
    """Whether the checkpoint has its manifest."""
    return (directory / NAME).exists()


def remove(directory: pathlib.Path) -> None:
    """Delete a checkpoint, if there is one; killed on the way, it leaves an unfinished one."""
    if is_finished(directory):
        (directory / NAME).unlink()
        sync(directory)
    if directory.exists():
        shutil.rmtree(directory)


def remove_temporary(directory: pathlib.Path, step: int | None = None) -> None:
    """Delete what killed or failed saves left, of one step or of all."""
    for path in directory.glob(TEMPORARY if step is None else f"{step}{TEMPORARY[1:]}"):
        shutil.rmtree(path)


def _read(directory: pathlib.Path, step: int) -> dict[str, list]:
    """Sizes and digests by file; Unsound unless the manifest is whole and of this step."""
    content = decode((directory / NAME).read_bytes())
    _require(content is not None, f"{NAME} is damaged")
    assert content is not None
    try:
        kind, number, files = content["format"], content["step"], content["files"]
    except KeyError:
        raise Unsound(f"{NAME} is damaged") from None
    _require(kind == FORMAT, f"{NAME} is of format {kind}, and this program knows {FORMAT}")
    _require(number == step, f"{NAME} belongs to step {number}")
    return files


def _files(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every file but the manifest, by its path within the directory."""
    paths = [pathlib.Path(folder, name) for folder, _, names in os.walk(directory, onerror=_raise) for name in names]
    return {name: path for path in sorted(paths) if (name := path.relative_to(directory).as_posix()) != NAME}


def _raise(error: OSError) -> None:
    raise error


def _forced(path: pathlib.Path) -> str:
    """The file onto the disk, and its SHA-256."""
    sync(path)
    return digest(path)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Unsound(message)
