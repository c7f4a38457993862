"""Files of atoms: .xyz frames, one behind the other, and folders of such files.

A frame is a line with the number of its points, a line of comment, and for every point a line of its element and
three coordinates; what stands behind these is passed over.
"""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from score_sde.data.account import Account, endings
from score_sde.data.folder import files_below
from score_sde.data.sources import Dataset
from score_sde.data.splits import split
from score_sde.errors import UsageError, require

ENDING = ".xyz"
DIMENSION = 3
Frame = tuple[list[str], list[list[float]]]
"""Elements and coordinates of every point."""


def xyz(path: str) -> Dataset:
    """The frames of a .xyz file, or of all below a folder, as point sets float32 [frames, N, 3 + F].

    N: the most points of a frame; the rows of what a frame lacks are NaN. F: one feature for every element, 1 for its
    points and else 0, in the order in which elements occur; none where there is one element alone. Files or folders
    named as parts of a split (splits.py) are to train on and held out. Raises UsageError for a path without frames, for
    lines that are no frame, and for held-out elements that are not among those to train on.
    """
    place = pathlib.Path(path).expanduser()
    require(place.exists(), f"data.path={path} does not exist: name a {ENDING} file, or a folder of them")
    train, held_out, account = _files(path, place)
    own, other = ([frame for file in files for frame in frames(file)] for files in (train, held_out))
    require(own, f"data.path={path} holds no frame to train on: name a {ENDING} file that has some")
    elements = tuple(dict.fromkeys(name for names, _ in own for name in names))
    unknown = sorted({name for names, _ in other for name in names} - set(elements))
    require(
        not unknown,
        f"data.path={path} has the element {', '.join(unknown)} in held-out frames alone: train on frames that have it"
        " too, or leave those out",
    )
    most = max(len(names) for names, _ in (*own, *other))
    kept, aside = (_array(part, elements, most) for part in (own, other))
    return Dataset(kept, aside, account=account, elements=elements)


def _files(path: str, place: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path], Account]:
    """Files to train on and held-out ones."""
    if not place.is_dir():
        return [place], [], Account()
    names = files_below(place)
    found = [name for name in names if name.lower().endswith(ENDING)]
    require(found, f"data.path={path} holds no {ENDING} file: name a folder of them")
    part_of = lambda name: name.split("/")[0].removesuffix(ENDING)
    parts = split({part_of(name) for name in found}, f"data.path={path}")
    passed = endings(name for name in names if name not in found)
    of = lambda part: [place / name for name in found if part_of(name) == part]
    if parts is None:
        return [place / name for name in found], [], Account("", passed)
    return of(parts.train), of(parts.held_out), Account(parts.held_out, passed)


def frames(file: pathlib.Path) -> Iterator[Frame]:
    """The frames of a file; UsageError, with the number of the line, for what is none."""
    try:
        lines = file.read_text().splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text: name a {ENDING} file") from None
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        count, where = lines[at].strip(), f"{file}, line {at + 1}"
        require(
            count.isdecimal() and int(count) > 0,
            f"{where}: {lines[at]!r} is not the number of a frame's points, with which it begins: mend the file",
        )
        rows = lines[at + 2 : at + 2 + int(count)]
        require(
            len(rows) == int(count),
            f"{where}: the frame has {int(count)} points and the file ends after {len(rows)}: it is cut off",
        )
        points = [_point(row, f"{file}, line {at + 3 + i}") for i, row in enumerate(rows)]
        yield [name for name, _ in points], [position for _, position in points]
        at += 2 + int(count)


def _point(row: str, where: str) -> tuple[str, list[float]]:
    words = row.split()
    require(
        len(words) >= 1 + DIMENSION,
        f"{where}: {row!r} is no point: give its element and {DIMENSION} coordinates, or mend the number above",
    )
    try:
        # Fortran writes 1.0D-3, Mathematica 1.0*^-3.
        position = [float(w.replace("*^", "e").lower().replace("d", "e")) for w in words[1 : 1 + DIMENSION]]
    except ValueError:
        raise UsageError(f"{where}: {row!r} has a coordinate that is no number: mend it") from None
    require(np.isfinite(position).all(), f"{where}: {row!r} has a coordinate that is not finite: mend it")
    return words[0], position


def _array(found: Sequence[Frame], elements: tuple[str, ...], most: int) -> np.ndarray:
    """Frames as float32 [frames, most, 3 + F]."""
    features = len(elements) if len(elements) > 1 else 0
    x = np.full((len(found), most, DIMENSION + features), np.nan, np.float32)
    number = {name: i for i, name in enumerate(elements)}
    for row, (names, positions) in zip(x, found, strict=True):
        row[: len(names), :DIMENSION] = positions
        if features:
            row[: len(names), DIMENSION:] = np.eye(features, dtype=np.float32)[[number[name] for name in names]]
    return x


def text(x: np.ndarray, elements: tuple[str, ...]) -> str:
    """Point sets [n, N, 3 + F] as frames: a point's element is that of its largest feature."""
    lines = []
    for number, points in enumerate(x):
        there = points[~np.isnan(points).all(-1)]
        chosen = there[:, DIMENSION:].argmax(1) if len(elements) > 1 else np.zeros(len(there), int)
        lines += [str(len(there)), f"sample {number}"]
        lines += [
            f"{elements[i]} {' '.join(f'{v:.6f}' for v in point[:DIMENSION])}"
            for i, point in zip(chosen, there, strict=True)
        ]
    return "\n".join(lines) + "\n"
