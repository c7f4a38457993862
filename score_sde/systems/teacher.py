"""What a student learns from: a trained score of another run, guided or not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from score_sde.guidance.classifier_free import batched, classifier_free
from score_sde.systems.base import Condition, Params
from score_sde.systems.score import Score
from score_sde.typing import Array, ScoreFn

PART = "teacher"


@dataclasses.dataclass(frozen=True)
class Student(Score):
    """A network of its teacher's kind, which begins at the teacher's weights."""

    def init(self, key: Array, frozen: Params) -> Params:
        """The teacher's parameters; fresh ones where there is no teacher, as in what draws samples alone."""
        return jax.tree.map(jnp.asarray, frozen[PART]) if PART in frozen else super().init(key, frozen)


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A score system, guided by u + scale (c - u) of its label's and its null label's predictions (classifier-free).

    Of denoisers as of scores, which are linear in one another at given x. scale: 1 for the label's own.
    """

    system: Score
    scale: float = 1.0

    def denoiser(self, params: Params, condition: Condition, **execution: Any) -> ScoreFn:
        """(x [B, ...], t [] or [B]) -> E[x_0 | x_t = x] of its parameters; by one batch of 2 B where it is guided.

        execution: how its network is computed (`Score.apply`): as the student's, though nothing is differentiated.
        """
        if self.scale == 1:
            return self.system.denoiser(params, condition, **execution)
        both = self.system.denoiser(params, self.system.and_null(condition), **execution)
        return classifier_free(batched(both), self.scale)

    def score(self, params: Params, condition: Condition) -> ScoreFn:
        """Its score, likewise."""
        if self.scale == 1:
            return self.system.score(params, condition)
        both = self.system.score(params, self.system.and_null(condition))
        return classifier_free(batched(both), self.scale)
