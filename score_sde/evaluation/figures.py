"""All figures of samples against data, of their features or moments, by flat names, each with its error."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from score_sde.evaluation.frechet import FEWEST, Estimate, Features, can_extrapolate, extrapolated, frechet
from score_sde.evaluation.inception_score import inception_score
from score_sde.evaluation.kernel import kernel_distance, subset_distances
from score_sde.evaluation.manifold import manifold
from score_sde.evaluation.neighbours import copying_ratio, if_finite
from score_sde.evaluation.statistics import FeatureSet, check_comparable
from score_sde.progress import Progress

NAMES = (
    "frechet_distance", "frechet_distance_extrapolated", "kernel_distance", "kernel_distance_subsets",
    "inception_score", "precision", "recall", "density", "coverage", "copying_ratio",
)  # fmt: skip
"""Of the figures; each has an _error beside it, but for the last."""


TITLES = {
    "frechet_distance": "Fréchet", "frechet_distance_extrapolated": "extrapolated", "kernel_distance": "kernel",
    "inception_score": "inception score", "precision": "precision", "recall": "recall", "density": "density",
    "coverage": "coverage", "copying_ratio": "to training data / held-out",
}  # fmt: skip
"""What figures are called in a table."""


def written(report: Mapping[str, Any], name: str) -> str:
    """A figure of a report with its error, "" for one that is not known."""
    value, error = report.get(name), report.get(f"{name}_error")
    if value is None:
        return ""
    digits = 3 if abs(value) >= 0.1 or value == 0 else 6
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def known(reports: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of those figures that one of the reports has."""
    found = list(reports)
    return [name for name in TITLES if any(report.get(name) is not None for report in found)]


def figures(
    samples: FeatureSet, data: FeatureSet, held_out: FeatureSet | None = None, show: bool = False
) -> dict[str, Any]:
    """Every figure that can be computed of these, None for others, and `notes`, which say why not.

    Against moments alone there is the Fréchet distance only, whose error then is that of the samples. show: progress,
    as of 50,000 rows they take minutes. Raises UsageError for features of different kinds.
    """
    check_comparable(samples, data, "the samples", "the data")
    parts = _parts(samples, data, held_out)
    found: dict[str, Estimate] = {}
    with Progress("computing", len(parts), "figures", show=show) as progress:
        for name, compute in parts.items():
            found |= compute()
            progress.update(1, name)
    flat: dict[str, Any] = {}
    for name in NAMES:
        value, error = found.get(name, Estimate(math.nan))
        flat |= {name: if_finite(value), f"{name}_error": if_finite(error)}
    return {**flat, "num_samples": samples.moments.n, "num_data": data.moments.n, "notes": _notes(samples, data)}


def _parts(
    samples: FeatureSet, data: FeatureSet, held_out: FeatureSet | None
) -> dict[str, Callable[[], dict[str, Estimate]]]:
    """What can be computed of these, by what it is called; each gives figures by name."""
    x, y, rows = samples.features, data.features, _rows(data)
    parts: dict[str, Callable[[], dict[str, Estimate]]] = {
        "Fréchet": lambda: {"frechet_distance": frechet(_rows(samples), rows)}
    }
    if x is not None and can_extrapolate(x, rows):
        parts["extrapolated"] = lambda: {"frechet_distance_extrapolated": extrapolated(x, rows)}
    if x is not None and y is not None:
        parts["kernel"] = lambda: {"kernel_distance": kernel_distance(x, y), "kernel_distance_subsets": _subsets(x, y)}
        parts["manifolds"] = lambda: manifold(x, y)._asdict()
        others = None if held_out is None else held_out.features
        if others is not None and len(others):
            parts["copies"] = lambda: {"copying_ratio": Estimate(copying_ratio(x, y, others))}
    logits = samples.logits
    if logits is not None:
        parts["inception score"] = lambda: {"inception_score": inception_score(logits)}
    return parts


def _subsets(x: Features, y: Features) -> Estimate:
    """Mean and standard deviation, as published."""
    distances = subset_distances(x, y)
    return Estimate(float(distances.mean()), float(distances.std()))


def _rows(of: FeatureSet) -> Any:
    return of.moments if of.features is None else of.features


def _notes(samples: FeatureSet, data: FeatureSet) -> list[str]:
    """What is missing and why, and what to mind, a sentence each."""
    notes, dimensions = [], len(samples.moments.mean)
    few = [f"{of.moments.n:,} {name}" for name, of in (("samples", samples), ("of the data", data))
           if 0 < of.moments.n < dimensions]  # fmt: skip
    if few:
        notes.append(
            f"fewer than the {dimensions:,} dimensions of the features: {' and '.join(few)}; the Fréchet distance is"
            " far above that of more, and comparable between equal numbers alone"
        )
    if 0 < samples.moments.n < FEWEST:
        notes.append(f"not extrapolated to infinitely many samples, which takes {FEWEST:,} of them")
    elif samples.features is not None and not can_extrapolate(samples.features, _rows(data)):
        notes.append(f"not extrapolated to infinitely many samples: {data.moments.n} of the data are too few")
    if data.about.get("not_finite"):
        notes.append(
            f"{data.about['not_finite']:,} of the data, or of their features, are not finite, and in no figure"
        )
    if data.features is None:
        notes.append("against moments alone there is the Fréchet distance only")
    if samples.logits is None and samples.about.get("features") == "inception":
        notes.append("no inception score: the weights have no head, which files of pytorch-fid and TensorFlow have")
    return notes
