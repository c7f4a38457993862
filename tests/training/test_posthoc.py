"""Widths after training: the recorded numbers of EDM2's own code, quadrature, and averages tracked at every step."""

import numpy as np
import pytest

from score_sde.config.averages import LARGEST_STD
from score_sde.training.posthoc import coefficients, correlations, gamma_to_std, profiles, std_to_gamma
from tests.golden_files import GOLDEN as GOLDEN_FOLDER
from tests.golden_files import load, relative_error

GOLDEN = load("edm2_ema_loss", "solvers")
STORED, WANTED = GOLDEN["posthoc_in"].T, GOLDEN["posthoc_out"].T


def test_golden_widths_and_exponents():
    """To 1e-12, there and back."""
    np.testing.assert_allclose([std_to_gamma(s) for s in GOLDEN["std"]], GOLDEN["gamma"], rtol=1e-12)
    np.testing.assert_allclose([gamma_to_std(g) for g in GOLDEN["gamma"]], GOLDEN["std_back"], rtol=1e-12)


def test_golden_profiles():
    np.testing.assert_allclose(profiles(np.array([10, 25, 37]), np.array([0.05, 0.1, 0.2]), 40), GOLDEN["response"],
                               rtol=1e-11, atol=1e-16)  # fmt: skip


def test_golden_correlations_and_coefficients():
    """Largest coefficients 2.1: to 1e-11 in all."""
    assert relative_error(correlations(*STORED, *STORED), GOLDEN["posthoc_corr"]) < 1e-13
    np.testing.assert_allclose(coefficients(*STORED, *WANTED), GOLDEN["posthoc_coef"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 6.94, 1000.0])
def test_the_width_is_the_standard_deviation_of_the_profile(gamma):
    """By the midpoint rule over [0, 1]; gamma = 0 has the largest width allowed to have a monotonous profile."""
    tau = (np.arange(200_000) + 0.5) / 200_000
    p = (gamma + 1) * tau**gamma
    std = np.sqrt(np.mean(p * (tau - np.mean(p * tau)) ** 2))
    np.testing.assert_allclose(gamma_to_std(gamma), std, rtol=1e-5)
    np.testing.assert_allclose(std_to_gamma(gamma_to_std(gamma)), gamma, rtol=1e-9, atol=1e-9)
    assert gamma_to_std(gamma) <= LARGEST_STD * (1 + 1e-12)


def test_correlations_are_integrals_of_products():
    """By the midpoint rule; of profiles that end at different times, either one first."""
    tau = (np.arange(400_000) + 0.5) / 400_000
    profile = lambda t, g: np.where(tau < t, (g + 1) / t * (tau / t) ** g, 0)
    a, b = (0.5, 0.05), (1.0, 0.2)
    expected = np.mean(profile(a[0], std_to_gamma(a[1])) * profile(b[0], std_to_gamma(b[1])))
    for one, other in ((a, b), (b, a)):
        found = correlations(*(np.array([v]) for v in (*one, *other)))
        np.testing.assert_allclose(found, [[expected]], rtol=1e-6)


def test_a_stored_average_is_its_own_reconstruction():
    found = coefficients(*STORED, *STORED)
    np.testing.assert_allclose(found, np.eye(8), atol=1e-12)


def track(params: np.ndarray, std: float) -> np.ndarray:
    """The power-function averages [n, paths] after every step of one image, by their recursion."""
    averages, e, gamma = np.empty_like(params), params[0], std_to_gamma(std)
    for k, p in enumerate(params):
        r = (1 - 1 / (k + 1)) ** (gamma + 1)
        averages[k] = e = r * e + (1 - r) * p
    return averages


PATHS = 64
"""Scalar parameters, each a decay that has not settled, a random walk and noise of its own."""


@pytest.fixture(scope="module")
def params() -> np.ndarray:
    n, rng = 4096, np.random.default_rng(0)
    decay = np.exp(-np.arange(n)[:, None] / rng.uniform(500, 3000, PATHS))
    return decay + np.cumsum(rng.normal(size=(n, PATHS)), 0) / n + 0.1 * rng.normal(size=(n, PATHS))


def tracked(params: np.ndarray, stds: tuple[float, ...], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, widths and averages of so many snapshots, the last one of the end."""
    times = np.arange(1, count + 1) * (len(params) // count)
    stored = np.stack([track(params, std)[times - 1] for std in stds], 1).reshape(-1, PATHS)
    return np.repeat(times, len(stds)), np.tile(stds, count), stored


def error(params: np.ndarray, snapshots: tuple[np.ndarray, np.ndarray, np.ndarray], std: float) -> float:
    """Of the average put together from them, relative to the noise of the parameters."""
    c = coefficients(*snapshots[:2], np.array([len(params)]), np.array([std]))
    return np.sqrt(np.mean((c[:, 0] @ snapshots[2] - track(params, std)[-1]) ** 2)) / 0.1


@pytest.mark.parametrize(("count", "inside", "beyond"), [(16, 2e-3, 2e-2), (64, 5e-5, 1e-3)])
def test_other_widths_are_those_tracked_at_every_step(params, count, inside, beyond):
    """4,096 steps; 16 or 64 snapshots of the widths 0.05 and 0.1; errors relative to the noise of the parameters."""
    snapshots = tracked(params, (0.05, 0.1), count)
    for std, limit in ((0.04, inside), (0.05, 1e-12), (0.07, inside), (0.1, 1e-12), (0.15, inside), (0.2, beyond)):
        assert error(params, snapshots, std) < limit


@pytest.mark.parametrize(
    ("stds", "std", "said"),
    [((0.1, 0.101), 0.15, "67"), ((0.1, 0.101), 0.04, "1,300"), ((0.05, 0.1), 0.15, "1.7"), ((0.05, 0.1), 0.04, "4.3")],
)
def test_the_guides_coefficients(stds, std, said):
    """Their absolute sum, of 64 snapshots."""
    guide = (GOLDEN_FOLDER.parents[1] / "docs" / "averages.md").read_text()
    times = np.repeat(np.arange(1, 65), 2)
    found = np.abs(coefficients(times, np.tile(stds, 64), np.array([64]), np.array([std]))).sum()
    np.testing.assert_allclose(found, float(said.replace(",", "")), rtol=0.03)
    assert said in guide.split("Widths go up to")[1].split("\n\n")[0]


@pytest.mark.parametrize(
    ("stds", "count", "limit"),
    [((0.1, 0.101), 64, 5e-5), ((0.1, 0.105, 0.11), 128, 1e-5), ((0.05, 0.1, 0.15, 0.2), 128, 2e-6)],
)
def test_profiles_that_nearly_depend_on_one_another_cost_no_accuracy(params, stds, count, limit):
    """In float32. The last two have condition numbers beyond 1e16: a plain solution is 10 to 200 times worse."""
    *grid, stored = tracked(1 + params, stds, count)
    for std in (0.07, 0.15):
        assert error(1 + params, (*grid, stored.astype(np.float32).astype(np.float64)), std) < limit
