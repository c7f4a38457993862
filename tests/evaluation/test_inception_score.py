"""The inception score against torch-fidelity's and the first code's figures."""

import numpy as np
import pytest

from score_sde.evaluation.inception_score import inception_score
from tests.evaluation import goldens

LOGITS, GOLDEN = goldens.logit_sets(), goldens.metrics()["isc"]


@pytest.mark.parametrize("splits", [1, 7, 10])
@pytest.mark.parametrize(("order", "seed"), [("shuffle2020", 2020), ("inorder", None)])
@pytest.mark.parametrize("name", GOLDEN)
def test_recorded_figures(name, order, seed, splits):
    """Probabilities that underflow, where the first code gives NaN, and classes that no picture has, among them."""
    expected = GOLDEN[name][f"torch_fidelity_splits{splits}_{order}"]
    np.testing.assert_allclose(inception_score(LOGITS[name], splits, seed), expected, rtol=1e-12, atol=1e-12)


def test_bounds():
    """Sure and even: the number of classes; unsure: 1; too few rows: not known."""
    sure = 1000 * np.eye(7)[np.arange(700) % 7]
    assert inception_score(sure, 1).value == pytest.approx(7)
    assert inception_score(np.zeros((50, 7))) == (1, 0)
    assert np.isnan(inception_score(sure[:9])).all()
