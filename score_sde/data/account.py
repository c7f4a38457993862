"""What was taken of the data and what was not: what every run says once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Looks(NamedTuple):
    """What the headers of some pictures say."""

    looked_at: int
    """Pictures looked at."""

    lost: float = 0.0
    """Mean share of the pixels that lie outside the crop."""

    sides: tuple[int, int] = (1, 1)
    """The most common ratio of height and width, in lowest terms."""

    frames: Mapping[str, int] = {}
    """Pictures with more frames or pages than the first, which alone is read, by format."""


class Account(NamedTuple):
    """Where held-out examples come from, in words, and what is passed over, by kind, such as {".heic": 4}."""

    held_out_from: str = ""
    passed_over: Mapping[str, int] = {}
    notes: tuple[str, ...] = ()
    """Lines to say besides."""

    looks: Looks | None = None


NO_ACCOUNT = Account()


def lost(sides: tuple[int, int], wanted: tuple[int, int]) -> float:
    """The share of a picture's pixels outside its largest part of the wanted ratio; both are height and width."""
    scale = min(sides[0] / wanted[0], sides[1] / wanted[1])
    return 1 - scale * scale * wanted[0] * wanted[1] / (sides[0] * sides[1])


def visible(name: str) -> bool:
    """Whether a file's path below the data, with slashes, is nobody's hidden one."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def endings(names: Iterable[str]) -> dict[str, int]:
    """How many visible files have which ending."""
    found = (name.rpartition("/")[2].rpartition(".") for name in names if visible(name))
    return dict(Counter(f".{end.lower()}" if dot else "without an ending" for _, dot, end in found))
