"""The kernel distance against torch-fidelity's, MMD-GAN's and clean-fid's figures; its error covers."""

import numpy as np
import pytest

from score_sde.evaluation import blocks
from score_sde.evaluation.kernel import Polynomial, kernel_distance, subset_distances
from tests.evaluation import goldens

SETS, GOLDEN = goldens.feature_sets(), goldens.metrics()["kid"]


@pytest.mark.parametrize("name", GOLDEN)
def test_recorded_figures(name, monkeypatch):
    monkeypatch.setattr(blocks, "MOST", 5000)
    a, b = SETS[name]
    golden = GOLDEN[name]
    options = {"subsets": golden["subsets"], "size": golden["subset_size"]}
    scale = max(1.0, abs(golden["whole_biased"]))
    drawn = subset_distances(a, b, **options)
    for key, tolerance in (("torch_fidelity_seed2020_float64", 1e-12), ("torch_fidelity_seed2020", 1e-5)):
        np.testing.assert_allclose([drawn.mean(), drawn.std()], golden[key], rtol=tolerance, atol=tolerance * scale)
    other = subset_distances(a, b, **options, seed=7, kernel=Polynomial(2, 0.5, 0.01))
    expected = golden["torch_fidelity_degree2_coef.5_gamma.01_seed7_float64"]
    np.testing.assert_allclose([other.mean(), other.std()], expected, rtol=1e-12, atol=1e-12 * scale)
    size = golden["whole_size"]
    whole = kernel_distance(a[:size], b[:size])
    np.testing.assert_allclose(whole.value, golden["whole_unbiased"], rtol=1e-11, atol=1e-12 * scale)


def test_the_error_is_near_another_estimate_of_it():
    """MMD-GAN's, which is unbiased of the variance."""
    golden, (a, b) = GOLDEN["gauss16"], SETS["gauss16"]
    size, (_, variance) = golden["whole_size"], golden["mmdgan_whole_and_variance"]
    assert kernel_distance(a[:size], b[:size]).error == pytest.approx(np.sqrt(variance), rel=0.05)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.4)])
def test_the_error_covers_the_distance_of_the_laws(shift, scale):
    """The estimate is unbiased: of 300 pairs 95 % hold the mean of many, but for chance (3 standard deviations)."""
    random = np.random.default_rng(0)
    pairs = [(random.standard_normal((60, 8)) * scale + shift, random.standard_normal((90, 8))) for _ in range(300)]
    values, errors = np.transpose([kernel_distance(a, b) for a, b in pairs])
    assert np.mean(abs(values - values.mean()) < 1.96 * errors) > 0.9
    if scale == 1 and shift == 0:
        assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)


def test_few_rows():
    a = np.eye(3)
    assert np.isnan(kernel_distance(a[:1], a)).all()
    two = kernel_distance(a[:2], a)
    assert two.value == pytest.approx(1 + 1 - 2 * (2 * (4 / 3) ** 3 + 4) / 6) and np.isnan(two.error)
    assert len(subset_distances(a, a, subsets=3)) == 3
