"""What data are known by wherever they lie: how many, of which shape and dtype, and their values."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from score_sde.data.cache import checksum
from score_sde.data.pictures import Pictures
from score_sde.data.ranges import EXAMPLES, Scaled, written
from score_sde.data.sources import Dataset, Source, Subset, chosen, gather
from score_sde.data.text import Windows
from score_sde.data.waves import Framed

LARGEST = 10**9
"""Bytes of an array up to which all of its values are read: 0.6 s, by CRC-32."""

SPLITS = {"train": "training", "held_out": "held-out"}
WORDS = {"of": "number of compared examples", "sha256": "values", "crc32": "checksum"}


def digest(dataset: Dataset) -> dict[str, Any]:
    """JSON-able facts that are the same for the same data, wherever and in whatever files they lie.

    Of each split, and of each condition by name: `count`, `shape`, `dtype`; `sha256` of the examples, or of a fixed
    choice of so many as `of` tells; `crc32` of all values, where the decoded cache has it or they are below LARGEST;
    for pictures that are decoded on the way `files`, the SHA-256 of names and sizes. `range`: what stored values were
    taken to lie in.
    """
    ranges = None if dataset.values is None else written(dataset.values.ranges)
    splits = {"train": dataset.train, "held_out": dataset.held_out}
    conditions = {"condition": dataset.condition, "held_out_condition": dataset.held_out_condition}
    return {
        "range": ranges,
        **{name: facts(source) for name, source in splits.items()},
        **{name: {c: facts(source) for c, source in by_name.items()} for name, by_name in conditions.items()},
    }


def facts(source: Source) -> dict[str, Any]:
    """What one source is known by, as in `digest`."""
    source, count = _stored(source), len(source)
    found: dict[str, Any] = {"count": count, "shape": [int(n) for n in source.shape[1:]]}
    if not count:
        return found
    numbers = chosen(count, EXAMPLES)
    examples = np.ascontiguousarray(gather(source, numbers))
    found |= {"dtype": examples.dtype.name, "of": len(numbers), "sha256": hashlib.sha256(examples.data).hexdigest()}
    values, listing = _crc32(source), _listing(source)
    return found | ({} if values is None else {"crc32": values}) | ({} if listing is None else {"files": listing})


def _stored(source: Source) -> Source:
    """Of frames the waveforms, which they are computed of, to rounding."""
    if isinstance(source, Subset):
        return dataclasses.replace(source, source=_stored(source.source))
    return source.windows if isinstance(source, Framed) else source


def _crc32(source: Source) -> int | None:
    """Of all values, and of which of them they are; None where that is not known and would take long."""
    if isinstance(source, Subset | Scaled):
        inner, more = _crc32(source.source), source.chosen if isinstance(source, Subset) else source.low_high
        return None if inner is None else zlib.crc32(np.ascontiguousarray(more).data, inner)
    if isinstance(source, Windows):
        return _crc32(source.sequence)
    if not isinstance(source, np.ndarray):
        return None
    known = checksum(source)
    if known is None and source.nbytes <= LARGEST:
        known = zlib.crc32(np.ascontiguousarray(source).data)
    return known


def _listing(source: Source) -> str | None:
    if isinstance(source, Subset):
        return _listing(source.source)
    if not isinstance(source, Pictures):
        return None
    return hashlib.sha256(json.dumps(source.files.listing()).encode()).hexdigest()


def difference(before: Mapping[str, Any], now: Mapping[str, Any], conditions: Sequence[str] = ()) -> str | None:
    """In words, how data that have one digest differ from those of an earlier one; None if they do not.

    conditions: the names of those that matter.
    """
    for what, old, new in _pairs(before, now, conditions):
        if old["count"] != new["count"]:
            return f"there are {new['count']} {what} where there were {old['count']}"
        for name in ("shape", "dtype"):
            if old.get(name) != new.get(name):
                return f"the {what} have {name} {_words(new.get(name))} where they had {_words(old.get(name))}"
        if not _same_values(old, new):
            return f"the {what} have other values"
    return None


def flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a digest by what they are about, in words, but for those of files."""
    found = {"range": facts["range"]}
    for split, by_name in (("train", "condition"), ("held_out", "held_out_condition")):
        parts = {f"{SPLITS[split]} data": facts[split]}
        parts |= {f"{SPLITS[split]} {name}s": part for name, part in facts[by_name].items()}
        found |= {f"{WORDS.get(n, n)} of {what}": v for what, part in parts.items() for n, v in part.items()}
    return {name: value for name, value in found.items() if not name.startswith("files")}


def _pairs(before: Mapping[str, Any], now: Mapping[str, Any], conditions: Sequence[str]) -> Iterator[tuple]:
    for split, words in SPLITS.items():
        yield f"{words} examples", before[split], now[split]
    for split, words in (("condition", "training"), ("held_out_condition", "held-out")):
        for name in conditions:
            if name in before[split] and name in now[split]:
                yield f"{words} examples' {name}s", before[split][name], now[split][name]


def _words(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, list) else str(value)


def _same_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """By all values where both know them; else by the fixed choice."""
    name = "crc32" if "crc32" in old and "crc32" in new else "sha256"
    return old.get(name) == new.get(name)


def other_files(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether files have other names or sizes, which one that was mended has too, although `difference` finds none."""
    both = [(before[split], now[split]) for split in SPLITS]
    return any("files" in old and "files" in new and old["files"] != new["files"] for old, new in both)
