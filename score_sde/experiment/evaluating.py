"""Sets of pictures measured part by part: drawn of a checkpoint, found at a path, or the data themselves."""

import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.data.identity import facts
from score_sde.data.raw import RawPictures, Stored
from score_sde.data.sources import Source, chosen, gather
from score_sde.devices.agreement import agree
from score_sde.devices.arrays import Agreement
from score_sde.devices.distributed import together
from score_sde.evaluation.figures import figures
from score_sde.evaluation.kernel import kernel_distance
from score_sde.evaluation.statistics import OF_ONE_KIND, FeatureSet
from score_sde.experiment.feature_folder import Arrays, FeatureFolder
from score_sde.experiment.features import Extractor, Pictures
from score_sde.experiment.generation import Generator
from score_sde.progress import Progress
from score_sde.signals import Stopped, collected
from score_sde.systems.base import Params

PART = 512
"""Pictures of a part that are not drawn: a number that nothing changes, as parts of before are gone on from."""
MANY = 2000
"""Samples whose figures take long enough to be told of."""
FEWEST_OF_A_CLASS = 50
"""Of samples and of data, below which a class has no figure of its own."""


class Pictured(NamedTuple):
    """A set to be measured. parts: from part k on, the pictures of each, and its further rows, among them `finite`."""

    name: str
    number: int
    size: int
    settings: dict[str, Any]
    parts: Callable[[int], Iterator[tuple[Pictures, Arrays]]]


def drawn(
    generator: Generator, params: Callable[[], Params], number: int, size: int, settings: dict[str, Any]
) -> Pictured:
    """Samples of a checkpoint, in parts of sampling.batch_size; params: read where they are needed first."""

    def parts(first: int) -> Iterator[tuple[Pictures, Arrays]]:
        for batch in generator.batches(params(), number, first * size):
            yield batch.x, {"finite": batch.finite, "evaluations": batch.counts, **batch.condition}

    return Pictured("samples", number, size, settings, parts)


def found(name: str, pictures: RawPictures | Stored, finite: np.ndarray) -> Pictured:
    """Pictures of a folder, a zip or an array file."""

    def parts(first: int) -> Iterator[tuple[Pictures, Arrays]]:
        for start in range(first * PART, len(pictures), PART):
            part = slice(start, start + PART)
            yield (read := pictures[part]), {"finite": finite[part], **_sides(read)}

    settings = {"pictures": pictures.facts()} | ({} if finite.all() else {"finite": facts(finite)})
    return Pictured(name, len(pictures), PART, settings, parts)


def of_data(name: str, source: Source, conditions: Mapping[str, Source], most: int) -> Pictured:
    """A split of the data, or a fixed choice of at most so many (0: all); conditions: of its examples, by name."""
    numbers = chosen(len(source), most or len(source))

    def parts(first: int) -> Iterator[tuple[Pictures, Arrays]]:
        for start in range(first * PART, len(numbers), PART):
            part = numbers[start : start + PART]
            given = {c: gather(conditions[c], part) for c in conditions if c == "label"}
            yield gather(source, part), {"finite": np.ones(len(part), bool), **given}

    return Pictured(name, len(numbers), PART, {"data": facts(source), "num_data": len(numbers)}, parts)


def _sides(pictures: Pictures) -> Arrays:
    """Height and width of each picture, where they may differ."""
    sides = np.array([x.shape[:2] for x in pictures], np.int32)
    return {"height": sides[:, 0], "width": sides[:, 1]} if sides.ndim == 2 and sides.shape[1] == 2 else {}


