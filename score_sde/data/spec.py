"""What is known of a run's data once it has begun: shape, kind, statistics, conditions. It stands in config.json.

With it samples are drawn and checkpoints imported where the data are not.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from score_sde.data.captions import TextSpec
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
class Spec:
    """One example's shape, the data's kind, mean and std per channel of real data, the labels' classes, a text's words.

    alphabet: of tokens. content: what the data are known by, `identity.digest`, in a run that has begun with them.
    """

    shape: tuple[int, ...]
    kind: str = "bytes"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: Labels | None = None
    content: dict[str, Any] | None = dataclasses.field(default=None, compare=False)
    text: TextSpec | None = None
    alphabet: Alphabet | None = None

    def texts(self, x: np.ndarray) -> list[str] | None:
        """Examples [N, ...] as texts, None where they are none."""
        return self.alphabet.texts(x) if self.alphabet else None

    def to_json(self) -> dict[str, Any]:
        """What JSON keeps exactly."""
        left_out = [name for name in ("content", "text", "alphabet") if not getattr(self, name)]
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Spec":
        """The inverse of `to_json`."""
        labels = value["labels"]
        found = None if labels is None else Labels(tuple(labels["frequencies"]), tuple(labels["names"]))
        numbers: dict[str, Any] = {name: tuple(value[name]) for name in ("shape", "mean", "std")}
        text = TextSpec.from_json(value["text"]) if "text" in value else None
        alphabet = Alphabet.from_json(value["alphabet"]) if "alphabet" in value else None
        parts: dict[str, Any] = {"labels": found, "content": value.get("content"), "text": text, "alphabet": alphabet}
        return cls(kind=value["kind"], **parts, **numbers)


def channels(shape: tuple[int, ...]) -> int:
    """The number of channels of examples: the last axis where there are three axes or more, else one."""
    return shape[-1] if len(shape) >= 3 else 1


def kind_of(asked: str, dtype: np.dtype) -> str:
    """The kind of data of a dtype; UsageError where it is not what is asked for, or there is none."""
    remedy = "save bytes as uint8, real numbers as float32, tokens as int32"
    require(dtype.name in KINDS, f"the data have the dtype {dtype.name}: {remedy}")
    kind = KINDS[dtype.name] if asked == "auto" else asked
    require(dtype.name in ALLOWED[kind], f"data.kind={kind!r} does not go with data of dtype {dtype.name}: {remedy}")
    return kind


def statistics(dataset: Dataset, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[tuple, tuple]:
    """Mean and standard deviation per channel of the training split, in float64, unless they are given.

    Raises UsageError where a value of either split is not finite, and where a channel is constant.
    """
    count = channels(dataset.train.shape[1:])
    shift = np.nan_to_num(gather(dataset.train, np.arange(1)).reshape(-1, count)[0].astype(np.float64))
    total, first, second, bad, numbers = 0, np.zeros(count), np.zeros(count), 0, 0
    for x in _chunks(dataset.train):
        x = x.reshape(-1, count).astype(np.float64)
        bad, numbers, total = bad + int((~np.isfinite(x)).sum()), numbers + x.size, total + len(x)
        moved = x - shift  # against cancellation
        first, second = first + moved.sum(0), second + (moved**2).sum(0)
    for x in _chunks(dataset.held_out):
        bad, numbers = bad + int((~np.isfinite(x)).sum()), numbers + x.size
    require(
        bad == 0, f"{bad} of the data's {numbers} numbers are NaN or infinite: leave such examples out, or mend them"
    )
    found_mean = first / total + shift
    found_std = np.sqrt(np.maximum(second / total - (first / total) ** 2, 0))
    constant = [str(c) for c in range(count) if not std and not found_std[c] > 0]
    require(
        not constant,
        f"channel {', '.join(constant)} of the data is constant and cannot be standardised: leave it out, or give"
        " data.std",
    )
    return mean or tuple(found_mean.tolist()), std or tuple(found_std.tolist())


def _chunks(source: Source) -> Iterator[np.ndarray]:
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
