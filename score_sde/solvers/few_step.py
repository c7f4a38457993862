"""The sampler of networks that are made for few steps: a denoiser's own steps from T to 0, ended by the denoiser."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE, transition
from score_sde.solvers.sampling import Samples
from score_sde.typing import Array, Keys, ScoreFn, Time, expand


def node(sde: SDE, share: Time, rho: float = 1.0) -> Array:
    """The time T u^rho of the share u in [0, 1] of all steps, shape of u: half of the steps have half of the nodes."""
    return sde.T * jnp.asarray(share) ** rho


def denoised_step(sde: SDE, x: Array, x0: Array, t: Time, s: Time) -> Array:
    """alpha_s x_0 + (sigma_s / sigma_t) (x_t - alpha_t x_0), shape of x: DDIM's step from t to s by what x_0 is said
    to be.

    Under sde.Straight it is Euler's step of the velocity (x_t - x_0) / t. Source: Song, Meng & Ermon 2020.
    """
    noise = (x - expand(sde.alpha(t), x) * x0) / expand(sde.sigma(t), x)
    return expand(sde.alpha(s), x) * x0 + expand(sde.sigma(s), x) * noise


def euler_step(sde: SDE, denoiser: ScoreFn, x: Array, t: Array, s: Time) -> Array:
    """`denoised_step` from t to s of a denoiser: Euler's in r = sigma / alpha, of y = x / alpha."""
    return denoised_step(sde, x, denoiser(x, t), t, s)


def heun_step(sde: SDE, denoiser: ScoreFn, x: Array, t: Array, s: Array) -> Array:
    """Heun's step from t to s > 0 in r = sigma / alpha, where the flow is dy/dr = (y - D) / r of y = x / alpha.

    Two evaluations of the denoiser D. Source: Karras et al. 2022, algorithm 1.
    """
    noise = lambda x, t: (x - expand(sde.alpha(t), x) * denoiser(x, t)) / expand(sde.sigma(t), x)
    y, first = x / expand(sde.alpha(t), x), noise(x, t)
    gap, alpha = expand(sde.sigma(s) / sde.alpha(s) - sde.sigma(t) / sde.alpha(t), x), expand(sde.alpha(s), x)
    second = noise(alpha * (y + gap * first), s)
    return alpha * (y + 0.5 * gap * (first + second))


def renoised(keys: Keys, f: ScoreFn, sde: SDE, shape: tuple[int, ...], *, times: Array, t_min: float) -> Samples:
    """One sample of the given shape per key of a consistency model f(x [B, ...], t) -> x_0, one evaluation a time.

    Pure: jit it whole.
    """
    x, step_keys = sde.prior_sample(child(keys, Purpose.PRIOR), shape), child(keys, Purpose.STEPS)
    noise = lambda i: normal(child(step_keys, i), shape, x.dtype)
    return Samples(renoised_from(x, noise, f, sde, times=times, t_min=t_min), jnp.int32(len(times)))


def renoised_from(
    x: Array, noise: Callable[[Array], Array], f: ScoreFn, sde: SDE, *, times: Array, t_min: float
) -> Array:
    """f at the first of times [N] of x [B, ...], and at each further one of what came before, noised up to it.

    Noised by the forward kernel from t_min, with noise(i) [B, ...] for i = 0 .. N - 2. Source: Song et al. 2023 (arXiv
    2303.01469), algorithm 1.
    """

    def step(x: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
        i, t = given
        a, b = transition(sde, t_min, t)
        return f(a * x + b * noise(i), t), None

    return jax.lax.scan(step, f(x, times[0]), (jnp.arange(len(times) - 1), times[1:]))[0]


def few_step(
    keys: Keys, denoiser: ScoreFn, sde: SDE, shape: tuple[int, ...], *, num_steps: int, rho: float = 1.0
) -> Samples:
    """One sample of the given shape per key by N evaluations of a denoiser (x [B, ...], t) -> x_0, at T (i / N)^rho.

    From the prior, DDIM's steps (`denoised_step`) over i = N .. 2, and at i = 1 the denoiser's own x_0, which is the
    step to t = 0. Source: Salimans & Ho 2022 (arXiv 2202.00512), algorithm 2. Pure: jit it whole.
    """
    x = sde.prior_sample(child(keys, Purpose.PRIOR), shape)
    return Samples(few_steps_from(x, denoiser, sde, num_steps, rho), jnp.int32(num_steps))


def few_steps_from(x: Array, denoiser: ScoreFn, sde: SDE, num_steps: int, rho: float = 1.0) -> Array:
    """What `few_step` makes of x [B, ...] at T (Salimans & Ho 2022, algorithm 2)."""
    nodes = node(sde, jnp.arange(num_steps, 0, -1, dtype=x.dtype) / num_steps, rho)

    def step(x: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        t, s = ends
        return denoised_step(sde, x, denoiser(x, t), t, s), None

    x, _ = jax.lax.scan(step, x, (nodes[:-1], nodes[1:]))
    return denoiser(x, nodes[-1])
