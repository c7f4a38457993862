"""Power-function averages after training: any width as a combination of the stored ones, in float64 on the host.

An average of exponent gamma at time t weights the parameters of time tau in [0, t] by its profile
p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1); times count images (any unit does, as long as it is one).
Source: Karras et al. 2023 (EDM2), section 3 and appendix C.
"""

import math

import numpy as np

NEGLIGIBLE = 1e-12
"""Of profiles of the norm 1, the squared norm (over the largest) below which a combination of them counts as none."""


def gamma_to_std(gamma: float) -> float:
    """The profile's standard deviation relative to t: sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)."""
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def std_to_gamma(std: float) -> float:
    """The inverse: the largest root of (gamma + 2)^2 (gamma + 3) = (gamma + 1) / std^2, for 0 < std <= 12^(-1/2)."""
    s = std**-2
    roots = np.roots([1, 7, 16 - s, 12 - s])
    return float(np.max(roots[np.abs(roots.imag) < 1e-6 * np.abs(roots)].real))


def profiles(times: np.ndarray, stds: np.ndarray, length: int) -> np.ndarray:
    """Profiles sampled at 0, 1, ..., length - 1 and normalised to the sum 1; times, stds [K] -> [length, K]."""
    tau, times = np.arange(length)[:, None], np.asarray(times, np.float64)
    sampled = np.where(tau <= times, (tau / times) ** _gammas(stds), 0)
    return sampled / sampled.sum(0)


def correlations(times_a: np.ndarray, stds_a: np.ndarray, times_b: np.ndarray, stds_b: np.ndarray) -> np.ndarray:
    """The inner products of two sets of profiles, [A] and [B] -> [A, B].

    (g_a + 1) (g_b + 1) / (g_a + g_b + 1) (t_min / t_max)^g / t_max, g the exponent of the one that ends at t_max.
    """
    t_a, g_a = np.asarray(times_a, np.float64)[:, None], _gammas(stds_a)[:, None]
    t_b, g_b = np.asarray(times_b, np.float64), _gammas(stds_b)
    low, high = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * (low / high) ** np.where(t_a < t_b, g_b, g_a) / high


def coefficients(times: np.ndarray, stds: np.ndarray, wanted_times: np.ndarray, wanted_stds: np.ndarray) -> np.ndarray:
    """What to combine stored averages [K] with for the wanted ones [W] -> [K, W].

    The combined profiles are the nearest ones in the least-squares sense; the coefficients are then scaled to the sum
    1, so that parameters which never moved stay as they are. Widths that are alike, or several widths and many
    snapshots, make profiles that are nearly combinations of one another: directions which are nothing to float32
    parameters (NEGLIGIBLE) are left out, where a plain solution would take a million times one average from another.
    """
    gram = correlations(times, stds, times, stds)
    scale = 1 / np.sqrt(np.diag(gram))[:, None]
    wanted = scale * correlations(times, stds, wanted_times, wanted_stds)
    found = scale * np.linalg.lstsq(scale * gram * scale.T, wanted, rcond=NEGLIGIBLE)[0]
    return found / found.sum(0)


def _gammas(stds: np.ndarray) -> np.ndarray:
    return np.array([std_to_gamma(float(s)) for s in stds])
