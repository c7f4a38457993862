"""The recorded problems of golden/conditioning: data, operators, measurements."""

import jax.numpy as jnp
import numpy as np

from score_sde.guidance.measurement import Measurement, measurement
from score_sde.guidance.operators import Operator, matrix
from score_sde.sde.analytic import Mixture, mixture
from tests.golden_files import Arrays, load

FOLDER = "conditioning"
PROBLEMS = ("inpaint", "blur", "box")


def golden(name: str) -> Arrays:
    return load(name, FOLDER)


def law(name: str) -> Mixture:
    """gauss, mix (of eight numbers) or mixf (of four)."""
    w, mu, cov = (jnp.asarray(golden("oracles")[f"{name}/{k}"]) for k in ("w", "mu", "cov"))
    return mixture(w, mu, covariances=cov)


def operator(name: str, problem: str) -> Operator:
    A = golden("oracles")[f"{name}/{problem}/A"]
    return matrix(A, (A.shape[1],))


def measured(name: str, problem: str, y: np.ndarray, sigma_y: float = 0.1) -> Measurement:
    """One measurement for all examples."""
    A = operator(name, problem)
    return measurement(A, jnp.asarray(y)[None], sigma_y, law(name).means.shape[1:])
