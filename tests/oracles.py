"""The lists that every SDE and data law joins, and the fake networks of the goldens."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from score_sde.networks.gamma import Gamma
from score_sde.scores.parametrization import Noise, Parametrization, Score, sigma_label, time_label
from score_sde.sde import SDE, VE, VP, Learned, LinearVP, Straight, SubVP, cosine, karras, polynomial, subvp, ve, vp
from score_sde.sde.analytic import Gaussian, Mixture, gaussian, mixture
from score_sde.sde.chain import cosine_betas, linear_betas, vp_chain
from score_sde.solvers import reference
from score_sde.typing import expand
from tests.golden_files import load

SDES: dict[str, SDE] = {"vp": vp(), "subvp": subvp(), "ve": ve()}
"""Song et al.'s, with the goldens' constants."""

CONTINUOUS: dict[str, SDE] = {**SDES, "edm": karras()}

INTERPOLANTS: dict[str, SDE] = {
    "straight": Straight(), "polynomial": polynomial(2.0), "linear_vp": LinearVP(), "cosine": cosine(),
}  # fmt: skip

FLOWING: dict[str, SDE] = {**CONTINUOUS, "straight": INTERPOLANTS["straight"], "cosine": INTERPOLANTS["cosine"]}
"""With the two interpolants that are most used, for what solvers, likelihoods and guidance are certified on."""

LEARNED = Learned(
    {
        "ends": {"b": np.array([-12.0]), "w": np.array([-13.5])},
        "curve": {
            "l1": {"kernel": np.array([[0.5]]), "bias": np.array([0.1])},
            "l2": {"kernel": np.array([[2.0, -3.0]]), "bias": np.array([1.0, -1.5])},
            "l3": {"kernel": np.array([[0.8], [1.1]])},
        },
    },
    Gamma(features=2),
)

EVERY_SDE: dict[str, SDE] = {
    **CONTINUOUS, **INTERPOLANTS, "chain": vp_chain(linear_betas(1000)), "cosine chain": vp_chain(cosine_betas(40)),
    "learned": LEARNED,
}  # fmt: skip

T_MIN = {"vp": 1e-3, "subvp": 1e-3, "ve": 1e-5, "edm": 0.002, "straight": 1e-3, "cosine": 1e-3}
"""Of sampling."""


def correlated() -> Gaussian:
    covariance = np.array([[0.5, 0.2, 0.0, 0.1], [0.2, 0.3, 0.1, 0.0], [0.0, 0.1, 0.4, 0.1], [0.1, 0.0, 0.1, 0.2]])
    return gaussian(jnp.arange(4.0).reshape(2, 2, 1), jnp.asarray(covariance))


def bimodal() -> Mixture:
    return mixture(jnp.array([1.0, 3.0]), jnp.stack([jnp.ones((2, 2, 1)), -jnp.ones((2, 2, 1))]), jnp.array([0.3, 0.5]))


def recorded_law(name: str) -> Gaussian | Mixture:
    """The data of golden/solvers: "gauss" or "mix"."""
    g = load("closed_form", "solvers")
    if name == "gauss":
        return gaussian(jnp.asarray(g["gauss__mu"][0]), jnp.eye(6) * g["gauss__s"][0] ** 2)
    return mixture(*(jnp.asarray(g[f"mix__{k}"]) for k in ("w", "mu", "s")))


FAKE = {  # the README of the goldens calls them A and B
    "vp": (Parametrization(Noise(), time_label), lambda x, c, s: 0.3 * x + 0.2 * jnp.tanh(expand(c, x) / 500)),
    "subvp": (Parametrization(Noise(), time_label), lambda x, c, s: 0.3 * x + 0.2 * jnp.tanh(expand(c, x) / 500)),
    "ve": (Parametrization(Score(), sigma_label), lambda x, c, s: -x / (1 + expand(c, x) ** 2)),
}

FAKE_LEVELS = lambda x, c, s: -x / (1 + (expand(c, x) / 100) ** 2)
"""The goldens' fake network C, of SMLD's integer labels."""

CHAINS: dict[str, reference.Discretization] = {
    "vp": reference.DiscreteVP(VP()),
    "subvp": reference.DiscreteSubVP(SubVP()),
    "ve": reference.DiscreteVE(VE()),
}


@dataclasses.dataclass(frozen=True)
class OfficialNumerics(SDE):
    """VP or sub-VP with the official code's 1 - exp in float32, whose error the goldens carry at t = 1e-5."""

    exact: SDE
    T: float = 1.0

    def sigma(self, t):
        variance = 1 - jnp.exp(-self.exact.integrated_beta(t))
        return jnp.sqrt(variance) if isinstance(self.exact, VP) else variance

    def diffusion(self, t):
        if isinstance(self.exact, VP):
            return self.exact.diffusion(t)
        return jnp.sqrt(self.exact.beta(t) * (1 - jnp.exp(-2 * self.exact.integrated_beta(t))))

    def drift(self, x, t):
        return self.exact.drift(x, t)

    def alpha(self, t):
        return self.exact.alpha(t)

    def log_snr(self, t):
        return self.exact.log_snr(t)

    def time(self, log_snr):
        return self.exact.time(log_snr)

    @property
    def prior_std(self):
        return self.exact.prior_std


def official_numerics(name: str) -> SDE:
    """The SDE with the official code's numerics near t = 0."""
    return SDES[name] if name == "ve" else OfficialNumerics(SDES[name])
