"""The config's `guidance` section carried out: a score of two, between two noise levels, within bounds, and counted."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from score_sde.config import Config
from score_sde.config.guidance_checks import strength
from score_sde.guidance import Measurement, PosteriorScore, limits
from score_sde.guidance.classifier_free import batched, classifier_free, limited, within
from score_sde.sde import SDE
from score_sde.solvers import AdaptiveSolver, Solver
from score_sde.solvers.limited_steps import LimitedSteps
from score_sde.systems import Condition, Score
from score_sde.systems.base import Params
from score_sde.typing import Array, ScoreFn

PER_STEP = {"step": True, "evaluation": False}
"""Whether an interval is decided once a step, by guidance.interval_by."""
THRESHOLDS: dict[str, Callable[[Config, Array], Array] | None] = {
    "none": None,
    "static": lambda c, x0: limits.static(x0),
    "dynamic": lambda c, x0: limits.dynamic(x0, c.quantile),
}
"""Of x_0 in [-1, 1], by guidance.threshold."""


@dataclasses.dataclass(frozen=True)
class Guiding:
    """A valid `guidance` section. centered: whether the network's data range is [-1, 1] and not [0, 1].

    posterior, measurement: what is made of the guided score, where samples answer a measurement by their score.
    """

    config: Config
    centered: bool = True
    posterior: PosteriorScore | None = None
    measurement: Measurement | None = None

    @property
    def scale(self) -> float:
        """lambda: 1 where the score is the label's own."""
        return strength(self.config)

    def score(self, system: Score, params: Params, condition: Condition) -> ScoreFn:
        """The guided score of examples of these conditions, both halves in one batch of twice as many."""
        c, plain, sde = self.config, self._plain(system, params, condition), system.sde(params)
        if self.scale == 1:
            return self._bounded(plain, sde)
        pair = batched(self._plain(system, params, _with_null(condition, system.dropped.null)))
        guided = classifier_free(pair, self.scale, c.rescale)
        if c.interval and not PER_STEP[c.interval_by]:
            guided = limited(guided, plain, sde, *c.interval)
        return self._bounded(guided, sde)

    def solver(
        self, inner: Solver | AdaptiveSolver, system: Score, params: Params, condition: Condition
    ) -> Solver | AdaptiveSolver:
        """The solver, which leaves guidance out of the steps outside of the interval where they decide."""
        c = self.config
        if self.scale == 1 or not c.interval or not PER_STEP[c.interval_by]:
            return inner
        assert isinstance(inner, Solver)  # validation refuses an adaptive one
        plain = self._bounded(self._plain(system, params, condition), system.sde(params))
        return LimitedSteps(inner, plain, *c.interval)

    def evaluations(self, plain: Array, sde: SDE, times: Array, per_step: int, denoise: bool) -> Array:
        """Network evaluations, one of a batch of two counting as two, of `plain` [] or [B] ones of a solver.

        With an interval a step's count by where it begins.
        """
        if self.scale == 1:
            return plain
        if not self.config.interval:
            return 2 * plain
        inside = within(sde, times, *self.config.interval)
        steps = per_step * jnp.sum(inside[:-1]) + denoise * inside[-1]
        return plain + steps.astype(plain.dtype)

    def _plain(self, system: Score, params: Params, condition: Condition) -> ScoreFn:
        """The network's own score, in a form whose derivatives, where they are asked for, are fast."""
        return system.score(params, condition, reverse=self.posterior is not None and self.posterior.reverse)

    def _bounded(self, score: ScoreFn, sde: SDE) -> ScoreFn:
        """Given the measurement; and the denoiser within the data's range: [-1, 1], or [0, 1] about 1/2."""
        c, rule = self.config, THRESHOLDS[self.config.threshold]
        if self.posterior is not None and self.measurement is not None:
            score = self.posterior(score, sde, self.measurement)
        if rule is None:
            return score
        middle, half = (0.0, 1.0) if self.centered else (0.5, 0.5)
        return limits.thresholded(score, sde, lambda x0: half * rule(c, (x0 - middle) / half) + middle)


def _with_null(condition: Condition, null: int) -> Condition:
    """The conditions of twice the batch, in whose second half the label is the null label."""
    label = jnp.asarray(condition["label"])
    twice = {name: jnp.concatenate([jnp.asarray(value)] * 2) for name, value in condition.items()}
    return {**twice, "label": jnp.concatenate([label, jnp.full_like(label, null)])}
