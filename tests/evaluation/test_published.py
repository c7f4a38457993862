"""The figures that torchmetrics' documentation prints, of two random sets, to the last digit."""

import numpy as np

from score_sde.evaluation.frechet import frechet_distance
from score_sde.evaluation.kernel import kernel_distance
from tests.evaluation.goldens import GOLDEN

with np.load(GOLDEN / "published_features.npz") as stored:
    FEATURES = dict(stored)


def test_the_frechet_distance():
    assert f"{frechet_distance(FEATURES['a_64'], FEATURES['b_64']):.4f}" == "12.7202"


def test_the_kernel_distance():
    """Of their subsets; of all rows within their spread."""
    a, b = FEATURES["a_2048"], FEATURES["b_2048"]
    drawn = [kernel_distance(a[x], b[y]).value for x, y in FEATURES["subsets"]]
    assert (f"{np.mean(drawn):.4f}", f"{np.std(drawn):.4f}") == ("0.0337", "0.0023")
    whole = kernel_distance(a, b)
    assert abs(whole.value - 0.0337) < 0.0005 and 0.001 < whole.error < 0.004
