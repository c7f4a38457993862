"""What every exponential integrator shares: the ODE and the SDEs in log-SNR, where their linear part is solved exactly.

With l = log(alpha / sigma), a step of length d = l_s - l_t and an output m(l) of the network on the way,
    x_s = ratio x_t - scale I + noise z,    I = h int_0^1 e^{h (1 - u)} m(l_t + u d) du,
where h = d for the noise prediction and h = -(1 + churn^2) d for the data prediction. Of a polynomial
m = sum_k c_k u^k it is I = sum_k k! E_{k+1}(h) c_k, with E_1 = e^h - 1 and E_{k+1} = E_k / h - 1 / k!.
Sources: Lu et al. 2022 (arXiv 2206.00927, 2211.01095), Zhang & Chen 2022 (arXiv 2204.13902), Xue et al. 2023 (arXiv
2309.05019).
"""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp

from score_sde.sde import SDE, Churn, one_minus_exp
from score_sde.typing import Array, ScoreFn, Time, expand


class Node(NamedTuple):
    """A time, its alpha and sigma, and the logarithm of their ratio; all of one shape."""

    t: Array
    alpha: Array
    sigma: Array
    log_ratio: Array


def node(sde: SDE, t: Time) -> Node:
    """The Node of one time or of a whole grid."""
    t = jnp.asarray(t)
    return Node(t, sde.alpha(t), sde.sigma(t), 0.5 * sde.log_snr(t))


class Frame(NamedTuple):
    """What a step from one node to another multiplies, see above; of the nodes' shape."""

    ratio: Array
    scale: Array
    h: Array
    noise: Array


def moments(h: Array, count: int) -> Array:
    """k! E_{k+1}(h) for k = 0 .. count - 1, stacked in the last axis.

    int_0^1 h e^{h (1 - u)} u^k du: upwards by the recursion, or, where that would cancel, by the series in h.
    """
    upwards = [jnp.expm1(h)]
    for k in range(1, count):
        upwards.append(upwards[-1] / h - 1 / math.factorial(k))
    small = jnp.abs(h) < 1
    bounded = jnp.where(small, h, 0.0)
    series = [sum((1 / math.factorial(j + k)) * bounded**j for j in range(1, 16)) for k in range(count)]
    return jnp.stack(
        [float(math.factorial(k)) * jnp.where(small, s, u) for k, (s, u) in enumerate(zip(series, upwards))], -1
    )


class Prediction(abc.ABC):
    """Which output of the network is taken for a polynomial over a step."""

    noisy: bool
    """Whether steps add noise."""

    @abc.abstractmethod
    def output(self, sde: SDE, score: ScoreFn, x: Array, t: Array) -> Array:
        """m at (x, t) [B, ...], one evaluation."""

    @abc.abstractmethod
    def frame(self, a: Node, b: Node) -> Frame:
        """Of the step from a to b."""

    def first_order(self, x: Array, m: Array, a: Node, b: Node) -> Array:
        """The step from a to b with m constant, without its noise."""
        frame = self.frame(a, b)
        return expand(frame.ratio, x) * x - expand(frame.scale * jnp.expm1(frame.h), x) * m


@dataclasses.dataclass(frozen=True)
class Noise(Prediction):
    """m = E[eps | x_t] = -sigma score: x_s / alpha_s = x_t / alpha_t + int m d(sigma / alpha)."""

    noisy: bool = dataclasses.field(default=False, init=False)

    def output(self, sde: SDE, score: ScoreFn, x: Array, t: Array) -> Array:
        return -expand(sde.sigma(t), x) * score(x, t)

    def frame(self, a: Node, b: Node) -> Frame:
        return Frame(b.alpha / a.alpha, b.sigma, b.log_ratio - a.log_ratio, jnp.zeros_like(b.alpha))


@dataclasses.dataclass(frozen=True)
class Data(Prediction):
    """m = E[x_0 | x_t]: x_s / sigma_s = x_t / sigma_t + int m d(alpha / sigma) for the probability-flow ODE.

    churn is that of sde.reverse, constant over a step where it is a function of t: its value at the middle in log-SNR
    is not known to the step, so the mean of its squares at the two ends stands in.
    """

    churn: Churn = 0.0

    @property
    def noisy(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.churn != 0

    def output(self, sde: SDE, score: ScoreFn, x: Array, t: Array) -> Array:
        return (x + expand(sde.sigma(t) ** 2, x) * score(x, t)) / expand(sde.alpha(t), x)

    def frame(self, a: Node, b: Node) -> Frame:
        d = b.log_ratio - a.log_ratio
        if not self.noisy:  # d may be infinite: a step to sigma = 0
            return Frame(b.sigma / a.sigma, b.alpha, -d, jnp.zeros_like(d))
        fade = 0.5 * (self._at(a) ** 2 + self._at(b) ** 2) * d
        return Frame(
            ratio=b.sigma / a.sigma * jnp.exp(-fade),
            scale=b.alpha,
            h=-(d + fade),
            noise=b.sigma * jnp.sqrt(one_minus_exp(2 * fade)),
        )

    def _at(self, node: Node) -> Array | float:
        """The churn at nodes."""
        return self.churn(node.t) if callable(self.churn) else self.churn


@dataclasses.dataclass(frozen=True)
class Peaked(Data):
    """Data with as much noise as `peaked` says, `churn` being the most of it, at sigma / alpha = center."""

    center: float = 0.5

    def _at(self, node: Node) -> Array | float:
        assert not callable(self.churn)
        return peaked(node.log_ratio, self.churn, self.center)


def peaked(log_ratio: Array, most: float | Array, center: float) -> Array:
    """The churn 1 + (most - 1) exp(-l^2 / 2), l = log(sigma / (alpha center)), of log(alpha / sigma).

    Approximate scores of posteriors are least right, and modes part, where sigma / alpha is about the data's standard
    deviation: noise put back there is drawn again with what is known further on.
    """
    return 1 + (most - 1) * jnp.exp(-0.5 * (log_ratio + math.log(center)) ** 2)
