"""The noise as a mixture of what a standard normal prior says and what a network says (Vahdat et al. 2021)."""

import dataclasses

import jax

from score_sde.scores.parametrization import Prediction
from score_sde.sde import SDE
from score_sde.typing import Array, expand


@dataclasses.dataclass(frozen=True)
class Mixed(Prediction):
    """The network predicts eps_theta of the noise of x_t [B, ..., C] for channels mixed by `logit` [C]:

        eps = (1 - a) sigma x_t / (alpha^2 + sigma^2) + a eps_theta,  a = sigmoid(logit).

    The first term is the noise that x_0 ~ N(0, I) has, sigma x_t under VP, so that at a = 0 the model is N(0, I) and
    what there is to learn is how the data differ from it. Source: Vahdat et al. 2021 (arXiv 2106.05931), section 3.2.
    """

    logit: Array

    def _mixture(self, x: Array, sde: SDE, t: Array) -> tuple[Array, Array, Array]:
        """a [C], the standard normal's share of the noise, and sigma, broadcasting against x."""
        a = jax.nn.sigmoid(self.logit).reshape((1,) * (x.ndim - 1) + (-1,))
        alpha, sigma = expand(sde.alpha(t), x), expand(sde.sigma(t), x)
        return a, (1 - a) * sigma / (alpha**2 + sigma**2) * x, sigma

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        a, normal, sigma = self._mixture(x, sde, t)
        return -(normal + a * output) / sigma

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        a, normal, sigma = self._mixture(x, sde, t)
        return -(sigma * score + normal) / a
