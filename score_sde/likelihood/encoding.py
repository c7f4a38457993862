"""Images as latents of the probability-flow ODE and back: encoding, interpolation, temperature.

The encoding depends on the SDE and the data's score alone (Song et al. 2021, section 4.3 and appendix D.5); both
directions are as exact as the solver's tolerance.
"""

import jax
import jax.numpy as jnp

from score_sde.sde import SDE, noised, reverse
from score_sde.solvers.rk45 import RK45
from score_sde.typing import Array, ScoreFn, expand, sum_per_example


def encode(
    score: ScoreFn, sde: SDE, x0: Array, *, solver: RK45, t_min: float, level: float | None = None
) -> tuple[Array, Array]:
    """The latents z = x [B, ...] at the time `level`, T by default, of x0 = x at t_min, and the network evaluations."""
    return _carry(score, sde, x0, t_min, sde.T if level is None else level, solver)


def decode(
    score: ScoreFn, sde: SDE, z: Array, *, solver: RK45, t_min: float, level: float | None = None
) -> tuple[Array, Array]:
    """The inverse of encode: x at t_min [B, ...] of latents z = x at `level`, and the network evaluations."""
    return _carry(score, sde, z, sde.T if level is None else level, t_min, solver)


def _carry(score: ScoreFn, sde: SDE, x: Array, t: float, s: float, solver: RK45) -> tuple[Array, Array]:
    return solver.integrate(reverse(sde, score, churn=0.0).drift, x, jnp.asarray(t, x.dtype), jnp.asarray(s, x.dtype))


def interpolate(z0: Array, z1: Array, weights: Array) -> Array:
    """Points on the great arc from z0 to z1, both [B, ...], at weights w [W] or [W, B] in [0, 1]: [W, B, ...].

        z_w = (sin((1 - w) a) z0 + sin(w a) z1) / sin a,  a the angle between z0 and z1, each example flattened

    (Shoemake 1985). The norm of a normal draw of many dimensions hardly varies, and this path keeps it, where a
    straight one would pass through norms that no image has. Straight where the arc is of no length; opposite
    points, which no arc is the shortest between, give what is not finite.
    """
    cosine = sum_per_example(z0 * z1) / jnp.sqrt(sum_per_example(z0**2) * sum_per_example(z1**2))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    # sin(w a) / sin a -> w
    tiny = angle < 1e-3
    safe = jnp.where(tiny, 1.0, angle)
    share = lambda w: expand(jnp.where(tiny, w, jnp.sin(w * safe) / jnp.sin(safe)), z0)
    return jnp.stack([share(1 - w) * z0 + share(w) * z1 for w in weights])


def blend(
    score: ScoreFn,
    sde: SDE,
    x0: Array,
    x1: Array,
    weights: Array,
    *,
    solver: RK45,
    t_min: float,
    condition: ScoreFn | None = None,
    level: float | None = None,
    z: Array | None = None,
) -> tuple[Array, Array]:
    """Examples between x0 and x1, both [B, ...], at weights w [W]: [W, B, ...], and the network evaluations.

    Both are encoded by the probability flow of their score up to the time `level`, T by default, met on the great arc
    (`interpolate`), and decoded by the flow of the score `condition`, their own by default: under a condition what lies
    between is what it asks for. z [B, ...]: noise that encodes both in the place of the flow, as alpha x + sigma z;
    then the ends are no longer the examples (Ho et al. 2020, section 4.4). Low levels keep more of the two.
    """
    t = sde.T if level is None else level
    if z is None:
        (z0, first), (z1, second) = (_carry(score, sde, x, t_min, t, solver) for x in (x0, x1))
        spent = first + second
    else:
        z0, z1, spent = *(noised(sde, x, jnp.asarray(t, x.dtype), z) for x in (x0, x1)), 0
    decoded = lambda z: _carry(score if condition is None else condition, sde, z, t, t_min, solver)
    x, evaluations = jax.lax.map(decoded, interpolate(z0, z1, weights))
    return x, spent + jnp.sum(evaluations, 0, dtype=evaluations.dtype)


def temperature(z: Array, tau: float) -> Array:
    """Latents [B, ...] of temperature tau: tau z, from the prior a draw of N(0, (tau prior_std)^2 I).

    Below 1, decoded images are more likely and less diverse (Song et al. 2021, appendix D.5).
    """
    return tau * z
