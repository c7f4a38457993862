"""Which names say that something is to train on or held out: of folders, of arrays in an .npz file, of prepared splits.

One rule for all of them: a split is only where a training and a held-out name both stand.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from score_sde.errors import UsageError

TRAIN = "train"
HELD_OUT = ("test", "val", "validation", "valid", "dev", "eval", "holdout")
"""The first of these that is there is held out."""

SPELLINGS = {"training": TRAIN, "tr": TRAIN, "testing": "test", "heldout": "holdout"}
"""Other words for these; upper case, and `_`, `-`, `.` and blanks between words, mean nothing."""

BESIDE = r"(?:x|images?|imgs?|pictures?|sets?|split|data)"
NAME = re.compile(
    rf"{BESIDE}?(train(?:ing)?|tr|test(?:ing)?|val(?:id(?:ation)?)?|dev|eval|h[oe]ldout){BESIDE}*(\d+(x\d+)?)?"
)
"""A word with what may stand beside it, as in train_images, TestSet, x_val, val2017, train_64x64."""


class Split(NamedTuple):
    """Names by what they are for."""

    train: str
    held_out: str
    others: tuple[str, ...]
    """Held-out ones that are passed over."""


def role(name: str) -> str | None:
    """`train`, or which of HELD_OUT a name says; None for any other name."""
    found = NAME.fullmatch(re.sub(r"[_\-. ]", "", name.lower()))
    return found and SPELLINGS.get(found[1], found[1])


def is_split(names: Iterable[str]) -> bool:
    """Whether a training and a held-out name are among these."""
    roles = {role(name) for name in names}
    return TRAIN in roles and not roles.isdisjoint(HELD_OUT)


def split(names: Iterable[str], where: str, training: str = "") -> Split | None:
    """The split that the names are, or None; UsageError where two say the same. training: a name that says so, too."""
    by_role: dict[str, list[str]] = {}
    for name in sorted(names):
        if found := TRAIN if name == training else role(name):
            by_role.setdefault(found, []).append(name)
    held_out = next((role for role in HELD_OUT if role in by_role), None)
    if TRAIN not in by_role or held_out is None:
        return None
    for same in (by_role[TRAIN], by_role[held_out]):
        if len(same) > 1:
            raise UsageError(f"{where} has {' and '.join(same)}, which say the same: keep one of them there")
    train, chosen = by_role.pop(TRAIN)[0], by_role.pop(held_out)[0]
    return Split(train, chosen, tuple(name for others in by_role.values() for name in others))
