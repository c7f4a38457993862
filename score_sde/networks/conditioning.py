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


@dataclass(frozen=True)
class Labels:
    """condition["label"] int32 [B] of 0 .. rows - 1, added to the embedding of the noise level; rows 0: nothing is.

    edm: a linear layer of sqrt(rows) one-hot(label), before the embedding's two layers (Karras et al. 2022). adm: the
    row of a table ~ N(0, 1) behind them (Dhariwal & Nichol 2021). The last row is the null label's where labels are
    dropped. Modules are made in the caller's scope. Raises ValueError where rows > 0 and there is no label.
    """

    rows: int
    embedding: str  # edm | adm

    def before(self, embedding: Array, condition: Mapping[str, Array]) -> Array:
        """What goes into the two layers: [B, E] -> [B, E] float32."""
        if not self.rows or self.embedding != "edm":
            return embedding
        one_hot = jax.nn.one_hot(self._label(condition), self.rows, dtype=jnp.float32)
        return embedding + Dense(embedding.shape[-1], name="Dense_label")(one_hot * self.rows**0.5)

    def behind(self, temb: Array, condition: Mapping[str, Array]) -> Array:
        """What comes out of them: [B, 4 nf] -> [B, 4 nf] float32."""
        if not self.rows or self.embedding != "adm":
            return temb
        table = nn.Embed(self.rows, temb.shape[-1], embedding_init=initializers.normal(1.0), name="Embed_label")
        return temb + table(self._label(condition))

    def _label(self, condition: Mapping[str, Array]) -> Array:
        if "label" not in condition:
            raise ValueError(f"the network has {self.rows} labels and was given none: pass condition={{'label': [B]}}")
        return condition["label"]


def told_augmentation(embedding: Array, size: int, condition: Mapping[str, Array]) -> Array:
    """The embedding [B, E] plus a linear layer of condition["augment"] [B, size], zeros where that is left out."""
    if not size:
        return embedding
    told = condition.get("augment", jnp.zeros((len(embedding), size)))
    return embedding + Dense(embedding.shape[-1], use_bias=False, name="Dense_augment")(told)
