"""Files of features and moments: of ours, merged, and as other programs write them."""

import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.evaluation.frechet import frechet_distance
from score_sde.evaluation.statistics import FeatureSet, load

ABOUT = {"features": "inception", "fingerprint": "f00", "preprocessing": "tf1", "dataset": "digits", "split": "train"}
X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


@pytest.mark.parametrize("kept", [True, False])
def test_written_and_read_again(tmp_path, kept):
    written = FeatureSet.of(X, ABOUT, logits=X[:, :2])
    written.save(tmp_path / "a.npz", keep_features=kept)
    found, warning = load(tmp_path / "a.npz")
    assert not warning and found.about == {**ABOUT, "n": 40} and found.moments.n == 40
    for old, new in zip(written.moments[1:], found.moments[1:]):
        np.testing.assert_array_equal(old, new)
    if kept:
        np.testing.assert_array_equal(found.features, X)
        np.testing.assert_array_equal(found.logits, X[:, :2])
    else:
        assert found.features is None and found.logits is None


def test_parts_of_several_runs_are_merged():
    a, b, whole = (FeatureSet.of(x, ABOUT) for x in (X[:7], X[7:], X))
    merged = a.merged(b)
    assert merged.about["n"] == merged.moments.n == 40
    np.testing.assert_array_equal(merged.features, X)
    np.testing.assert_allclose(merged.moments.covariance, whole.moments.covariance, rtol=1e-12)
    without = FeatureSet(a.moments, a.about).merged(b)
    assert without.features is None and without.moments.n == 40
    with pytest.raises(UsageError, match="one part and another differ in preprocessing"):
        a.merged(FeatureSet.of(X, {**ABOUT, "preprocessing": "clean"}))


@pytest.mark.parametrize("name", ["mu and sigma", "pool_3", "feats"])
def test_files_of_other_programs(tmp_path, name):
    """pytorch-fid's, clean-fid's, EDM's, guided-diffusion's; features of score_sde's first code and clean-fid."""
    moments = FeatureSet.of(X, {}).moments
    arrays = {"mu": moments.mean, "sigma": moments.covariance} if " " in name else {name: X}
    np.savez(tmp_path / "a.npz", **arrays)
    found, warning = load(tmp_path / "a.npz")
    assert frechet_distance(found.moments, moments) == pytest.approx(0, abs=1e-9)
    unknown = ", number of images" if " " in name else ""
    assert f"does not say its preprocessing, weights, dataset and split{unknown}: compare" in warning
    assert found.about == {} and (found.features is None) == (" " in name)


BAD = {
    "text": (b"mu, sigma", r"cannot be read as statistics \(it is no \.npz file\): name an \.npz file with mu and"),
    "empty": (b"", "cannot be read as statistics"),
    "array": (X, "is one array"),
    "images": ({"arr_0": X}, r"holds \['arr_0'\]: name an \.npz"),
    "vector": ({"pool_3": X[0]}, r"holds \['pool_3'\]"),
    "shapes": ({"mu": X[0], "sigma": X}, r"mu of shape \(3,\) and sigma of shape \(40, 3\)"),
    "nan": ({"mu": X[0] * np.nan, "sigma": X[:3]}, "numbers that are not finite"),
    "one": ({"feats": X[:1]}, "fewer than two rows"),
    "numbers": ({"mu": X[0], "sigma": np.eye(3), "n": np.array([3, 4])}, "cannot be read as statistics"),
    "about": ({"mu": X[0], "sigma": np.eye(3), "about": np.array("[1]")}, r"says about itself \[1\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_file(tmp_path, name):
    content, message = BAD[name]
    with (tmp_path / "a.npz").open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        elif isinstance(content, dict):
            np.savez(file, **content)
        else:
            np.save(file, content)
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "a.npz")


def test_another_program_reads_ours(tmp_path):
    """mu and sigma, as they are named everywhere."""
    FeatureSet.of(X, ABOUT).save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as stored:
        np.testing.assert_allclose(stored["mu"], X.mean(0), rtol=1e-6)
        np.testing.assert_allclose(stored["sigma"], np.cov(X, rowvar=False), rtol=1e-6)


def test_parts_that_do_not_say_of_how_many_rows_are_not_merged():
    known = FeatureSet.of(np.random.default_rng(0).normal(size=(9, 2)), {})
    unknown = FeatureSet(known.moments._replace(n=0), {})
    for a, b in ((known, unknown), (unknown, known)):
        with pytest.raises(UsageError, match="a part of an unknown number of rows cannot be merged"):
            a.merged(b)
    assert known.features is not None
    one, rest = (FeatureSet.of(known.features[rows], {}) for rows in (slice(1), slice(1, None)))
    np.testing.assert_allclose(one.merged(rest).moments.covariance, known.moments.covariance, rtol=1e-12)


def test_features_are_rows():
    for shape in ((4,), (4, 2, 2)):
        with pytest.raises(ValueError, match="give one row for each picture"):
            FeatureSet.of(np.ones(shape), {})
