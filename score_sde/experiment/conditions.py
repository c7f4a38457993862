"""What samples and likelihoods are conditioned on: the labels that a field asks for, or the training data's law."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from score_sde.data.captions import CAPTION
from score_sde.data.points import PointSpec
from score_sde.data.sources import Source, gather
from score_sde.data.spec import Labels, Spec
from score_sde.errors import require
from score_sde.experiment.captions import asked_texts
from score_sde.experiment.fields import asked_fields
from score_sde.names import EMBEDDINGS, FIELD, IMAGE, MASK, PRESENT
from score_sde.rng import Purpose, child, example_keys, numbers, root_key, uniform
from score_sde.scores.subspace import filled
from score_sde.typing import Array, Keys

EACH = "each"
"""The label that stands for every class in turn."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The conditions of a run whose data are described by the spec; {} where nothing conditions."""

    spec: Spec

    def of_samples(
        self,
        asked: str,
        seed: int,
        position: np.ndarray,
        caption: str = "",
        fields: str = "",
        points: str = "",
    ) -> dict[str, Any]:
        """The conditions of samples at these positions (two words each) [B, 2]: of sample k a function of (seed, k).

        asked: `sampling.label`. A label for all, several in turn, or by default one drawn with the training split's
        frequencies. caption: `sampling.caption`, one for all, a file's in turn, or by default one of the training
        split's. fields: the file of `sampling.condition`, whose fields are shown in turn. points: `sampling.points`, of
        point sets: a number for all, several in turn, or by default one drawn as often as the training split has it.
        """
        turn = lambda values: values[(numbers(position) % np.uint64(len(values))).astype(np.int64)]
        labels, text, found = self.spec.labels, self.spec.text, {}
        keys = example_keys(root_key(seed), position)
        if labels is not None and (chosen := parsed("sampling.label", asked, labels)):
            found = {"label": turn(np.asarray(chosen, np.int32))}
        elif labels is not None:
            found = self.of_keys(keys)
        if text is not None and caption:
            found |= {name: turn(rows) for name, rows in asked_texts(caption, text).items()}
        elif text is not None:
            require(
                text.captions,
                "sampling.caption is empty, and nothing here makes rows of words: name an .npz file with the array"
                f" embeddings [K, {text.length}, {text.width}]",
            )
            u = np.asarray(uniform(child(child(keys, Purpose.CONDITION), 1)))
            found |= text.encode([text.captions[i] for i in (u * len(text.captions)).astype(int)])
        if self.spec.beside is not None:
            found[IMAGE] = turn(asked_fields(fields, self.spec.beside))
        if self.spec.points is not None:
            chosen = asked_counts(points, self.spec.points)
            counts = turn(np.asarray(chosen)) if chosen else self.counts(keys)
            return found | {PRESENT: self.spec.points.rows(counts, self.spec.shape[-1])}
        return found | self.present(len(position))

    def counts(self, keys: Keys) -> np.ndarray:
        """Numbers of points by the training split's law, each drawn by its own key [B], of a point set."""
        assert self.spec.points is not None
        u = uniform(child(child(keys, Purpose.CONDITION), 2))
        return 1 + np.asarray(_quantile(self.spec.points.shares, u))

    def present(self, count: int) -> dict[str, np.ndarray]:
        """Which elements of so many samples are there: what is common to all examples, or all; {} of whole ones."""
        if self.spec.missing is None:
            return {}
        common = self.spec.missing.present(self.spec.shape)
        there = np.ones(self.spec.shape, bool) if common is None else common
        return {PRESENT: np.broadcast_to(there, (count, *self.spec.shape))}

    def there(self, x0: Array, condition: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Examples in the network's range with 0 where nothing is, and their condition, which says where that is."""
        if self.spec.missing is None:
            return x0, dict(condition)
        x0, present = filled(x0)
        return x0, {**condition, PRESENT: present}

    def of_keys(self, keys: Keys) -> dict[str, Array]:
        """Labels of the training split's law, each drawn by its own key [B]; {} without."""
        labels = self.spec.labels
        if labels is None:
            return {}
        return {"label": _quantile(labels.frequencies, uniform(child(keys, Purpose.CONDITION)))}

    def of_data(self, names: Sequence[str], given: Mapping[str, Source]) -> dict[str, Any]:
        """Of the conditions that the data have by name, those of these names, one entry for each example."""
        found = {name: given[name] for name in names if name in given}
        if self.spec.beside is not None and FIELD in found:
            found |= self.spec.beside.of_sources({FIELD: found.pop(FIELD)})
        if self.spec.text is None or not {CAPTION, EMBEDDINGS} & set(found):
            return found
        own = {name: source for name, source in found.items() if name not in (CAPTION, EMBEDDINGS)}
        return own | self.spec.text.of_sources(given)

    def of_examples(self, asked: str, given: Mapping[str, Source], numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The conditions of examples with these numbers: their own, or the one label that `likelihood.label` names."""
        labels, text = self.spec.labels, self.spec.text
        own = {name: gather(source, numbers) for name, source in given.items() if name in (CAPTION, EMBEDDINGS, MASK)}
        found = {} if text is None else text.of_sources(own)
        if self.spec.beside is not None:
            found |= self.spec.beside.of_sources({FIELD: gather(given[FIELD], numbers)})
            found[IMAGE] = gather(found[IMAGE], np.arange(len(numbers)))
        if labels is None:
            return found
        if chosen := one_or_none(asked, labels):
            return found | {"label": np.full(len(numbers), chosen[0], np.int32)}
        require(
            "label" in given,
            f"likelihood.label={asked!r} asks for their own labels, and the examples of likelihood.split have none:"
            " name a class",
        )
        return found | {"label": np.asarray(gather(given["label"], numbers), np.int32)}


def parsed(field: str, asked: str, labels: Labels) -> tuple[int, ...]:
    """The classes that a field names: numbers or names, several with commas between, or each; () for "". each leaves
    out classes without an example in training.
    """
    words = [word.strip() for word in asked.split(",") if word.strip()]
    require(words or not asked, f"{field}={asked!r} names no class: name one, {EACH}, or leave it empty")
    if words == [EACH]:
        return tuple(i for i, share in enumerate(labels.frequencies) if share > 0)
    return tuple(_class(field, word, labels) for word in words)


def asked_counts(asked: str, points: PointSpec) -> tuple[int, ...]:
    """The numbers of points that `sampling.points` names, several with commas between, or each that there are in
    training; () for "".
    """
    words = [word.strip() for word in asked.split(",") if word.strip()]
    require(words or not asked, f"sampling.points={asked!r} names no number: name one, {EACH}, or leave it empty")
    if words == [EACH]:
        return tuple(n for n, share in enumerate(points.shares, 1) if share > 0)
    for word in words:
        most = len(points.shares)
        require(
            word.isdecimal() and len(word) < 10 and 1 <= int(word) <= most,
            f"sampling.points={asked!r}: {word!r} is no number of points from 1 to {most}, the most of an example:"
            f" name such, or {EACH}",
        )
    return tuple(map(int, words))


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
