"""Variational diffusion of toys: networks that are known, schedules bent between the same ends, integrals of both."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from score_sde.networks import Gamma
from score_sde.objectives.variational import Categorical
from score_sde.scores.parametrization import Noise, Parametrization
from score_sde.sde import Learned
from score_sde.solvers.sampling import Samples
from score_sde.systems import VDM
from score_sde.systems.score import Objective
from score_sde.typing import expand
from tests.golden_files import quick_jit

BYTES = Categorical(-1 + 1 / 256, 1 - 1 / 256)
"""The published coding, of which the house's differs: it has a byte's cell end at 1, not its value."""


class Toy(nn.Module):
    """tanh(0.8 z + 0.03 gamma), which the recorded losses and samples are of; it is told gamma."""

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None):
        return jnp.tanh(0.8 * x + 0.03 * expand(label, x))


class Linear(nn.Module):
    """The exact noise of data N(0, v): sigma x / (alpha^2 v + sigma^2), by a parameter."""

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None):
        v = self.param("v", nn.initializers.constant(0.3), ())
        low, high = jax.nn.sigmoid(-label), jax.nn.sigmoid(label)
        return expand(jnp.sqrt(high) / (low * jnp.asarray(v, x.dtype) + high), x) * x


def vdm(shape: tuple[int, ...], schedule: Any, network: nn.Module | None = None, **more: Any) -> VDM:
    return VDM(
        shape=shape,
        image_shape=shape,
        process=Learned({}, Gamma(fixed=True)),
        network=network or Toy(),
        parametrization=Parametrization(Noise(), lambda sde, t: -sde.log_snr(t)),
        objective=Objective(lambda *given: jnp.zeros(0)),
        sampler=lambda *given: Samples(jnp.zeros(0), jnp.int32(0)),
        schedule=schedule,
        **{"decoder": BYTES} | more,
    )


BENDS = {
    "linear": lambda t: t,
    "quadratic": lambda t: t**2,
    "cosine": lambda t: (1 - jnp.cos(jnp.pi * t)) / 2,
    "root": lambda t: 1.5 * t - 0.5 * t**2,
}


@dataclasses.dataclass(frozen=True)
class Bent:
    """A schedule without parameters, by the name of its shape."""

    name: str = "linear"
    low: float = -13.3
    high: float = 5.0

    def apply(self, variables, t):
        return self.low + (self.high - self.low) * BENDS[self.name](t)

    def init(self, key, t):
        return {"params": {}}


def integrals(system: VDM, params: Any, v: float, count: int = 1) -> tuple[float, float, float]:
    """Means over x_0 ~ N(0, v) of so many dimensions, eps and t, in nats per dimension: bound, diffusion, its square.

    The network is linear in z, so eps - eps^ is Gaussian and its mean square the sum of those of x_0 and of eps alone.
    """
    if steps := system.num_scales:
        u, weights = (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    else:
        nodes, weights = np.polynomial.legendre.leggauss(200)
        u, weights = (nodes + 1) / 2, weights / 2
    one = jnp.ones((len(u), 1))
    terms = quick_jit(lambda x, eps: system.terms_at(params, x, {}, jnp.asarray(u, one.dtype), eps, one))
    of_x, of_eps = terms(v**0.5 * one, 0 * one), terms(0 * one, one)
    mean = np.log(2) * np.asarray(of_x["diffusion"] + of_eps["diffusion"])
    bound = np.log(2) * float((of_x["recon"] + of_x["klz"]).mean()) + weights @ mean
    return bound, weights @ mean, (1 + 2 / count) * weights @ mean**2
