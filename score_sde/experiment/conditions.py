"""What samples and likelihoods are conditioned on: the labels that a field asks for, or the training data's law."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from score_sde.data.sources import Source, gather
from score_sde.data.spec import Labels, Spec
from score_sde.errors import require
from score_sde.rng import Purpose, child, example_keys, root_key, uniform
from score_sde.typing import Array

EACH = "each"
"""The label that stands for every class in turn."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The conditions of a run whose data are described by the spec; {} where nothing conditions."""

    spec: Spec

    def of_samples(self, asked: str, seed: int, position: np.ndarray) -> dict[str, Any]:
        """The conditions of samples at these positions (two words each) [B, 2]: of sample k a function of (seed, k).

        asked: `sampling.label`. A label for all, several in turn, or by default one drawn with the training split's
        frequencies.
        """
        labels = self.spec.labels
        if labels is None:
            return {}
        if chosen := parsed("sampling.label", asked, labels):
            high, low = position.astype(np.uint64).T
            turn = (high * np.uint64(2**32) + low) % np.uint64(len(chosen))
            return {"label": np.asarray(chosen, np.int32)[turn.astype(np.int64)]}
        u = uniform(child(example_keys(root_key(seed), position), Purpose.CONDITION))
        return {"label": _quantile(labels.frequencies, u)}

    def of_examples(self, asked: str, given: Mapping[str, Source], numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The conditions of examples with these numbers: their own, or the one label that `likelihood.label` names."""
        labels = self.spec.labels
        if labels is None:
            return {}
        if chosen := one_or_none(asked, labels):
            return {"label": np.full(len(numbers), chosen[0], np.int32)}
        require(
            "label" in given,
            f"likelihood.label={asked!r} asks for their own labels, and the examples of likelihood.split have none:"
            " name a class",
        )
        return {"label": np.asarray(gather(given["label"], numbers), np.int32)}


def parsed(field: str, asked: str, labels: Labels) -> tuple[int, ...]:
    """The classes that a field names: numbers or names, several with commas between, or each; () for "". each leaves
    out classes without an example in training.
    """
    words = [word.strip() for word in asked.split(",") if word.strip()]
    require(words or not asked, f"{field}={asked!r} names no class: name one, {EACH}, or leave it empty")
    if words == [EACH]:
        return tuple(i for i, share in enumerate(labels.frequencies) if share > 0)
    return tuple(_class(field, word, labels) for word in words)


def one_or_none(asked: str, labels: Labels) -> tuple[int, ...]:
    """The one class that `likelihood.label` names, () for "" and for each; UsageError for several."""
    if by_class(asked):
        return ()
    chosen = parsed("likelihood.label", asked, labels)
    require(len(chosen) < 2, f"likelihood.label={asked!r} names several classes: name one, or leave it empty")
    return chosen


def by_class(asked: str) -> bool:
    """Whether `likelihood.label` asks for the likelihood under every class."""
    return asked.strip() == EACH


def _class(field: str, word: str, labels: Labels) -> int:
    if word in labels.names[: labels.count]:
        return labels.names.index(word)
    names = f", or their names, such as {labels.names[0]}" if labels.names else ""
    require(
        word.isdecimal() and len(word) < 10 and int(word) < labels.count,
        f"{field}={word} is no class: the data have {labels.count}, 0 to {labels.count - 1}{names}; choose one",
    )
    return int(word)


def _quantile(frequencies: tuple[float, ...], u: Array) -> Array:
    """The class [B] in whose share of [0, 1) u [B] lies, int32."""
    upper = np.cumsum(frequencies).astype(np.float32)
    last = max(i for i, share in enumerate(frequencies) if share > 0)
    return jnp.minimum(jnp.searchsorted(upper, u, side="right"), last).astype(jnp.int32)
