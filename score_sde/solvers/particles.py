"""Samples of a posterior by sequential Monte Carlo: particles led by a posterior score, weighted by what it misses."""

import jax
import jax.numpy as jnp

from score_sde.errors import require
from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import PosteriorScore, log_potential
from score_sde.rng import Purpose, child, normal, uniform
from score_sde.sde import SDE, denoised
from score_sde.solvers.exponential import Data, Frame, node
from score_sde.solvers.exponential_adams import steps
from score_sde.solvers.sampling import Samples
from score_sde.typing import Array, Keys, ScoreFn


def sample_particles(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    shape: tuple[int, ...],
    *,
    posterior: PosteriorScore,
    measurement: Measurement,
    times: Array,
    count: int,
    prediction: Data | None = None,
    variance: float = 1.0,
    denoise: bool = True,
) -> Samples:
    """One sample [B, ...] of p(x_0 | y) per key: of `count` particles of its own, one by their weights.

    Particles go by exponential Euler-Maruyama steps of the posterior score, q(x_s | x_t), and are weighted with
    p(x_s | x_t) g_s(x_s) / (q(x_s | x_t) g_t(x_t)), p the same step of the score alone and g the density of the
    measurement about the denoiser (guidance.posterior.log_potential); where the effective number falls below half, they
    are drawn anew, systematically. Exact as particles and steps grow, whatever the posterior score.
    prediction: whose steps these are, with noise; None for the reverse SDE's own. variance: the data's, for g. denoise:
    end at the posterior's denoiser. Sample k depends on keys[k] and its own measurement alone; every particle's
    evaluations count. Source: Wu et al. 2023 (twisted diffusion sampler).
    Raises UsageError where the measurement's operator has no singular values, and for a count below 1.
    """
    require(count >= 1, f"count={count} must be at least 1: one particle is the posterior score's own sample")
    B, own_keys = len(keys), jax.vmap(lambda p: child(keys, p), out_axes=1)(jnp.arange(count)).reshape(-1)
    y = measurement.y if len(measurement.y) == 1 else jnp.repeat(measurement.y, count, 0)
    given = Measurement(measurement.A, y, measurement.sigma_y)
    step_keys, drawing = child(own_keys, Purpose.STEPS), child(keys, Purpose.RESAMPLING)
    rows = jnp.arange(B)[:, None] * count

    def seen(x: Array, t: Array) -> tuple[Array, Array, Array]:
        """D, D_y - D and log g [B, count]."""
        own, shift = posterior.shift(score, sde, given, x, t)
        D = denoised(sde, x, own, t)
        return D, shift, log_potential(sde, given, D, t, variance).reshape(B, count)

    def step(carry: tuple[Array, Array], inputs: tuple[Array, Array, Frame]) -> tuple[tuple[Array, Array], None]:
        x, weights = carry
        i, t, frame = inputs
        D, shift, g = seen(x, t)
        chosen, weights = _resampled(uniform(child(drawing, i)), weights + g)
        flat = (rows + chosen).reshape(-1)
        x, D, shift = x[flat], D[flat], shift[flat]
        pull = -frame.scale * jnp.expm1(frame.h)
        z = normal(child(child(step_keys, i), Purpose.NOISE), shape, x.dtype)
        x = frame.ratio * x + pull * (D + shift) + frame.noise * z
        # log p - log q of means a distance pull * shift apart, both of variance noise^2.
        ahead = pull * shift / frame.noise
        ratio = -jnp.sum((z * ahead + 0.5 * ahead**2).reshape(B, count, -1), -1)
        return (x, weights + ratio - jnp.take_along_axis(g, chosen, 1)), None

    x = sde.prior_sample(child(own_keys, Purpose.PRIOR), shape)
    frames = steps(prediction or Data(1.0), node(sde, times))
    nodes = (jnp.arange(len(times) - 1), times[:-1], frames)
    (x, weights), _ = jax.lax.scan(step, (x, jnp.zeros((B, count), x.dtype)), nodes)
    D, shift, g = seen(x, times[-1])
    one = _inverse(uniform(child(drawing, len(times))), jnp.zeros((B, 1), x.dtype), weights + g)
    flat = (rows + one).reshape(-1)
    found = D[flat] + shift[flat] if denoise else x[flat]
    return Samples(found, jnp.int32(count * len(times)))


def _resampled(u: Array, weights: Array) -> tuple[Array, Array]:
    """The particles [B, P] that go on and their log-weights, of log-weights [B, P] and u [B] uniform in [0, 1).

    All as they are, unless the effective number of them is below half.
    """
    count = weights.shape[1]
    weights = weights - jax.nn.logsumexp(weights, 1, keepdims=True)
    few = jnp.exp(-jax.nn.logsumexp(2 * weights, 1, keepdims=True)) < 0.5 * count
    drawn = _inverse(u, jnp.arange(count, dtype=weights.dtype)[None], weights)
    same = jnp.broadcast_to(jnp.arange(count)[None], drawn.shape)
    return jnp.where(few, drawn, same), jnp.where(few, -jnp.log(jnp.asarray(count, weights.dtype)), weights)


def _inverse(u: Array, places: Array, weights: Array) -> Array:
    """The particles [B, n] at (places + u) / n of the distribution of log-weights [B, P]."""
    upper = jnp.cumsum(jax.nn.softmax(weights, 1), 1)
    at = (places + u[:, None]) / places.shape[1]
    found = jax.vmap(lambda upper, at: jnp.searchsorted(upper, at, side="right"))(upper, at)
    return jnp.minimum(found, weights.shape[1] - 1)
