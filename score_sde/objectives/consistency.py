"""The losses of consistency models: f(x_t, t) is to be f(x_s, s), s < t on a trajectory, and the identity at t_min.

A trajectory is the probability-flow ODE's, or for want of its denoiser the straight one of an example and its noise.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from score_sde.objectives.denoising import Reduction, Weighting, mean
from score_sde.objectives.levels import noise_level
from score_sde.sde import SDE
from score_sde.typing import Array, ScoreFn, expand, sum_per_example


def l1(difference: Array) -> Array:
    """The mean of |d| over an example's elements: [B, ...] -> [B]."""
    return jnp.mean(jnp.abs(difference), axis=tuple(range(1, difference.ndim)))


def l2(difference: Array) -> Array:
    """The mean of d^2 over an example's elements: [B, ...] -> [B]."""
    return jnp.mean(difference**2, axis=tuple(range(1, difference.ndim)))


@dataclasses.dataclass(frozen=True)
class PseudoHuber:
    """sqrt(|d|^2 + c^2) - c of a whole example, c = huber sqrt(D) of its D elements: [B, ...] -> [B].

    huber 0 is the norm. Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.3: huber 0.00054.
    """

    huber: float = 0.00054

    def __call__(self, difference: Array) -> Array:
        c = self.huber * math.sqrt(difference[0].size)
        squares = sum_per_example(difference**2)
        # The root's slope at 0 is infinite, and the norm's is taken as 0.
        return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1) + c**2) - c, 0)


def pair_loss(
    f: ScoreFn,
    target: ScoreFn,
    sde: SDE,
    x: Array,
    t: Array,
    before: Array,
    s: Array,
    *,
    metric: Reduction,
    weighting: Weighting,
    over_gap: bool = False,
) -> Array:
    """The loss of every example [B]: w(t) metric(f(x_t, t) - target(x_s, s)), without gradient in the target.

    x = x_t and before = x_s [B, ...], t and s [B]. w(t) = weighting(t) (alpha_t / sigma_t)^2, which is `weighting` on
    the noise residual (denoising.py); over_gap: also 1 / (r_t - r_s), r = sigma / alpha. Source: Song et al. 2023
    (arXiv 2303.01469), definition 1; over the gap: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.1.
    """
    weight = _weight(weighting, sde, t)
    if over_gap:
        gap = noise_level(sde, t) - noise_level(sde, s)
        weight = jnp.where(gap > 0, weight / jnp.where(gap > 0, gap, 1), 0)  # at t_min there is nothing to learn
    return weight * metric(f(x, t) - jax.lax.stop_gradient(target(before, s)))


def limit_loss(
    f: ScoreFn, sde: SDE, x: Array, t: Array, x0: Array, *, weighting: Weighting, forwards: ScoreFn | None = None
) -> Array:
    """The limit s -> t [B]: w(t) mean(2 f(x_t, t) df/dt), df/dt along the trajectory and without gradient.

    Its value means nothing; its gradient is that of `pair_loss` under the squared error over t - s. x0 [B, ...]: what
    the denoiser is said to be at x_t. One forward-mode derivative, of `forwards`: f in a form that has it, where f's
    own is for reverse mode alone. Source: Song et al. 2023 (arXiv 2303.01469), appendix B.
    """
    slope = expand(0.5 * (sde.diffusion(t) / sde.sigma(t)) ** 2, x)
    velocity = sde.drift(x, t) + slope * (x - expand(sde.alpha(t), x) * x0)
    derivative = jax.jvp(forwards or f, (x, t), (velocity, jnp.ones_like(t)))[1]
    return _weight(weighting, sde, t) * mean(2 * f(x, t) * jax.lax.stop_gradient(derivative))


def trigonometric_tangent(
    network: ScoreFn,
    sde: SDE,
    x: Array,
    t: Array,
    x0: Array,
    *,
    sigma_data: float,
    share: float | Array = 1.0,
    forwards: ScoreFn | None = None,
) -> tuple[Array, Array]:
    """F and, without gradient, cos(th) df/dth [B, ...] at th = arctan(r / sigma_data), r = sigma / alpha.

    EDM's denoiser of y = x / alpha is f = cos(th) w + sigma_data sin(th) F(w / sigma_data, t), w = cos(th) y, so with
    v = dw/dth = (cos(th) w - x_0) / sin(th)
        cos(th) df/dth = cos(th)^2 (v + sigma_data F) + share cos(th) sin(th) (sigma_data dF/dth - w),
    share 1. One forward-mode derivative, of `forwards`: F in a form that has it, where `network` is for reverse mode
    alone. Source: Lu & Song 2024 (arXiv 2410.11081), eq. 6 and section 4.1, where F has the other sign.
    """
    r = noise_level(sde, t)
    cos, sin = (expand(a / jnp.hypot(r, sigma_data), x) for a in (jnp.full_like(r, sigma_data), r))
    w = cos * x / expand(sde.alpha(t), x)
    v = (cos * w - x0) / sin
    # Along cos sin d/dth, which is finite: ln r moves by 1 in it, and by g^2 / (2 sigma^2) in t.
    along = cos * sin * v / sigma_data, 2 * (sde.sigma(t) / sde.diffusion(t)) ** 2
    F, dF = jax.jvp(forwards or network, (w / sigma_data, t), along)
    tangent = cos**2 * (v + sigma_data * F) + share * (sigma_data * dF - cos * sin * w)
    return network(w / sigma_data, t), jax.lax.stop_gradient(tangent)


def normalised_loss(output: Array, tangent: Array) -> Array:
    """mean((F - F' + g / (|g| + 0.1))^2) [B], F' = F without gradient and |g|^2 = mean(g^2) of an example.

    Its gradient is that of F . g, g of bounded size. Source: Lu & Song 2024 (arXiv 2410.11081), eq. 8.
    """
    size = expand(jnp.sqrt(mean(tangent**2)), tangent)
    return mean((output - jax.lax.stop_gradient(output) + tangent / (size + 0.1)) ** 2)


def _weight(weighting: Weighting, sde: SDE, t: Array) -> Array:
    """Of the squared error of x_0, shape of t."""
    return weighting(sde, t) * jnp.exp(sde.log_snr(t))
