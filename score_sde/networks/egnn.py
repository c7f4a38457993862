"""A graph network of point sets whose output turns with its input, and is reordered with it: EGNN.

Source: Satorras et al. 2021 (arXiv 2102.09844), section 3; Hoogeboom et al. 2022 (arXiv 2203.17003), section 3.2 and
appendix B, for scores: the noise of coordinates is what points are moved by, without its mean.
"""

from collections.abc import Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from score_sde.names import PRESENT
from score_sde.networks.layers import Dense, Dtype, at_least_float32
from score_sde.typing import Array, Keys

NEAR = 1e-8
"""Added to squared distances, of which the root has no derivative at 0."""


class Pairs(nn.Module):
    """Two layers of swish of every pair: h [B, N, nf], distances [B, N, N, K] -> [B, N, N, nf]; (i, j) is j's of i."""

    nf: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, h: Array, distances: Array) -> Array:
        dense = partial(Dense, self.nf, dtype=self.dtype)
        # One layer of [h_i, h_j, distances] in three parts, of which two are of points and not of pairs.
        first = dense(name="to")(h)[:, :, None] + dense(use_bias=False, name="from")(h)[:, None]
        first += dense(use_bias=False, name="distances")(distances)
        return jax.nn.swish(dense(name="hidden")(jax.nn.swish(first)))


class Block(nn.Module):
    """h_i += phi(h_i, sum_j m_ij) so many times, then x_i += sum_j (x_i - x_j) / (d_ij + c) phi_x: EGNN's layer.

    m_ij = phi_m(h_i, h_j, d_ij^2, d0_ij^2), times a gate of its own where there is edge_attention. x [B, N, D], h
    [B, N, nf]; first [B, N, N, 1] are the squared distances at the network's input; pairs [B, N, N, 1]: 1 for those
    that see each other, else 0. The fields are those of EGNN.
    """

    nf: int
    sublayers: int = 1
    edge_attention: bool = True
    coords_range: float = 15.0
    distance_offset: float = 1.0
    neighbours: float = 1.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, h: Array, first: Array, pairs: Array) -> tuple[Array, Array]:
        dense = partial(Dense, dtype=self.dtype)
        apart = x[:, :, None] - x[:, None]
        squares = jnp.sum(apart**2, -1, keepdims=True)
        distances = jnp.concatenate([squares, first], -1)
        for i in range(self.sublayers):
            m = Pairs(self.nf, self.dtype, name=f"messages_{i}")(h, distances)
            if self.edge_attention:
                m = m * jax.nn.sigmoid(dense(1, name=f"gate_{i}")(m))
            seen = jnp.concatenate([h, self._sum(m, pairs).astype(h.dtype)], -1)
            h = h + dense(self.nf, name=f"update_{i}_1")(jax.nn.swish(dense(self.nf, name=f"update_{i}_0")(seen)))
        barely = initializers.variance_scaling(1e-6, "fan_avg", "uniform")
        step = dense(1, barely, use_bias=False, name="step")(Pairs(self.nf, self.dtype, name="steps")(h, distances))
        step = step.astype(x.dtype)
        if self.coords_range:
            step = self.coords_range * jnp.tanh(step)
        return x + self._sum(apart / (jnp.sqrt(squares + NEAR) + self.distance_offset) * step, pairs), h

    def _sum(self, of_pairs: Array, pairs: Array) -> Array:
        """Over the others of every point, in float32 at least."""
        wide = of_pairs.astype(at_least_float32(of_pairs.dtype))
        return jnp.sum(wide * pairs.astype(wide.dtype), axis=2) / self.neighbours


class EGNN(nn.Module):
    """x [B, N, D + F], label [B] -> output of x's shape: of coordinates, equivariant; of features, invariant.

    The first D = `dimension` numbers of a point are its coordinates, the others its features. condition["present"],
    bool [B, N] or [B, N, D + F]: the points that are there (all without it); the others are not seen, and 0. The output
    of coordinates is what blocks moved them by, without its mean over the points that are there.

    nf: channels of a point and of a pair. sublayers: rounds of messages in each of num_res_blocks blocks.
    edge_attention: a gate on every message. coords_range: bound of a block's step along one pair, by tanh; 0 for none.
    distance_offset: c in (x_i - x_j) / (d_ij + c). neighbours: what sums over the other points are divided by.
    frequencies: the label enters beside sin and cos of 1, 2, 4, ... times itself, so many.
    """

    dimension: int
    nf: int = 64
    num_res_blocks: int = 4
    sublayers: int = 1
    edge_attention: bool = True
    coords_range: float = 15.0
    distance_offset: float = 1.0
    neighbours: float = 1.0
    frequencies: int = 4
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Keys | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        there = points_there(x, condition)
        pairs = there[:, :, None] & there[:, None] & ~jnp.eye(x.shape[1], dtype=bool)[None]
        wide = x.astype(at_least_float32(x.dtype))
        exists = there[..., None].astype(wide.dtype)
        wide = wide * exists
        start, features = wide[..., : self.dimension], wide[..., self.dimension :]
        h = jnp.concatenate([features, self._told(label, features)], -1)
        h, moved = Dense(self.nf, dtype=self.dtype, name="embedding")(h), start
        first = jnp.sum((start[:, :, None] - start[:, None]) ** 2, -1, keepdims=True)
        fields = {name: getattr(self, name) for name in _SHARED}
        for i in range(self.num_res_blocks):
            moved, h = Block(**fields, name=f"block_{i}")(moved, h, first, pairs[..., None])
        noise, count = (moved - start) * exists, jnp.sum(exists, 1, keepdims=True)
        parts = [noise - jnp.sum(noise, 1, keepdims=True) / jnp.maximum(count, 1)]
        if features.shape[-1]:
            parts.append(Dense(features.shape[-1], dtype=self.dtype, name="features")(h).astype(noise.dtype))
        return jnp.concatenate(parts, -1) * exists

    def _told(self, label: Array, features: Array) -> Array:
        """The label as every point is told it [B, N, 1 + 2 frequencies]."""
        label = label.astype(features.dtype)[:, None]
        phase = label * 2.0 ** jnp.arange(self.frequencies, dtype=label.dtype)[None]
        told = jnp.concatenate([label, jnp.sin(phase), jnp.cos(phase)], -1)
        return jnp.broadcast_to(told[:, None], (*features.shape[:2], told.shape[-1]))


_SHARED = ("nf", "sublayers", "edge_attention", "coords_range", "distance_offset", "neighbours", "dtype")
"""The fields that a network hands on to its blocks."""


def points_there(x: Array, condition: Mapping[str, Array] | None) -> Array:
    """Which points of x [B, N, ...] are there, bool [B, N]: as condition["present"] says, all where it says nothing."""
    if not condition or PRESENT not in condition:
        return jnp.ones(x.shape[:2], bool)
    present = jnp.asarray(condition[PRESENT])
    return (present[..., 0] if present.ndim > 2 else present).astype(bool)
