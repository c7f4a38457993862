"""Features of a set of pictures, or their moments alone, with what they are of; files of ours and of other programs.

One .npz: `mu` [D] and `sigma` [D, D] in float64, as pytorch-fid, clean-fid and EDM write and read them; `n`; `about`,
JSON; and where they are kept `features` [n, D] and `logits` [n, 1008] in float32 and `labels` [n].
"""

import json
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from score_sde.errors import UsageError, require
from score_sde.evaluation.frechet import Features, Moments
from score_sde.storage.files import whole

OF_ONE_KIND = ("features", "fingerprint", "preprocessing")
"""Facts in which sets must agree to be compared."""
OTHERS_FEATURES = ("pool_3", "feats")
"""What score_sde's first code and clean-fid call their features."""
ROWS = ("features", "logits", "labels")
"""What there is of every picture, if it is kept."""
UNREADABLE = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class FeatureSet(NamedTuple):
    """Moments (n is 0 where no file says it), facts about them; features [n, D], logits and labels where there are any.

    about: features, fingerprint (of the weights), preprocessing, and of which pictures: dataset, split, n.
    """

    moments: Moments
    about: Mapping[str, Any]
    features: Features | None = None
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None

    @classmethod
    def of(cls, features: Features, about: Mapping[str, Any], **rows: np.ndarray | None) -> "FeatureSet":
        """With the moments of these features [N, D]; rows: logits and labels. ValueError for another shape."""
        if features.ndim != 2:
            raise ValueError(f"features have shape {features.shape}: give one row for each picture, [N, D]")
        return cls(Moments.of(features), {**about, "n": len(features)}, features, **rows)

    def merged(self, other: "FeatureSet") -> "FeatureSet":
        """Both together, such as parts that several processes or runs computed.

        UsageError for other kinds, and for moments that do not say of how many rows they are.
        """
        check_comparable(self, other, "one part", "another")
        features, logits, labels = (
            None if a is None or b is None else np.concatenate([a, b]) for a, b in zip(self[2:], other[2:])
        )
        if features is not None:
            return FeatureSet.of(features, self.about, logits=logits, labels=labels)
        for part in (self, other):
            require(part.moments.n > 1, f"a part of {part.moments.n or 'an unknown number of'} rows cannot be merged")
        moments = self.moments.merged(other.moments)
        return FeatureSet(moments, {**self.about, "n": moments.n})

    def save(self, path: pathlib.Path, keep_features: bool = False) -> None:
        """Write the file, whole or not at all."""
        kept = dict(zip(ROWS, self[2:])) if keep_features else {}
        arrays: dict[str, Any] = {
            "mu": self.moments.mean,
            "sigma": self.moments.covariance,
            "n": np.int64(self.moments.n),
            "about": np.array(json.dumps(dict(self.about), sort_keys=True)),
            **{name: x for name, x in kept.items() if x is not None},
        }
        with whole(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)


def is_statistics(path: str | pathlib.Path) -> bool:
    """Whether a file holds moments or features, and not pictures."""
    try:
        with zipfile.ZipFile(pathlib.Path(path).expanduser()) as file:
            return any(f"{name}.npy" in file.namelist() for name in ("mu", "features", *OTHERS_FEATURES))
    except UNREADABLE:
        return False


def load(path: str | pathlib.Path) -> tuple[FeatureSet, str]:
    """The set in a file of ours or another program's, and a warning of what the latter does not say, or "".

    Raises UsageError for what is no such file.
    """
    place = pathlib.Path(path).expanduser()
    try:
        opened = np.load(place, allow_pickle=False)
        require(isinstance(opened, np.lib.npyio.NpzFile), f"{path} is one array: {_WANTED}")
        with opened as stored:
            return _read(str(path), stored)
    except UsageError:
        raise
    except UNREADABLE as error:
        text = "it is no .npz file" if "pickle" in str(error) else str(error).split("\n")[0]
        raise UsageError(f"{path} cannot be read as statistics ({text}): {_WANTED}") from None


_WANTED = "name an .npz file with mu and sigma, or with features as pool_3 or feats"


def _read(path: str, stored: Mapping[str, np.ndarray]) -> tuple[FeatureSet, str]:
    names = set(stored)
    features = next((np.asarray(stored[name]) for name in ("features", *OTHERS_FEATURES) if name in names), None)
    about: dict[str, Any] = json.loads(str(stored["about"])) if "about" in names else {}
    require(isinstance(about, dict), f"{path} says about itself {about!r}: {_WANTED}")
    if {"mu", "sigma"} <= names:
        mean, covariance = (np.asarray(stored[name], np.float64) for name in ("mu", "sigma"))
        moments = Moments(int(stored["n"]) if "n" in names else 0, mean, covariance)
    else:
        require(features is not None and features.ndim == 2, f"{path} holds {sorted(names)}: {_WANTED}")
        assert features is not None
        moments = Moments.of(features)
    dimensions = moments.mean.shape
    require(
        len(dimensions) == 1 and moments.covariance.shape == dimensions * 2,
        f"{path} has mu of shape {dimensions} and sigma of shape {moments.covariance.shape}: {_WANTED}",
    )
    finite = all(np.isfinite(part).all() for part in moments[1:])
    require(finite, f"{path} has numbers that are not finite, or fewer than two rows: compute it anew")
    more = {name: np.asarray(stored[name]) for name in ROWS[1:] if about and name in names}
    return FeatureSet(moments, about, features, **more), "" if about else _unsaid(path, moments)


def _unsaid(path: str, moments: Moments) -> str:
    unknown = ["preprocessing", "weights", "dataset and split", *(["number of images"] if not moments.n else [])]
    return f"{path} is another program's and does not say its {', '.join(unknown)}: compare only what you know to agree"


def check_facts(a: Mapping[str, Any], b: Mapping[str, Any], name: str, other: str) -> None:
    """UsageError where facts that both have make their features different kinds."""
    for fact in OF_ONE_KIND:
        if a.get(fact) and b.get(fact):
            require(
                a[fact] == b[fact],
                f"{name} and {other} differ in {fact}, {a[fact]!r} and {b[fact]!r}: their features cannot be compared;"
                " compute one of them anew as the other",
            )


def check_comparable(a: FeatureSet, b: FeatureSet, name: str, other: str) -> None:
    """UsageError where facts that both have, or their dimensions, make their features different kinds."""
    check_facts(a.about, b.about, name, other)
    d, e = len(a.moments.mean), len(b.moments.mean)
    require(
        d == e,
        f"{name} and {other} have features of {d:,} and {e:,} dimensions, which cannot be compared: measure both by the"
        " same evaluation.features, and of pixels pictures of the same size and channels",
    )
