"""Variational diffusion: a score network and the noise schedule that it is trained under (Kingma et al. 2021)."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.gamma import CURVE
from score_sde.objectives.denoising import LevelTimes, Steps, UniformTimes, denoising_loss_at, half_sum, likelihood
from score_sde.objectives.variational import Decoder, prior_term
from score_sde.rng import Purpose, child, normal, uniform
from score_sde.scores.parametrization import vp_levels
from score_sde.sde import SDE, Learned
from score_sde.sde.learned import Tangent
from score_sde.systems.base import Condition, Params
from score_sde.systems.score import PART, Score
from score_sde.training.step import View
from score_sde.typing import Array, Keys, expand, sum_per_example

SCHEDULE = "schedule"

Diffusion = Callable[[Params, SDE], Array]
"""(the network's parameters {part: tree}, SDE) -> the bound's diffusion term [B]."""


@dataclasses.dataclass(frozen=True)
class VDM(Score):
    """Two parts: "score", a network, and "schedule", the parameters of gamma(t) = -log SNR; of a fixed one the first.

    Both minimise the bound on -log p(x), z_t = alpha x + sigma eps with alpha^2 = sigmoid(-gamma(t)):

        recon      E -log p(x | z_0)                          by the decoder, from z_0 / alpha_0 and e^gamma(0)
        klz        KL(q(z_1 | x) || N(0, I))
        diffusion  1/2 E_t gamma'(t) |eps - eps^|^2,             or of N = num_scales steps, with s = t - 1/N,
                   N/2 E_t (e^(gamma(t) - gamma(s)) - 1) |eps - eps^|^2.

    In continuous time (num_scales 0) the bound depends on gamma's ends alone. What lies between ("curve", see
    networks.gamma) is trained on what does depend on it, the variance of the diffusion term's estimator, by the
    gradient of its square: in the same backward pass, for per example it is 2 diffusion times the bound's own.

    schedule: gamma(t) of parameters, None for the fixed one of `process`. decoder: such as variational.Categorical, of
    bytes; discrete: whether it is of probabilities. The loss and its terms are in bits per dimension, `bound` in nats.
    Source: Kingma et al. 2021 (arXiv 2107.00630).
    """

    schedule: nn.Module | None = dataclasses.field(kw_only=True)
    decoder: Decoder = dataclasses.field(kw_only=True)
    discrete: bool = False
    num_scales: int = 0
    parts: tuple[str, ...] = (PART, SCHEDULE)

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters of the network and of the schedule, a function of the key [] and their architectures."""
        params = super().init(key, frozen)
        if self.schedule is None:
            return params
        return params | {SCHEDULE: self.schedule.init(jax.random.fold_in(key, 1), jnp.zeros(()))["params"]}

    def sde(self, params: Params | None = None) -> SDE:
        """That of the parameters' schedule, or the one that training begins with."""
        if self.schedule is None or SCHEDULE not in (params or {}):
            return self.process
        return Learned(params[SCHEDULE], self.schedule)  # pyright: ignore[reportOptionalSubscript]

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The bound in bits per dimension of every example [B] at quantiles u [B] of t; its terms and gamma's ends."""
        condition = self.with_dropped(keys, condition, training)
        terms = self.terms(params, keys, x0, condition, u, self.dropout_keys(keys, training), **self.trained())
        sde = self.sde(params)
        ends = {f"gamma_{t}": jnp.broadcast_to(-sde.log_snr(float(t)), u.shape) for t in (0, 1)}
        return sum(terms.values()), terms | ends  # pyright: ignore[reportReturnType]

    def bound(self, params: Params, keys: Keys, x0: Array, condition: Condition) -> tuple[Array, dict[str, Array]]:
        """The bound on -log p(x0) of every example [B] in nats, of one draw of t and noise by its own key; its terms.

        With variational.Categorical of the probability of the bytes that x0 [B, ...] stands for.
        """
        bits = self.terms(params, keys, x0, condition, uniform(child(keys, Purpose.TIME)))
        nats = {name: term * _nats(x0) for name, term in bits.items()}
        return sum(nats.values()), nats  # pyright: ignore[reportReturnType]

    def terms(
        self,
        params: Params,
        keys: Keys,
        x0: Array,
        condition: Condition,
        u: Array,
        dropout_keys: Keys | None = None,
        **execution: object,
    ) -> dict[str, Array]:
        """recon, klz and diffusion of every example [B], in bits per dimension; execution: as of `apply`."""
        noise = child(keys, Purpose.NOISE)
        eps, eps_0 = (normal(child(noise, i), x0.shape[1:], x0.dtype) for i in range(2))
        return self.terms_at(params, x0, condition, u, eps, eps_0, dropout_keys, **execution)

    def terms_at(
        self,
        params: Params,
        x0: Array,
        condition: Condition,
        u: Array,
        eps: Array,
        eps_0: Array,
        dropout_keys: Keys | None = None,
        **execution: object,
    ) -> dict[str, Array]:
        """`terms` by given noise [B, ...]: eps of z_t, and eps_0 of z_0, which is decoded."""
        sde = self.sde(params)
        times = LevelTimes(vp_levels(self.num_scales)) if self.num_scales else UniformTimes(0.0)
        t, _ = times(sde, u)
        weighting = Steps(self.num_scales) if self.num_scales else likelihood

        def diffusion(params: Params, sde: SDE) -> Array:
            score = self.parametrization(self.apply(params, condition, dropout_keys, **execution), sde)
            nats = denoising_loss_at(score, sde, x0, t, eps, weighting=weighting, reduction=half_sum)
            return nats / _nats(x0)

        return {
            "recon": _reconstruction(sde, self.decoder, x0, eps_0) / _nats(x0),
            "klz": prior_term(sde, x0) / _nats(x0),
            "diffusion": self._diffused(diffusion, params, t),
        }

    def _diffused(self, diffusion: Diffusion, params: Params, t: Array) -> Array:
        """The diffusion term [B] at times t [B], whose gradient in the curve is that of its square."""
        schedule = params.get(SCHEDULE, {})
        if self.num_scales or CURVE not in schedule:
            return diffusion(params, self.sde(params))
        still = jax.lax.stop_gradient(schedule)
        by_ends, by_curve = {**schedule, CURVE: still[CURVE]}, {**still, CURVE: schedule[CURVE]}
        levels = (Learned(own, self.schedule).tangent(t) for own in (by_ends, by_curve))  # pyright: ignore
        return squared_in_the_last(diffusion)({PART: params[PART]}, *levels)


