"""What is known of a run's data once it has begun: shape, kind, statistics, conditions. It stands in config.json.

With it samples are drawn and checkpoints imported where the data are not.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from score_sde.config.spaces import channels, space_rank
from score_sde.data.beside import Beside
from score_sde.data.captions import TextSpec
from score_sde.data.points import PointSpec
from score_sde.data.sources import Dataset, Source, gather
from score_sde.data.text import Alphabet
from score_sde.errors import require
from score_sde.progress import Progress

CHUNK = 2**26
"""Bytes read at once when statistics are taken."""

KINDS = {"uint8": "bytes", "uint16": "bytes", "bool": "bytes", "float32": "real", "int32": "tokens"}
"""The kind that a dtype stands for, unless another is asked for."""
ALLOWED = {
    "bytes": ("uint8", "uint16", "bool", "float32"),
    "real": ("float32", "uint8", "int32"),
    "tokens": ("int32", "uint8"),
    "points": ("float32",),
}
"""The dtypes that data of a kind may have."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Classes: how many, with which share of the training examples each, and their names where they have any."""

    frequencies: tuple[float, ...]
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """The number of classes."""
        return len(self.frequencies)


@dataclasses.dataclass(frozen=True)
class Missing:
    """That examples may miss elements, which are NaN.

    common: which elements are there, where it is the same in all examples: the bits as hexadecimal digits; else "".
    """

    common: str = ""

    def present(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """The common elements that are there, bool of the shape of an example; None where examples differ."""
        if not self.common:
            return None
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(self.common), np.uint8))
        return bits[: math.prod(shape)].astype(bool).reshape(shape)


OPTIONAL = ("content", "text", "missing", "beside", "frames", "alphabet", "points", "rank")
"""What records leave out where it is none."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """One example's shape, the data's kind, mean and std per channel of real data, and what conditions examples.

    labels: the classes. text: a caption's words. missing: None where every example is whole. beside: fields that the
    network is shown. alphabet: tokens. content: what the data are known by, `identity.digest`, in a run that has begun
    with them.
    """

    shape: tuple[int, ...]
    kind: str = "bytes"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: Labels | None = None
    content: dict[str, Any] | None = dataclasses.field(default=None, compare=False)
    text: TextSpec | None = None
    missing: Missing | None = None
    beside: Beside | None = None
    frames: tuple[int, ...] = ()
    """Of one example's condition["frames"], (T', M); () for none."""
    alphabet: Alphabet | None = None
    points: PointSpec | None = None
    rank: int = 0
    """data.rank, 0 where the shape says it."""

    def comparable(self, x: np.ndarray) -> np.ndarray:
        """Those of examples [N, ...] in which no more is missing than in samples."""
        if self.missing is None or self.missing.common or self.points:
            return x
        return x[~np.isnan(x).any(tuple(range(1, x.ndim)))]

    def texts(self, x: np.ndarray) -> list[str] | None:
        """Examples [N, ...] as texts, None where they are none."""
        return self.alphabet.texts(x) if self.alphabet else None

    @property
    def told(self) -> dict[str, Any]:
        """What samples' settings say of the data, of what is no picture: how their numbers are to be read."""
        points = self.points
        if points is not None:
            return {"points": {"dimension": points.dimension, "elements": points.elements}}
        rank = space_rank(self.shape, self.rank)
        return {"rank": rank} if rank in (1, 3) and self.kind == "real" else {}

    def to_json(self) -> dict[str, Any]:
        """What JSON keeps exactly."""
        left_out = [name for name in OPTIONAL if not getattr(self, name)]
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Spec":
        """The inverse of `to_json`."""
        labels = value["labels"]
        found = None if labels is None else Labels(tuple(labels["frequencies"]), tuple(labels["names"]))
        numbers: dict[str, Any] = {name: tuple(value[name]) for name in ("shape", "mean", "std")}
        numbers |= {"frames": tuple(value.get("frames", ())), "rank": value.get("rank", 0)}
        read = {"text": TextSpec.from_json, "missing": lambda v: Missing(**v), "beside": Beside.from_json}
        read |= {"alphabet": Alphabet.from_json, "points": PointSpec.from_json}
        parts: dict[str, Any] = {name: make(value[name]) for name, make in read.items() if name in value}
        return cls(kind=value["kind"], labels=found, content=value.get("content"), **parts, **numbers)


def kind_of(asked: str, dtype: np.dtype) -> str:
    """The kind of data of a dtype; UsageError where it is not what is asked for, or there is none."""
    remedy = "save bytes as uint8, real numbers as float32, tokens as int32"
    require(dtype.name in KINDS, f"the data have the dtype {dtype.name}: {remedy}")
    kind = KINDS[dtype.name] if asked == "auto" else asked
    require(dtype.name in ALLOWED[kind], f"data.kind={kind!r} does not go with data of dtype {dtype.name}: {remedy}")
    return kind


