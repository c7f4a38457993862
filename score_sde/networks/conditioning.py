"""What enters a U-Net beside the noise level: the class label, as EDM or as ADM embeds it, and the augmentation."""

from collections.abc import Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from score_sde.networks.layers import Dense
from score_sde.typing import Array

LABEL_EMBEDDINGS = ("edm", "adm")
NULL_LABELS = ("row", "zero", "learned")


@dataclass(frozen=True)
class Labels:
    """condition["label"] int32 [B] of 0 .. rows - 1, added to the embedding of the noise level; rows 0: nothing is.

    edm: a linear layer of sqrt(rows) one-hot(label), before the embedding's two layers (Karras et al. 2022). adm: the
    row of a table ~ N(0, 1) behind them (Dhariwal & Nichol 2021).
    The null label, for no class, comes after the classes. row: it is the last of the rows, as any other (Ho & Salimans
    2022). zero: it is the number `rows`, a one-hot label of zeros, of which edm's layer leaves the bias (Karras et al.
    2022) and adm's table nothing. learned: the number `rows` too, a vector of its own in the label's place, zeros at
    first. Modules are made in the caller's scope. Raises ValueError where rows > 0 and there is no label.
    """

    rows: int
    embedding: str  # edm | adm
    null: str = "row"  # row | zero | learned

    def before(self, embedding: Array, condition: Mapping[str, Array]) -> Array:
        """What goes into the two layers: [B, E] -> [B, E] float32."""
        if not self.rows or self.embedding != "edm":
            return embedding
        label = told_label(self.rows, condition)
        one_hot = jax.nn.one_hot(label, self.rows, dtype=jnp.float32)  # of the number `rows`: zeros
        told = Dense(embedding.shape[-1], name="Dense_label")(one_hot * self.rows**0.5)
        return embedding + (self._or_null(told, label) if self.null == "learned" else told)

    def behind(self, temb: Array, condition: Mapping[str, Array]) -> Array:
        """What comes out of them: [B, 4 nf] -> [B, 4 nf] float32."""
        if not self.rows or self.embedding != "adm":
            return temb
        table = nn.Embed(self.rows, temb.shape[-1], embedding_init=initializers.normal(1.0), name="Embed_label")
        label = told_label(self.rows, condition)
        if self.null == "row":
            return temb + table(label)
        return temb + self._or_null(table(jnp.minimum(label, self.rows - 1)), label)

    def _or_null(self, told: Array, label: Array) -> Array:
        """What the labels [B] tell [B, E], or the null vector where a label is the number `rows`."""
        zero, null = jnp.zeros_like(told), 0.0
        if self.null == "learned":
            null = nn.Embed(1, told.shape[-1], embedding_init=initializers.zeros, name="Embed_null")(label * 0)
        return jnp.where((label < self.rows)[:, None], told, zero + null)


def told_label(rows: int, condition: Mapping[str, Array]) -> Array:
    """The labels [B] of a condition; ValueError where a network of so many rows is given none."""
    if "label" not in condition:
        raise ValueError(f"the network has {rows} labels and was given none: pass condition={{'label': [B]}}")
    return condition["label"]


def told_augmentation(embedding: Array, size: int, condition: Mapping[str, Array]) -> Array:
    """The embedding [B, E] plus a linear layer of condition["augment"] [B, size], zeros where that is left out."""
    if not size:
        return embedding
    told = condition.get("augment", jnp.zeros((len(embedding), size)))
    return embedding + Dense(embedding.shape[-1], use_bias=False, name="Dense_augment")(told)
