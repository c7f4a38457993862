"""The official score_sde code's controllable generation, number for number: inpainting, colours, classes.

The known part is replaced after every correction and prediction, by noise of the level x has left; its mean is made of
the x that was just noised; the start knows the known part without noise. All of that is kept here and nowhere else
(docs/deviations.md). Every function takes its noise, so that recorded runs can be replayed. Source: Song et al. 2021,
section 5 and appendix I, and their sampling code's behaviour.
"""

import abc
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.guidance.classifier import class_log_prob, classifier_guided
from score_sde.sde.analytic import product
from score_sde.solvers.base import Step
from score_sde.solvers.reference import Corrector, Discretization, Draw, Predictor
from score_sde.typing import Array, ScoreFn, expand

COLOURS = np.array(
    [
        [5.7735014e-01, -8.1649649e-01, 4.7008697e-08],
        [5.7735026e-01, 4.0824834e-01, 7.0710671e-01],
        [5.7735026e-01, 4.0824822e-01, -7.0710683e-01],
    ]
)
"""Their rotation of (red, green, blue), as a row, to a grey axis and two more: orthonormal to 1.7e-7."""


class Known(abc.ABC):
    """What is known of the examples [B, ...], and how it is put in the place of the model's."""

    @abc.abstractmethod
    def start(self, prior: Array) -> Array:
        """The first x, of a draw of the prior: the known part as it is, without noise."""

    @abc.abstractmethod
    def replaced(self, chain: Discretization, x: Array, t: Array, z: Array) -> Step:
        """x with the known part at the level of t [B], by its noise z; as the mean that of x with it noise-free."""


@dataclasses.dataclass(frozen=True)
class Masked(Known):
    """Data [B, ...], known where the mask, of a shape that goes with them, is 1."""

    data: Array
    mask: Array

    def start(self, prior: Array) -> Array:
        return self.data * self.mask + prior * (1 - self.mask)

    def replaced(self, chain: Discretization, x: Array, t: Array, z: Array) -> Step:
        mean, std = chain.sde.marginal(self.data, t)
        noised = x * (1 - self.mask) + (mean + expand(std, x) * z) * self.mask
        return Step(noised, noised * (1 - self.mask) + mean * self.mask)


@dataclasses.dataclass(frozen=True)
class Grey(Known):
    """Grey pictures [B, H, W, 3], their three channels alike, of which the colours are sought."""

    pictures: Array

    def start(self, prior: Array) -> Array:
        # The mask meets the prior's draw before the rotation, as published.
        unknown = self._turned(prior * (1 - self._mask))
        return self._back(self._turned(self.pictures) * self._mask + unknown)

    def replaced(self, chain: Discretization, x: Array, t: Array, z: Array) -> Step:
        found = self._inner.replaced(chain, self._turned(x), t, z)
        return Step(self._back(found.x), self._back(found.mean))

    @property
    def _mask(self) -> Array:
        return jnp.array([1.0, 0.0, 0.0], self.pictures.dtype)[None, None, None]

    @property
    def _inner(self) -> Masked:
        return Masked(self._turned(self.pictures), self._mask)

    def _turned(self, x: Array) -> Array:
        return product(x, jnp.asarray(COLOURS, x.dtype)[None, None])

    def _back(self, x: Array) -> Array:
        return product(x, jnp.asarray(np.linalg.inv(COLOURS), x.dtype)[None, None])


def controlled(
    chain: Discretization,
    score: ScoreFn,
    x: Array,
    known: Known,
    predictor: Predictor,
    corrector: Corrector | None,
    noise: Draw,
    *,
    corrections: int = 1,
    t_min: float = 1e-5,
    denoise: bool = True,
) -> tuple[Array, Array]:
    """The official inpainting and colourisation from the prior draw x [B, ...]: samples, network evaluations [].

    The loop of `reference.predictor_corrector`, the known part replaced after the corrections, though there be none,
    and after the predictor, at the same t. At each node noise(i, j) is drawn for the corrections, what is known, the
    predictor, what is known. denoise: the mean after the last replacement, whose unknown part is as noisy as x.
    """
    if corrector is None:
        corrections = 0

    def body(carry: Step, inputs: tuple[Array, Array]) -> tuple[Step, None]:
        i, t = inputs
        t = jnp.broadcast_to(t, x.shape[:1])
        correct = lambda j, y: y if corrector is None else corrector(chain, score, y, t, noise(i, j)).x
        y = jax.lax.fori_loop(0, corrections, correct, carry.x)
        y = known.replaced(chain, y, t, noise(i, corrections)).x
        y = predictor(chain, score, y, t, noise(i, corrections + 1)).x
        return known.replaced(chain, y, t, noise(i, corrections + 2)), None

    grid = jnp.linspace(chain.sde.T, t_min, chain.num_scales)
    first = known.start(x)
    last, _ = jax.lax.scan(body, Step(first, first), (jnp.arange(chain.num_scales), grid))
    evaluations = jnp.int32(chain.num_scales * (corrections + predictor.evaluations))
    return (last.mean if denoise else last.x), evaluations


def class_score(
    chain: Discretization, score: ScoreFn, logits: Callable[[Array, Array], Array], label: Array
) -> ScoreFn:
    """The score with the official classifier's slope, scale 1, for `reference.predictor_corrector`; label int [B].

    The classifier (x [B, ...], sigma [B]) -> [B, classes] is told sigma(t) under every SDE, although it was trained
    under VE and of an alpha that is not 1 it would want x / alpha and sigma / alpha.
    """
    told = lambda x, t: logits(x, jnp.broadcast_to(chain.sde.sigma(t), x.shape[:1]))
    return classifier_guided(score, class_log_prob(told, label))
