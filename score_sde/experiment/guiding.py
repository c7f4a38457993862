"""The config's `guidance` section carried out: a score of two, between two noise levels, within bounds, and counted."""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from score_sde.config import Config
from score_sde.config.guidance_checks import acts, strength
from score_sde.experiment import asking
from score_sde.experiment.frozen import Frozen
from score_sde.guidance import Measurement, PosteriorScore, limits
from score_sde.guidance.classifier import classifier_guided, guided_by
from score_sde.guidance.classifier_free import Pair, apart, batched, classifier_free, limited, within
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

    parts: a guide and a classifier of other runs, where they are named. posterior, measurement: what is made of the
    guided score, where samples answer a measurement by their score.
    """

    config: Config
    centered: bool = True
    parts: Mapping[str, Frozen] = dataclasses.field(default_factory=dict)
    posterior: PosteriorScore | None = None
    measurement: Measurement | None = None

    @property
    def scale(self) -> float:
        """lambda: 1 where the score is the label's own."""
        return strength(self.config)

    def score(self, system: Score, params: Params, condition: Condition) -> ScoreFn:
        """The guided score of examples of these conditions.

        c and u of one batch of twice as many, or u of the guide; what a classifier and a function add to that, the
        function through the denoiser of what it is added to; all of it between the interval's noise levels.
        """
        c, sde = self.config, system.sde(params)
        plain = system.score(params, condition, self._backwards)
        guided = plain
        if self.scale != 1:
            guided = classifier_free(self._pair(system, params, condition, plain), self.scale, c.rescale)
        if c.classifier_scale != 0:
            # Some posterior scores are made of slopes forwards, also of this gradient.
            backwards = self.posterior is None or self.posterior.reverse
            log_prob = asking.classifier(self.parts, params, condition, backwards)
            guided = classifier_guided(guided, log_prob, c.classifier_scale)
        if c.log_prob:
            function = asking.log_prob(c.log_prob, system.shape, self.centered)
            guided = guided_by(guided, sde, function, c.log_prob_scale)
        if c.interval and not PER_STEP[c.interval_by]:
            guided = limited(guided, plain, sde, *c.interval)
        return self._bounded(guided, sde)

    def _pair(self, system: Score, params: Params, condition: Condition, plain: ScoreFn) -> Pair:
        """The score that is asked for, and the one to get away from."""
        if "guide" in self.parts:
            return apart(plain, asking.guide(self.parts, params, condition, self._backwards, system.text))
        return batched(system.score(params, system.and_null(condition), self._backwards))

    def solver(
        self, inner: Solver | AdaptiveSolver, system: Score, params: Params, condition: Condition
    ) -> Solver | AdaptiveSolver:
        """The solver, which leaves guidance out of the steps outside of the interval where they decide."""
        c = self.config
        if not acts(c) or not c.interval or not PER_STEP[c.interval_by]:
            return inner
        assert isinstance(inner, Solver)  # validation refuses an adaptive one
        plain = self._bounded(system.score(params, condition, self._backwards), system.sde(params))
        return LimitedSteps(inner, plain, *c.interval)

    def evaluations(
        self, plain: Array, sde: SDE, times: Array, per_step: int, denoise: bool, repeats: int = 1
    ) -> Array:
        """Network evaluations, one of a batch of two counting as two, of `plain` [] or [B] ones of a solver.

        A guide's and a classifier's, with its gradient, count as one each, a function's as none. With an interval a
        step's count by where it begins, on a grid that is gone over so often.
        """
        more = (self.scale != 1) + (self.config.classifier_scale != 0)
        if not more:
            return plain
        if not self.config.interval:
            return (1 + more) * plain
        inside = within(sde, times, *self.config.interval)
        steps = per_step * jnp.sum(inside[:-1]) + denoise * inside[-1]
        return plain + more * repeats * steps.astype(plain.dtype)

    @property
    def _backwards(self) -> bool:
        """Whether scores are differentiated in x by reverse mode, and by that alone."""
        return self.config.log_prob != "" if self.posterior is None else self.posterior.reverse

    def _bounded(self, score: ScoreFn, sde: SDE) -> ScoreFn:
        """Given the measurement; and the denoiser within the data's range: [-1, 1], or [0, 1] about 1/2."""
        c, rule = self.config, THRESHOLDS[self.config.threshold]
        if self.posterior is not None and self.measurement is not None:
            score = self.posterior(score, sde, self.measurement)
        if rule is None:
            return score
        middle, half = (0.0, 1.0) if self.centered else (0.5, 0.5)
        return limits.thresholded(score, sde, lambda x0: half * rule(c, (x0 - middle) / half) + middle)
