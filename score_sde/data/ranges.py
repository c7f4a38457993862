"""What the stored values of pictures lie in, how that is found, and what becomes bytes of them."""

import dataclasses
import math
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from score_sde.errors import UsageError, require

Ranges = Mapping[str, tuple[float, float]]
"""By depth, the dtype of what is stored: the two values that become 0 and 255."""

PLAIN: dict[str, tuple[float, float]] = {
    "uint8": (0.0, 255.0),
    "uint16": (0.0, 65535.0),
    "int32": (0.0, 65535.0),
    "float32": (0.0, 1.0),
}
"""Every depth, and what it was taken for before ranges were found."""

BOUNDS = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""What a range may end at that is found."""

SETTLED = {"uint8": 64, "uint16": 16384}
"""A value from which on no other one of its depth can change what is found or said: they have no sign, and an end."""

EXAMPLES = 1000
"""Pictures whose values are looked at where not all are decoded when a run begins."""

CHUNK = 2**26
"""Bytes of an array looked at between two looks at whether that is enough."""


def written(ranges: Ranges) -> str:
    """The ranges as `data.range` takes them."""
    return ";".join(f"{depth}={low!r},{high!r}" for depth, (low, high) in ranges.items())


def scaled(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stored values -> uint8: low becomes 0 and high 255, rounded, what lies beyond clipped."""
    if (low, high) == PLAIN["uint8"] and x.dtype == np.uint8:
        return x
    return np.round((x.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


class Extremes:
    """The least and the largest stored value by depth, of what was looked at; several threads may."""

    def __init__(self, found: Mapping[str, Iterable[float]] | None = None) -> None:
        self.found = {depth: (float(low), float(high)) for depth, (low, high) in (found or {}).items()}
        self._lock = threading.Lock()

    def wants(self, depth: str) -> bool:
        """Whether further values of this depth can change anything."""
        found = self.found.get(depth)
        return found is None or depth not in SETTLED or found[1] < SETTLED[depth]

    def see(self, depth: str, low: float, high: float) -> None:
        """Take note of these values and what lies between them."""
        with self._lock:
            before = self.found.get(depth, (math.inf, -math.inf))
            self.found[depth] = (min(before[0], float(low)), max(before[1], float(high)))

    def add(self, other: "Extremes") -> None:
        """Take note of what another has seen."""
        for depth, extremes in other.found.items():
            self.see(depth, *extremes)

    def ranges(self, asked: Ranges) -> dict[str, tuple[float, float]]:
        """The ranges that are asked for, and of other depths the least that holds their values; UsageError for none.

        Bytes above 1 are left as they are.
        """
        others = {depth: extremes for depth, extremes in self.found.items() if depth not in asked}
        return {depth: (0.0, self._end(depth, *extremes)) for depth, extremes in others.items()} | dict(asked)

    def _end(self, depth: str, low: float, high: float) -> float:
        require(
            low >= 0 and high <= BOUNDS[-1],
            f"the values of the data's {depth} pictures are {low:.9g} to {high:.9g}, and data.range=auto is for 0 to"
            f" 65535: say what they lie in, such as {_suggested(low, high)}",
        )
        if high == 0 or (depth == "uint8" and high > 1):
            return PLAIN[depth][1]
        return next(bound for bound in BOUNDS if high <= bound)


def _suggested(low: float, high: float) -> str:
    """`data.range` for values from low to high."""
    low = min(0.0, low)
    return f"data.range={low:.9g},{high if high > low else low + 1:.9g}"


@dataclasses.dataclass(frozen=True)
class Values:
    """What a set's stored values were taken to lie in, and what was seen of them."""

    ranges: Ranges
    """Of the depths that occur, or that were asked for."""
    extremes: Mapping[str, tuple[float, float]]
    sampled: bool = False
    """Whether only some pictures were looked at."""

    def said(self, where: str) -> list[str]:
        """Sentences: how what are no plain bytes become bytes, and warnings of what fills little of its range."""
        lines, ranges = [], PLAIN | dict(self.ranges)
        for depth, (least, most) in self.extremes.items():
            low, high = ranges[depth]
            of = f" (by {EXAMPLES:,} fixed ones; what lies beyond is clipped)" if self.sampled else ""
            of = " (what lies beyond is clipped)" if least < low or high < most else of
            if (depth, low, high) != ("uint8", *PLAIN["uint8"]):
                lines.append(f"{where}: its {depth} values {low:.9g} to {high:.9g} become 0 to 255{of}")
            if least < most < low + (high - low) / 4:
                lines.append(
                    f"{where}: the largest of its {depth} values is {most:.9g}, which fills less than a quarter of"
                    f" {low:.9g} to {high:.9g}, so pictures are dark: if that is not meant, set"
                    f" {_suggested(least, most)}"
                )
        return lines


@dataclasses.dataclass(frozen=True, eq=False)
class Scaled:
    """Stored numbers [N, ...] as a source of bytes."""

    source: Any
    low: float
    high: float

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...] of all examples."""
        return self.source.shape

    @property
    def low_high(self) -> np.ndarray:
        """The range, float64 [2]."""
        return np.array([self.low, self.high])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return scaled(self.source[indices], self.low, self.high)


def depth_of(dtype: np.dtype) -> str:
    """The depth that numbers of a dtype count as."""
    return "uint8" if dtype.kind == "b" else dtype.name


def as_bytes(arrays: Iterable[np.ndarray], asked: Ranges) -> tuple[list[Any], Values]:
    """Arrays of one dtype, of any depth, as sources of bytes: by the range asked for, or else the least for them all.

    Raises UsageError for values that are not finite, and where no range is found.
    """
    arrays, seen = list(arrays), Extremes()
    depth = depth_of(arrays[0].dtype)
    for array in arrays:
        _look(array, depth, seen)
    low, high = seen.ranges(asked)[depth]
    same = arrays[0].dtype == np.uint8 and (low, high) == PLAIN["uint8"]
    return [x if same else Scaled(x, low, high) for x in arrays], Values({depth: (low, high)}, seen.found)


def _look(array: np.ndarray, depth: str, seen: Extremes) -> None:
    """See an array's values, some at a time, until they are enough."""
    size = max(1, CHUNK // max(1, array[:1].nbytes))
    for first in range(0, len(array), size):
        if not seen.wants(depth):
            return
        part = array[first : first + size]
        low, high = float(part.min()), float(part.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UsageError("the data have values that are NaN or infinite, which no picture has: mend them")
        seen.see(depth, low, high)
