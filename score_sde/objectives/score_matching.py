"""Score matching without the noise: objectives of the score at x_t and its derivatives alone.

By Stein's identity E[sigma score . z] = sigma^2 E[div score], so that E|sigma score + z|^2 and
sigma^2 E[|score|^2 + 2 div score] differ by E|z|^2 = D, which no network changes: all objectives have the same
minimiser for every t. They differ in variance and cost, and these here need no z: they also serve data given noisy.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from score_sde.rng import Purpose, child, normal
from score_sde.scores import divergence
from score_sde.typing import Array, Keys, ScoreFn, expand, sum_per_example


def implicit(keys: Keys, score: ScoreFn, x: Array, t: Array, sigma: Array, z: Array) -> Array:
    """sigma^2 (score^2 + 2 d score_i / dx_i), elementwise, by D directional derivatives (Hyvarinen 2005)."""
    value, diagonal = divergence.exact(lambda y: score(y, t), x)
    return sigma**2 * (value**2 + 2 * diagonal)


@dataclasses.dataclass(frozen=True)
class Sliced:
    """Sliced score matching (Song et al. 2019): the mean over M directions v ~ N(0, I) of

        sigma^2 ((v . score)^2 + 2 v . J v), or variance reduced, where E (v . score)^2 is known,
        sigma^2 (|score|^2 + 2 v . J v),

    J the Jacobian of the score in x, one derivative per direction. The first term of the former belongs to no element:
    it is spread evenly over the example.
    """

    projections: int = 1
    variance_reduced: bool = True

    def __call__(self, keys: Keys, score: ScoreFn, x: Array, t: Array, sigma: Array, z: Array) -> Array:
        own = child(keys, Purpose.PROJECTION)
        draw = lambda m: normal(child(own, m), x.shape[1:], x.dtype)
        directions = jax.vmap(draw)(jnp.arange(self.projections))
        value, diagonal = divergence.hutchinson(lambda y: score(y, t), x, directions)
        if self.variance_reduced:
            return sigma**2 * (value**2 + 2 * diagonal)
        projected = jnp.mean(jax.vmap(lambda v: sum_per_example(v * value) ** 2)(directions), axis=0)
        return sigma**2 * (expand(projected / math.prod(x.shape[1:]), x) + 2 * diagonal)
