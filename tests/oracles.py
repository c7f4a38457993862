"""The lists that every SDE and data law joins, and the fake networks of the goldens."""

import jax.numpy as jnp
import numpy as np

from score_sde.analytic import Gaussian, Mixture, gaussian, mixture
from score_sde.parametrization import Noise, Parametrization, Score, sigma_label, time_label
from score_sde.sde import SDE, subvp, ve, vp
from score_sde.typing import expand

SDES: dict[str, SDE] = {"vp": vp(), "subvp": subvp(), "ve": ve()}
"""With the goldens' constants."""

T_MIN = {"vp": 1e-3, "subvp": 1e-3, "ve": 1e-5}
"""Of sampling."""


def correlated() -> Gaussian:
    covariance = np.array([[0.5, 0.2, 0.0, 0.1], [0.2, 0.3, 0.1, 0.0], [0.0, 0.1, 0.4, 0.1], [0.1, 0.0, 0.1, 0.2]])
    return gaussian(jnp.arange(4.0).reshape(2, 2, 1), jnp.asarray(covariance))


def bimodal() -> Mixture:
    return mixture(jnp.array([1.0, 3.0]), jnp.stack([jnp.ones((2, 2, 1)), -jnp.ones((2, 2, 1))]), jnp.array([0.3, 0.5]))


FAKE = {  # the README of the goldens calls them A and B
    "vp": (Parametrization(Noise(), time_label), lambda x, c, s: 0.3 * x + 0.2 * jnp.tanh(expand(c, x) / 500)),
    "subvp": (Parametrization(Noise(), time_label), lambda x, c, s: 0.3 * x + 0.2 * jnp.tanh(expand(c, x) / 500)),
    "ve": (Parametrization(Score(), sigma_label), lambda x, c, s: -x / (1 + expand(c, x) ** 2)),
}
