"""The account of a run's data in words and as JSON: how many of each, what was passed over, what a crop loses."""

from typing import Any

import numpy as np

from score_sde.data.account import Looks, lost
from score_sde.data.recognise import listed
from score_sde.data.sources import Dataset

WARNED = 0.1
"""The share of pixels lost from which it is warned of."""


def lines(data: Dataset, multiple: int = 1) -> list[str]:
    """What to say of data that are trained on. multiple: of what the sides of pictures must be multiples."""
    account, looks = data.account, data.account.looks
    origin = f" (from {account.held_out_from})" if account.held_out_from else ""
    passed = f" ({listed(dict(account.passed_over))})" if account.passed_over else ""
    count = class_count(data)
    parts = [
        f"{len(data.train):,} for training",
        f"{len(data.held_out):,} held out{origin}",
        f"{sum(account.passed_over.values()):,} passed over{passed}",
        f"{count:,} classes" if count else "no classes",
    ]
    found = [f"data: {', '.join(parts)}", *account.notes]
    if looks and looks.frames:
        frames = listed({f"of format {name}": count for name, count in looks.frames.items()})
        found.append(f"data: frames or pages beyond the first of {frames} are passed over{_sample(data, looks)}")
    if looks and looks.lost > 0.0005:
        found.append(_cropped(data, looks, multiple))
    return found


def class_count(data: Dataset) -> int:
    """How many classes the data are known to have; 0 without labels."""
    parts = [x for c in (data.condition, data.held_out_condition) if isinstance(x := c.get("label"), np.ndarray)]
    return len(data.classes) or (len(np.unique(np.concatenate(parts))) if parts else 0)


def to_json(data: Dataset) -> dict[str, Any]:
    """The account for a file."""
    account = data.account
    return {
        "training": len(data.train),
        "held_out": len(data.held_out),
        "held_out_from": account.held_out_from,
        "passed_over": dict(account.passed_over),
        "classes": class_count(data),
        "class_names": list(data.classes),
        "notes": list(account.notes),
        "headers": account.looks and {**account.looks._asdict(), "frames": dict(account.looks.frames)},
    }


def _sample(data: Dataset, looks: Looks) -> str:
    return f", of {looks.looked_at:,} looked at" if looks.looked_at < len(data.train) else ""


def _cropped(data: Dataset, looks: Looks, multiple: int) -> str:
    """How much the crop loses, and with which sides it would lose less where that is much."""
    height, width = data.train.shape[1:3]
    said = f"data: the crop to {height}x{width} (height x width) loses {looks.lost:.1%} of the pixels"
    said += _sample(data, looks)
    sides = fitting(looks.sides, min(height, width), multiple)
    left = lost(looks.sides, sides)
    if looks.lost <= WARNED or left >= looks.lost:
        return said
    loses = "nothing" if left < 0.0005 else f"{left:.1%}"
    fields = f"data.height={sides[0]} and data.width={sides[1]}"
    ratio = ":".join(map(str, looks.sides))
    return f"{said}: {fields} lose {loses} of pictures whose sides are as {ratio}, the most common"


def fitting(ratio: tuple[int, int], shorter: int, multiple: int) -> tuple[int, int]:
    """Height and width, multiples of so much, whose shorter side is given, near a ratio."""
    longer = max(1, round(shorter * max(ratio) / min(ratio) / multiple)) * multiple
    return (longer, shorter) if ratio[0] > ratio[1] else (shorter, longer)
