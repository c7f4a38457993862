"""Consistency models: f(x_t, t) is the same all along a trajectory, so that f(x_T, T) is a sample (Song et al. 2023).

The denoiser of the network's parametrization is in the place of f: "boundary" makes it the identity at t_min.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from score_sde.errors import UsageError
from score_sde.objectives.consistency import limit_loss, normalised_loss, pair_loss, trigonometric_tangent
from score_sde.objectives.denoising import Reduction, Times, Weighting, mean, perturb
from score_sde.objectives.levels import Levels
from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE
from score_sde.systems.base import Condition, Params
from score_sde.systems.teacher import PART as TEACHER
from score_sde.systems.teacher import Student, Teacher
from score_sde.training.curriculum import Curriculum
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn

NO_SCORE = (
    "a consistency model leads from noise to an example and has no score, so it has no likelihood and is not guided"
    " when it draws: guide the teacher that it learns from, by teacher.scale"
)

Step = Callable[[SDE, ScoreFn, Array, Array, Array], Array]
"""(sde, denoiser, x [B, ...], t [B], s [B]) -> x_s [B, ...] on the trajectory of x_t = x."""


@dataclasses.dataclass(frozen=True)
class Consistency(Student):
    """What all of them share. teacher: whose trajectories they are; None for the straight ones of x_0 and its noise.

    Without a teacher x_s = alpha_s x_0 + sigma_s z has the noise of x_t: that is Euler's step with x_0 in the place of
    its expectation given x_t, so both learn the same, but for the spread of the former's target.
    """

    teacher: Teacher | None = None

    def score(self, params: Params, condition: Condition | None = None, backwards: bool = False) -> ScoreFn:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)

    def told(self, view: View, x0: Array, condition: Condition) -> ScoreFn:
        """What x_0 is said to be at a point of the trajectory: the teacher's denoiser, or the example itself."""
        if self.teacher is None:
            return lambda x, t: x0
        return self.teacher.denoiser(view.frozen[TEACHER], condition, **self.trained())

    def noised(self, keys: Keys, x0: Array, t: Array) -> Array:
        """x_t [B, ...] of examples, by each one's own noise."""
        return perturb(self.process, x0, t, normal(child(keys, Purpose.NOISE), x0.shape[1:], x0.dtype))[0]


@dataclasses.dataclass(frozen=True)
class Paired(Consistency):
    """Pairs of times (`pair_loss`), x_s by a step from x_t. A loss need not fall: it stays at the spread of x_s.

    target: whose f(x_s, s), an average by its name or "" for the parameters. Both passes have the same dropout.
    Consistency training and distillation: Song et al. 2023 (arXiv 2303.01469); improved: Song & Dhariwal 2023
    (arXiv 2310.14189); from a trained denoiser, with continuous t: Geng et al. 2024 (arXiv 2406.14548).
    """

    step: Step = dataclasses.field(kw_only=True)
    levels: Levels = dataclasses.field(kw_only=True)
    curriculum: Curriculum = dataclasses.field(kw_only=True)
    metric: Reduction = dataclasses.field(kw_only=True)
    weighting: Weighting = dataclasses.field(kw_only=True)
    over_gap: bool = False
    target: str = ""

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of every example [B] at the pair of times that its quantile u falls on."""
        t, s = self.levels(self.process, u, self.curriculum(view.step))
        x, dropout_keys = self.noised(keys, x0, t), self.dropout_keys(keys, training)
        before = self.step(self.process, self.told(view, x0, condition), x, t, s)
        f = self.denoiser(params, condition, dropout_keys, **self.trained())
        still = view.averages[self.target] if self.target else jax.lax.stop_gradient(params)
        target = self.denoiser(still, condition, dropout_keys, **self.trained())
        options = {"metric": self.metric, "weighting": self.weighting, "over_gap": self.over_gap}
        return pair_loss(f, target, self.process, x, t, before, s, **options), {}


@dataclasses.dataclass(frozen=True)
class Continuous(Consistency):
    """The limit of both times (`limit_loss`), whose value means nothing. Source: Song et al. 2023, section 5."""

    times: Times = dataclasses.field(kw_only=True)
    weighting: Weighting = dataclasses.field(kw_only=True)

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of every example [B] at the time of its quantile u."""
        t = self.times(self.process, u)[0]
        x, dropout_keys = self.noised(keys, x0, t), self.dropout_keys(keys, training)
        f = self.denoiser(params, condition, dropout_keys, **self.trained())
        still = self.denoiser(jax.lax.stop_gradient(params), condition, dropout_keys)
        x0 = self.told(view, x0, condition)(x, t)
        return limit_loss(f, self.process, x, t, x0, weighting=self.weighting, forwards=still), {}


@dataclasses.dataclass(frozen=True)
class TrigFlow(Consistency):
    """The limit at the angle arctan(r / sigma_data), by a tangent of bounded size: sCM (Lu & Song 2024).

    The tangent's second term has the weight min(1, updates / warmup). Not theirs: the weight of noise levels that they
    learn beside it. The network is EDM's, which such a run may start from.
    """

    times: Times = dataclasses.field(kw_only=True)
    sigma_data: float = dataclasses.field(kw_only=True)
    warmup: int = 10_000

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of every example [B] at the time of its quantile u, and its tangent's size [B]."""
        sde, t = self.process, self.times(self.process, u)[0]
        x, dropout_keys = self.noised(keys, x0, t), self.dropout_keys(keys, training)
        told = lambda apply: lambda x, t: apply(x, self.parametrization.label(sde, t), sde.sigma(t))
        network = told(self.apply(params, condition, dropout_keys, **self.trained()))
        still = told(self.apply(jax.lax.stop_gradient(params), condition, dropout_keys))
        share = jnp.minimum(view.step / self.warmup, 1) if self.warmup else 1.0
        options = {"sigma_data": self.sigma_data, "share": share, "forwards": still}
        x0 = self.told(view, x0, condition)(x, t)
        output, tangent = trigonometric_tangent(network, sde, x, t, x0, **options)
        return normalised_loss(output, tangent), {"tangent": jnp.sqrt(mean(tangent**2))}