def squared_in_the_last(diffusion: Diffusion) -> Callable[[Params, Tangent, Tangent], Array]:
    """diffusion(params, level) of a level given twice, whose gradient in the second one is that of the square.

    Per example d f^2 / d level = 2 f df / d level, so one backward pass serves both.
    """

    @jax.custom_vjp
    def found(params: Params, level: Tangent, same: Tangent) -> Array:
        return diffusion(params, level)

    def forward(params: Params, level: Tangent, same: Tangent) -> tuple[Array, tuple]:
        value, pull = jax.vjp(diffusion, params, level)
        return value, (value, pull)

    def backward(saved: tuple, cotangent: Array) -> tuple:
        value, pull = saved
        of_params, of_level = pull(cotangent)
        return of_params, of_level, jax.tree.map(lambda d: 2 * value * d if d.shape else d, of_level)

    found.defvjp(forward, backward)
    return found


def _reconstruction(sde: SDE, decoder: Decoder, x0: Array, eps: Array) -> Array:
    """-log p(x | z_0) [B] in nats, where z_0 / alpha_0 = x + e^(gamma(0) / 2) eps."""
    gamma = -sde.log_snr(jnp.zeros(len(x0), x0.dtype))
    mean = x0 + expand(jnp.exp(0.5 * gamma), x0) * eps
    return -sum_per_example(decoder(x0, mean, expand(gamma, x0)))


def _nats(x0: Array) -> float:
    """Nats in a bit per dimension of one example."""
    return math.prod(x0.shape[1:]) * math.log(2)
