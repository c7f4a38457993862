"""All figures together: which there are of what, and what is said of those that are not."""

import json

import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.evaluation.figures import NAMES, figures
from score_sde.evaluation.frechet import frechet
from score_sde.evaluation.statistics import FeatureSet

RANDOM = np.random.default_rng(0)
X, Y, Z = (RANDOM.standard_normal((n, 4)) for n in (200, 240, 50))
ABOUT = {"features": "inception", "preprocessing": "tf1"}


def of(rows, **more) -> FeatureSet:
    return FeatureSet.of(rows, ABOUT, **more)


def test_of_features_and_logits():
    found = figures(of(X, logits=RANDOM.standard_normal((200, 5))), of(Y), of(Z))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    missing = {name for name in NAMES if found[name] is None}
    assert missing == {"frechet_distance_extrapolated"}
    assert (found["frechet_distance"], found["frechet_distance_error"]) == frechet(X, Y)
    assert 1 < found["inception_score"] < 5 and 0.5 < found["copying_ratio"] < 2
    assert (found["num_samples"], found["num_data"]) == (200, 240)
    assert found["notes"] == ["not extrapolated to infinitely many samples, which takes 5,000 of them"]


def test_against_moments_alone():
    data = of(Y)
    found = figures(of(X), FeatureSet(data.moments, data.about))
    assert {name for name in NAMES if found[name] is not None} == {"frechet_distance"}
    assert found["frechet_distance"] == pytest.approx(frechet(X, Y).value, rel=1e-9)
    assert 0 < found["frechet_distance_error"] < frechet(X, Y).error
    assert any("against moments alone there is the Fréchet distance only" in note for note in found["notes"])
    assert any("no inception score: the weights have no head" in note for note in found["notes"])


def test_of_many_samples_the_distance_is_extrapolated():
    rows = np.random.default_rng(1).standard_normal((5000, 3))
    found = figures(of(rows), FeatureSet(of(rows + 1).moments, ABOUT))
    value, error = (found[f"frechet_distance_extrapolated{end}"] for end in ("", "_error"))
    assert abs(value - 3) < 3 * error < 0.3 and "extrapolated" not in str(found["notes"])


def test_few_rows_are_told_and_other_kinds_refused():
    found = figures(of(X[:3]), of(Y[:3]))
    assert found["notes"][0].startswith("fewer than the 4 dimensions of the features: 3 samples and 3 of the data; the")
    assert found["precision"] is None and found["frechet_distance"] > 0
    with pytest.raises(UsageError, match="the samples and the data differ in preprocessing, 'tf1' and 'clean'"):
        figures(of(X), FeatureSet.of(Y, {"features": "inception", "preprocessing": "clean"}))


def test_too_few_data_are_not_extrapolated_and_what_was_left_out_is_told():
    x = np.random.default_rng(0).normal(size=(5000, 2))
    found = figures(FeatureSet.of(x, {}), FeatureSet.of(x[:2], {"not_finite": 3}))
    assert found["frechet_distance_extrapolated"] is None and found["frechet_distance"] > 0
    assert "not extrapolated to infinitely many samples: 2 of the data are too few" in found["notes"]
    assert "3 of the data, or of their features, are not finite, and in no figure" in found["notes"]


def test_other_dimensions_are_refused():
    a, b = (FeatureSet.of(np.eye(d), {}) for d in (3, 4))
    with pytest.raises(UsageError, match="the samples and the data have features of 3 and 4 dimensions"):
        figures(a, b)
