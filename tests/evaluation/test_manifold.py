"""Precision, recall, density and coverage against three tools' figures, as fractions; their errors cover."""

import numpy as np
import pytest

from score_sde.evaluation import blocks
from score_sde.evaluation.manifold import manifold
from tests.evaluation import goldens

SETS, GOLDEN = goldens.feature_sets(), goldens.metrics()["prc"]


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("name", GOLDEN)
def test_recorded_figures(name, k, monkeypatch):
    """torch-fidelity's and Kynkäänniemi's count what lies on a ball's edge, prdc does not, which ties tell."""
    monkeypatch.setattr(blocks, "MOST", 5000)
    a, b = SETS[name]
    golden, found = GOLDEN[name], manifold(a, b, k)
    expected = [
        *golden[f"torch_fidelity_float64_k{k}"][:2],
        *(golden[f"prdc_k{k}"][f] for f in ("density", "coverage")),
    ]
    np.testing.assert_allclose([figure.value for figure in found], expected, rtol=0, atol=1e-7)


def test_figures_do_not_depend_on_the_blocks(monkeypatch):
    a, b = (x[:170] for x in SETS["gauss16"])
    whole = manifold(a, b)
    monkeypatch.setattr(blocks, "MOST", 999)
    assert manifold(a, b) == whole


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_the_errors_cover(scale):
    """Of 40 pairs each figure's mean at least in 34, where 38 are to be expected."""
    random = np.random.default_rng(0)
    pairs = [(random.standard_normal((200, 6)) * scale, random.standard_normal((240, 6))) for _ in range(40)]
    found = np.array([manifold(a, b) for a, b in pairs])
    values, errors = found[..., 0], found[..., 1]
    assert (np.sum(abs(values - values.mean(0)) <= 2 * errors, axis=0) >= 34).all()
    assert (errors.mean(0) < 2.5 * values.std(0)).all()


def test_few_rows():
    x = np.random.default_rng(0).standard_normal((50, 2))
    assert np.isnan(manifold(x[:3], x)).all()
    values, errors = np.transpose(manifold(x[:4], x))
    assert np.isfinite(values).all() and np.isnan(errors).all()