class Statistics(NamedTuple):
    """Mean and standard deviation per channel, and what is missing."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    missing: Missing | None


def statistics(
    dataset: Dataset, mean: tuple[float, ...], std: tuple[float, ...], masked: bool = False, rank: int = 0
) -> Statistics:
    """Of the training split, in float64, unless mean and std are given, of what is there.

    masked: whether NaN stands for what is not there. rank: data.rank. Raises UsageError where a value of either split
    is not finite (or only NaN, if masked), where nothing of an example is there, and where a channel is constant.
    """
    count = channels(dataset.train.shape[1:], rank)
    first_one = gather(dataset.train, np.arange(1)).reshape(-1, count)
    shift = np.nan_to_num(first_one[0].astype(np.float64), posinf=0, neginf=0)
    total, first, second = np.zeros(count), np.zeros(count), np.zeros(count)
    seen = _Seen(masked)
    for x in chunks(dataset.train):
        there = seen.look(x).reshape(-1, count)
        moved = np.where(there, x.reshape(-1, count).astype(np.float64) - shift, 0)  # against cancellation
        total, first, second = total + there.sum(0), first + moved.sum(0), second + (moved**2).sum(0)
    for x in chunks(dataset.held_out):
        seen.look(x)
    seen.check()
    share = np.maximum(total, 1)
    found_mean = first / share + shift
    found_std = np.sqrt(np.maximum(second / share - (first / share) ** 2, 0))
    constant = [str(c) for c in range(count) if not std and not found_std[c] > 0]
    require(
        not constant,
        f"channel {', '.join(constant)} of the data is constant and cannot be standardised: leave it out, or give"
        " data.std",
    )
    return Statistics(mean or tuple(found_mean.tolist()), std or tuple(found_std.tolist()), seen.missing)


class _Seen:
    """What numbers there were: which of them are there, and which should not be."""

    def __init__(self, masked: bool) -> None:
        self._masked, self._bad, self._numbers, self._empty = masked, 0, 0, 0
        self._always: Any = True
        self._ever: Any = False

    def look(self, x: np.ndarray) -> np.ndarray:
        """Which of the numbers of examples [n, ...] are there, bool [n, ...]."""
        there = np.isfinite(x)
        self._bad += int((np.isinf(x) if self._masked else ~there).sum())
        self._numbers += x.size
        self._empty += int((~there.any(tuple(range(1, x.ndim)))).sum())
        if len(x):
            self._always, self._ever = self._always & there.all(0), self._ever | there.any(0)
        return there

    def check(self) -> None:
        what = "infinite" if self._masked else "NaN or infinite"
        remedy = "" if self._masked else ", or set data.missing='mask' if NaN stands for what is not there"
        require(
            self._bad == 0,
            f"{self._bad} of the data's {self._numbers} numbers are {what}: leave such examples out, or mend"
            f" them{remedy}",
        )
        require(self._empty == 0, f"{self._empty} examples have no number that is there: leave them out")

    @property
    def missing(self) -> Missing | None:
        if not self._masked:
            return None
        common = np.packbits(self._always).tobytes().hex() if np.array_equal(self._always, self._ever) else ""
        return Missing(common)


def chunks(source: Source) -> Iterator[np.ndarray]:
    """All examples, some at a time."""
    size = max(1, CHUNK // max(1, int(np.prod(source.shape[1:])) * 8))
    with Progress("statistics", len(source), "examples") as progress:
        for first in range(0, len(source), size):
            found = gather(source, np.arange(first, min(first + size, len(source))))
            yield found
            progress.update(len(found))


def labels_of(dataset: Dataset, asked: int) -> Labels:
    """The classes of the data's labels, `asked` of them where that is not 0; UsageError for labels beyond."""
    parts = [np.asarray(c["label"]) for c in (dataset.condition, dataset.held_out_condition) if "label" in c]
    most = max(int(part.max(initial=-1)) for part in parts) + 1
    count = asked or max(most, len(dataset.classes))
    require(
        most <= count,
        f"there is a label {most - 1} and classes 0 to {count - 1}: give the data it began with, or raise"
        " data.num_classes before training",
    )
    total = sum(map(len, parts))
    require(
        asked or dataset.classes or most <= total,
        f"the labels go up to {most - 1} and there are {total} examples: number classes 0, 1, ... or set"
        " data.num_classes",
    )
    counts = np.bincount(parts[0], minlength=count)
    return Labels(tuple((counts / counts.sum()).tolist()), dataset.classes)
