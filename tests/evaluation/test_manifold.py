"""Precision, recall, density and coverage against three tools' figures, as fractions; their errors cover."""

import numpy as np
import pytest

from score_sde.evaluation import blocks
from score_sde.evaluation.manifold import manifold
from score_sde.evaluation.neighbours import copying_ratio
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


FAR = {
    "far and narrow": (0.4, 1e-6, None),
    "narrower": (0.4, 1e-9, None),
    "far away": (1e6, 1.0, None),
    "an outlier": (0.0, 1.0, 1e8),
}


@pytest.mark.parametrize("name", FAR)
def test_where_they_lie_and_how_close_changes_nothing(name):
    """Figures of neighbours do not change when all is moved and scaled; one example far away changes little."""
    middle, spread, outlier = FAR[name]
    x, y, z = (np.random.default_rng(i).normal(size=(90, 3)) for i in range(3))
    if outlier is not None:
        y[7] = outlier
    moved = [middle + spread * part for part in (x, y, z)]
    found, expected = (np.array(manifold(*pair), float)[:, 0] for pair in (moved[:2], (x, y)))
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert 0.8 < expected[0] <= 1 and expected[1] > 0.8 and expected[3] > 0.8
    assert copying_ratio(*moved) == pytest.approx(_ratio(x, y, z), rel=1e-3)


def _ratio(x, y, z):
    """By plain differences."""
    near = lambda a: np.median(np.sqrt(((a[:, None] - y[None]) ** 2).sum(-1)).min(1))
    return near(x) / near(z)


def test_what_is_not_finite_has_no_figure():
    x = np.random.default_rng(0).normal(size=(90, 3))
    bad = np.where(np.arange(90)[:, None] == 4, np.nan, x)
    assert np.isnan(np.array(manifold(bad, x), float)).all() and np.isnan(np.array(manifold(x, bad), float)).all()
