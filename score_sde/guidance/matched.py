"""The posterior of matched moments, with the whole of its gradient: the covariance is a function of x too."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from score_sde.guidance.krylov import conjugate_gradients
from score_sde.guidance.measurement import Measurement, shortened
from score_sde.guidance.mmps import preconditioner
from score_sde.guidance.posterior import PosteriorScore, reach
from score_sde.rng import root_key
from score_sde.sde import SDE, denoised
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class Matched(PosteriorScore):
    """g = grad_x log N(y; A D(x), S(x)), S = A C A^T + sigma_y^2 I and C(x) = (sigma^2 / alpha) J(x), J of D.

    MMPS takes C for constant. With T[a, b] the derivative of J a along b, and c = sigma^2 / alpha,
    D_y - D = C A^T u + c^2 / 2 (T[w, w] - E_z T[A^T S^-1 z, A^T z]), u = S^-1 (y - A D), w = A^T u, z random signs,
    as Cov[x_0 | x_t] and its slope, the third cumulant, are symmetric. Exact for Gaussian data, where T = 0, once the
    systems are solved. products: steps of conjugate gradients for u, and as many for every z. variance: as MMPS's.
    probes: draws of z, functions of t alone, so that one serves all examples; all of a basis where y has no more
    numbers. steepest: the second term is made no longer than so many times sigma / alpha sqrt(D numbers), as it passes
    all bounds where two modes part. Forward mode alone: 2 products to a step, and 2 second derivatives, with one probe.
    """

    products: int = 3
    variance: float | None = 1.0
    probes: int = 1
    steepest: float = 1.0

    reverse: ClassVar[bool] = False

    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        A, noise, c = measurement.A, measurement.sigma_y**2, sde.sigma(t) ** 2 / sde.alpha(t)

        def of(x: Array) -> tuple[Array, Array]:
            own = score(x, t)
            return own, denoised(sde, x, own, t)

        (own, D), along = jax.linearize(of, x)

        def seen(u: Array) -> tuple[Array, Array]:
            moved = expand(c, u) * along(A.transpose(u))[1]
            return A(moved) + noise * u, moved

        precondition = preconditioner(sde, A, noise, t, self.variance)
        solved = lambda b: conjugate_gradients(seen, b, self.products, precondition)
        e = measurement.residual(D)
        u, shift = solved(e)

        def second(a: Array, b: Array) -> Array:
            """T[a, b]."""
            slope = lambda x: jax.jvp(lambda x: of(x)[1], (x,), (b,))[1]
            return jax.jvp(slope, (x,), (a,))[1]

        w = A.transpose(u)
        bend = second(w, w)
        probes = [jnp.broadcast_to(z, e.shape) for z in _signs(self.probes, e[0], t)]
        for z in probes:
            bend = bend - second(A.transpose(solved(z)[0]), A.transpose(z)) / len(probes)
        bend = 0.5 * expand(c**2, bend) * bend
        return own, shift + shortened(bend, reach(sde, t, x, self.steepest))


def _signs(count: int, e: Array, t: Array) -> list[Array]:
    """Some z [1 or B, ...] of the shape of e [...], the mean of whose z z^T is I: by t alone."""
    if count >= e.size:
        return list(e.size**0.5 * jnp.eye(e.size, dtype=e.dtype).reshape(e.size, 1, *e.shape))
    words = jax.lax.bitcast_convert_type(jnp.atleast_1d(t).astype(jnp.float32), jnp.uint32)
    keys = jax.vmap(lambda word: jax.random.fold_in(root_key(0), word))(words)
    draw = lambda key: jax.random.rademacher(key, (count, *e.shape), e.dtype)
    return list(jnp.moveaxis(jax.vmap(draw)(keys), 1, 0))
