"""Two digits side by side with what they are in words, for whatever is asked for in words: "three left of seven"."""

from typing import Any

import numpy as np

from score_sde.data.account import Account
from score_sde.data.captions import CAPTION
from score_sde.data.sources import Dataset, digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
APART = (3, 7)
"""Right minus left digit modulo 10, of the pairs that are held out: each digit stands in them twice on either side."""
TRAIN, HELD_OUT = 75, 25
"""Pictures of a pair."""


def digit_pairs() -> Dataset:
    """Pictures uint8 [N, 8, 16, 1] of two of `sources.digits`, 6,000 of 80 pairs and 500 of 20 held-out pairs.

    The former are made of the training digits, the latter of the held-out ones: neither a held-out pair nor one of its
    digits has been seen. Conditions: `caption` of 12 words, and `label`, 10 times the left digit plus the right one.
    Which digits make a picture is a fixed draw.
    """
    single, random = digits(), np.random.RandomState(0)  # whose stream is frozen for good
    every = [(left, right) for left in range(10) for right in range(10)]
    held = [pair for pair in every if (pair[1] - pair[0]) % 10 in APART]
    kept = [pair for pair in every if pair not in held]
    train = _pictures(random, single.train, single.condition["label"], kept, TRAIN)
    held_out = _pictures(random, single.held_out, single.held_out_condition["label"], held, HELD_OUT)
    account = Account("pairs of digits that are not in training")
    return Dataset(train[0], held_out[0], train[1], held_out[1], account=account)


def caption(left: int, right: int) -> str:
    """Of a pair of digits."""
    return f"{NAMES[left]} left of {NAMES[right]}"


def _pictures(
    random: np.random.RandomState, images: Any, labels: Any, pairs: list[tuple[int, int]], count: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """So many pictures of each pair, and what conditions them."""
    one = lambda digit: images[random.choice(np.flatnonzero(labels == digit), count)]
    pictures = np.concatenate([np.concatenate([one(left), one(right)], axis=2) for left, right in pairs])
    repeated = lambda values: np.repeat(np.array(values), count)
    told = {"label": repeated([10 * a + b for a, b in pairs]).astype(np.int32)}
    return pictures, told | {CAPTION: repeated([caption(a, b) for a, b in pairs])}