def digest(settings: dict[str, Any]) -> str:
    """Eight hexadecimal digits, by which folders of one name are told apart."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def measured(pictured: Pictured, extractor: Extractor, folder: FeatureFolder, overwrite: bool) -> None:
    """Features of every picture, with its other rows and the seconds it took, in the folder's parts; those are kept.

    Every process calls it, the first of which writes. Raises Stopped behind a part by a signal to any process.
    """
    agree({f"pictures of {pictured.name}": digest(pictured.settings)}, "give all processes the same ones")
    first, agreed = jax.process_index() == 0, Agreement()
    total = -(-pictured.number // pictured.size)
    done = together(lambda: min(folder.resume(overwrite), total) if first else None)
    since = time.perf_counter()
    shown = Progress(f"measuring {pictured.name}", pictured.number, "pictures", done * pictured.size, show=first)
    with collected() as caught, shown as progress:
        for index, (pictures, rows) in enumerate(pictured.parts(done) if done < total else (), done):
            computed = {**rows, **extractor(pictures)}
            now = time.perf_counter()
            computed["seconds"], since = np.full(len(pictures), (now - since) / len(pictures)), now
            together(functools.partial(folder.keep, index, computed) if first else lambda: None)
            progress.update(len(pictures))
            if (signum := agreed.now(caught.signum)) and index + 1 < total:
                at = min((index + 1) * pictured.size, pictured.number)
                raise Stopped(signum, f"{at:,} of {pictured.number:,} pictures, whose features are kept")


def as_set(rows: Arrays, about: Mapping[str, Any]) -> FeatureSet:
    """Of measured rows those that are finite, and whose features are; `about` says how many are not."""
    kept = _finite(rows)
    about = {**about, **({} if kept.all() else {"not_finite": int((~kept).sum())})}
    logits = rows["logits"][kept] if "logits" in rows else None
    labels = rows["label"].reshape(-1)[kept] if "label" in rows else None
    return FeatureSet.of(rows["features"][kept], about, logits=logits, labels=labels)


def _finite(rows: Arrays) -> np.ndarray:
    return rows["finite"] & np.isfinite(rows["features"]).all(1)


def report(rows: Arrays, samples: FeatureSet, data: FeatureSet, held_out: FeatureSet | None) -> dict[str, Any]:
    """What report.json says of measured samples: flat keys, of every figure and its error, and what they are of."""
    evaluations = float(rows["evaluations"].mean()) if "evaluations" in rows else None
    found = figures(samples, data, held_out, show=samples.moments.n > MANY)
    return {
        **found,
        "notes": [*_of_sizes(rows), *found["notes"]],
        "not_finite": int((~_finite(rows)).sum()),
        **{name: samples.about.get(name) for name in OF_ONE_KIND},
        **{name: data.about.get(name) for name in ("dataset", "split")},
        "evaluations": evaluations,
        "seconds": float(rows["seconds"].sum()),
        "by_class": by_class(samples, data),
    }


def _of_sizes(rows: Arrays) -> list[str]:
    """That sizes differ, with the smallest and the largest."""
    sizes = set(zip(rows["height"].tolist(), rows["width"].tolist())) if "height" in rows else set()
    if len(sizes) < 2:
        return []
    (h, w), (height, width) = (end(sizes, key=np.prod) for end in (min, max))
    return [f"pictures of several sizes, from {h}x{w} to {height}x{width}, each resized"]


def by_class(samples: FeatureSet, data: FeatureSet) -> dict[str, dict[str, Any]]:
    """The kernel distance, which is unbiased, of each class that has enough of both, by its number."""
    x, y = samples.features, data.features
    if samples.labels is None or data.labels is None or x is None or y is None:
        return {}
    figured = {}
    for label in np.unique(samples.labels).tolist():
        own, other = x[samples.labels == label], y[data.labels == label]
        if min(len(own), len(other)) >= FEWEST_OF_A_CLASS:
            value, error = kernel_distance(own, other)
            counts = {"num_samples": len(own), "num_data": len(other)}
            figured[str(label)] = {"kernel_distance": value, "kernel_distance_error": error, **counts}
    return figured


LONGEST = 120
"""Characters of a folder's name, but for its digest."""


def place(workdir: pathlib.Path, settings: dict[str, Any], *parts: str) -> pathlib.Path:
    """The folder of a set, its name made of parts, and of a digest of its settings: others have another."""
    name = "-".join(part.replace("/", "_") for part in parts if part)
    return workdir / "evaluation" / f"{name[:LONGEST]}-{digest(settings)}"


def kind(measure: Extractor) -> tuple[str, ...]:
    """What a folder's name says of the features."""
    return measure.about["features"], measure.about.get("preprocessing", "")
