"""The official score_sde code's sampling arithmetic, number for number, and nowhere else in this package.

Indices are truncated, dt is -1/N whatever the grid, the corrector runs before the predictor at the same t, norms are
batch means, the grid's last step leaves x at t_min - 1/N, and models trained on discrete levels are told fractional
ones. Every function takes its noise, so that recorded runs can be replayed. Source: Song et al. 2021, appendices E to
G, and their sampling code's behaviour.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp

from score_sde.scores.parametrization import Noise, Parametrization, Score, sigma_label, time_label
from score_sde.sde import SDE, VE, VP, SubVP, reverse
from score_sde.solvers.base import Step
from score_sde.solvers.langevin import langevin_step
from score_sde.solvers.rk45 import RK45
from score_sde.typing import Array, Network, ScoreFn, expand

S = TypeVar("S", bound=SDE)

Draw = Callable[[Array, Array | int], Array]
"""(step i [], draw j []) -> a standard normal [B, ...]: a step's corrections draw first, its predictor last."""


class Discretization(abc.ABC, Generic[S]):
    """One SDE on N discrete noise levels; t is [B], its level trunc(t (N - 1) / T)."""

    sde: S
    num_scales: int

    def index(self, t: Array) -> Array:
        """The truncated level of t, int32 [B]."""
        return (t * (self.num_scales - 1) / self.sde.T).astype(jnp.int32)

    @abc.abstractmethod
    def discretize(self, x: Array, t: Array) -> tuple[Array, Array]:
        """(F [B, ...], G [B]) of the forward step x_{i+1} = x_i + F + G z."""

    @abc.abstractmethod
    def langevin_scale(self, t: Array) -> Array:
        """The factor of the Langevin step size [B]: 1 - beta_i, or 1 under VE."""

    @abc.abstractmethod
    def ancestral(self, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        """The ancestral predictor."""

    @abc.abstractmethod
    def score(self, network: Network, continuous: bool) -> ScoreFn:
        """The score of a network trained on all t, or on this chain's levels alone; times [] or [B]."""


@dataclasses.dataclass(frozen=True)
class DiscreteVP(Discretization[VP]):
    """DDPM's chain: beta_i = linspace(beta_min / N, beta_max / N, N)."""

    sde: VP
    num_scales: int = 1000

    def betas(self) -> Array:
        """The table [N]."""
        return _betas(self.sde, self.num_scales)

    def score(self, network: Network, continuous: bool) -> ScoreFn:
        if continuous:
            return Parametrization(Noise(), time_label)(network, self.sde)
        stds = jnp.sqrt(1 - jnp.cumprod(1 - self.betas()))

        def score(x: Array, t: Array) -> Array:
            t = jnp.broadcast_to(t, x.shape[:1])
            std = stds[self.index(t)]
            return -network(x, t * (self.num_scales - 1) / self.sde.T, std) / expand(std, x)

        return score

    def discretize(self, x: Array, t: Array) -> tuple[Array, Array]:
        beta = self.betas()[self.index(t)]
        return expand(jnp.sqrt(1 - beta), x) * x - x, jnp.sqrt(beta)

    def langevin_scale(self, t: Array) -> Array:
        return 1 - self.betas()[self.index(t)]

    def ancestral(self, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        beta = expand(self.betas()[self.index(t)], x)
        mean = (x + beta * score(x, t)) / jnp.sqrt(1 - beta)
        return Step(mean + jnp.sqrt(beta) * z, mean)


@dataclasses.dataclass(frozen=True)
class DiscreteSubVP(Discretization[SubVP]):
    """Sub-VP by Euler's step of 1/N; its correctors, which crash in the original, take VP's table."""

    sde: SubVP
    num_scales: int = 1000

    def discretize(self, x: Array, t: Array) -> tuple[Array, Array]:
        return self.sde.drift(x, t) / self.num_scales, self.sde.diffusion(t) * (1 / self.num_scales) ** 0.5

    def langevin_scale(self, t: Array) -> Array:
        return 1 - _betas(self.sde, self.num_scales)[self.index(t)]

    def score(self, network: Network, continuous: bool) -> ScoreFn:
        return Parametrization(Noise(), time_label)(network, self.sde)

    def ancestral(self, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        raise NotImplementedError("the reference has no ancestral predictor for sub-VP: use solvers.Ancestral")


@dataclasses.dataclass(frozen=True)
class DiscreteVE(Discretization[VE]):
    """SMLD's chain: sigma_i ascending and geometric from sigma_min to sigma_max, sigma_{-1} = 0."""

    sde: VE
    num_scales: int = 1000

    def sigmas(self) -> Array:
        """The table [N]."""
        ends = jnp.log(self.sde.sigma_min), jnp.log(self.sde.sigma_max)
        return jnp.exp(jnp.linspace(*ends, self.num_scales))

    def _levels(self, t: Array) -> tuple[Array, Array]:
        """(sigma_i, sigma_{i-1}) [B]."""
        i, sigmas = self.index(t), self.sigmas()
        return sigmas[i], jnp.where(i == 0, 0.0, sigmas[i - 1])

    def score(self, network: Network, continuous: bool) -> ScoreFn:
        if continuous:
            return Parametrization(Score(), sigma_label)(network, self.sde)

        def score(x: Array, t: Array) -> Array:
            t = jnp.broadcast_to(t, x.shape[:1])
            label = jnp.round((1 - t / self.sde.T) * (self.num_scales - 1)).astype(jnp.int32)
            return network(x, label, self.sigmas()[::-1][label])

        return score

    def discretize(self, x: Array, t: Array) -> tuple[Array, Array]:
        sigma, below = self._levels(t)
        return jnp.zeros_like(x), jnp.sqrt(sigma**2 - below**2)

    def langevin_scale(self, t: Array) -> Array:
        return jnp.ones_like(t)

    def ancestral(self, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        sigma, below = self._levels(t)
        mean = x + expand(sigma**2 - below**2, x) * score(x, t)
        std = jnp.sqrt(below**2 * (sigma**2 - below**2) / sigma**2)
        return Step(mean + expand(std, x) * z, mean)


def _betas(sde: VP | SubVP, num_scales: int) -> Array:
    return jnp.linspace(sde.beta_min / num_scales, sde.beta_max / num_scales, num_scales)


class Predictor(abc.ABC):
    """One predictor update at t [B] given its noise; it moves x by one level."""

    evaluations = 1
    """Network evaluations per update."""

    @abc.abstractmethod
    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        """x one level lower."""


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(Predictor):
    """Reverse SDE (or probability-flow ODE) with dt = -1/N."""

    probability_flow: bool = False

    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        backward = reverse(chain.sde, score, churn=0.0 if self.probability_flow else 1.0)
        mean = x - backward.drift(x, t) / chain.num_scales
        return Step(mean + expand(backward.diffusion(t) * (1 / chain.num_scales) ** 0.5, x) * z, mean)


@dataclasses.dataclass(frozen=True)
class ReverseDiffusion(Predictor):
    """x - F + G^2 score + G z; probability flow halves the score's factor and drops the noise."""

    probability_flow: bool = False

    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        f, g = chain.discretize(x, t)
        mean = x - f + expand(g**2, x) * score(x, t) * (0.5 if self.probability_flow else 1.0)
        return Step(mean if self.probability_flow else mean + expand(g, x) * z, mean)


@dataclasses.dataclass(frozen=True)
class Ancestral(Predictor):
    """The chain's own ancestral update."""

    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        return chain.ancestral(score, x, t, z)


@dataclasses.dataclass(frozen=True)
class NoPredictor(Predictor):
    """Leaves x alone, and with it the final denoising without effect, as published."""

    evaluations = 0

    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        return Step(x, x)


class Corrector(abc.ABC):
    """One corrector update at t [B] given its noise."""

    @abc.abstractmethod
    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        """x at the same level."""


@dataclasses.dataclass(frozen=True)
class Langevin(Corrector):
    """Step size 2 scale (snr |z| / |score|)^2 with norms averaged over the batch."""

    snr: float

    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        gradient = score(x, t)
        norm = lambda v: jnp.mean(jnp.linalg.norm(v.reshape(len(v), -1), axis=-1))
        size = 2 * chain.langevin_scale(t) * (self.snr * norm(z) / norm(gradient)) ** 2
        return langevin_step(x, gradient, z, size)


@dataclasses.dataclass(frozen=True)
class AnnealedLangevin(Corrector):
    """Step size 2 scale (snr sigma(t))^2."""

    snr: float

    def __call__(self, chain: Discretization, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        size = 2 * chain.langevin_scale(t) * (self.snr * chain.sde.sigma(t)) ** 2
        return langevin_step(x, score(x, t), z, size)


def predictor_corrector(
    chain: Discretization,
    score: ScoreFn,
    x: Array,
    predictor: Predictor,
    corrector: Corrector | None,
    noise: Draw,
    *,
    corrections: int = 1,
    t_min: float,
    denoise: bool = True,
) -> tuple[Array, Array]:
    """The official sampler from the prior draw x [B, ...]: samples and the number of network evaluations [].

    t_i = linspace(T, t_min, N); at each, the corrections, then the predictor; the last predictor's mean if denoise.
    """
    if corrector is None:
        corrections = 0

    def body(carry: Step, inputs: tuple[Array, Array]) -> tuple[Step, None]:
        i, t = inputs
        t = jnp.broadcast_to(t, x.shape[:1])
        correct = lambda j, y: y if corrector is None else corrector(chain, score, y, t, noise(i, j)).x
        y = jax.lax.fori_loop(0, corrections, correct, carry.x)
        return predictor(chain, score, y, t, noise(i, corrections)), None

    grid = jnp.linspace(chain.sde.T, t_min, chain.num_scales)
    last, _ = jax.lax.scan(body, Step(x, x), (jnp.arange(chain.num_scales), grid))
    evaluations = jnp.int32(chain.num_scales * (corrections + predictor.evaluations))
    return (last.mean if denoise else last.x), evaluations


def probability_flow(
    chain: Discretization,
    score: ScoreFn,
    x: Array,
    *,
    t_min: float,
    denoise: bool = True,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> tuple[Array, Array]:
    """The official ODE sampler from the prior draw x [B, ...]: samples and the number of network evaluations [].

    RK45 with one error norm for the batch from T to t_min, then the mean of one reverse-diffusion step at t_min.
    """
    solver = RK45(rtol, atol)
    drift = reverse(chain.sde, score, churn=0.0).drift
    x, evaluations = solver.integrate(drift, x, jnp.asarray(chain.sde.T, x.dtype), jnp.asarray(t_min, x.dtype))
    if not denoise:
        return x, evaluations
    t = jnp.full(x.shape[:1], t_min, x.dtype)
    return ReverseDiffusion()(chain, score, x, t, jnp.zeros_like(x)).mean, evaluations + 1
