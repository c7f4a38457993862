"""What samples are measured against: a split of the data and what is held out, other pictures, a file of moments."""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.config import Config
from score_sde.data.raw import RawPictures, Stored, pictures_at
from score_sde.data.sources import Dataset, gather
from score_sde.devices.distributed import together
from score_sde.errors import require
from score_sde.evaluation.statistics import FeatureSet, check_facts, is_statistics, load
from score_sde.experiment import evaluating
from score_sde.experiment.evaluating import Pictured
from score_sde.experiment.feature_folder import STATISTICS, FeatureFolder
from score_sde.experiment.features import Extractor
from score_sde.experiment.objects import SPLITS
from score_sde.storage.workdir import Workdir
from score_sde.storage.writing import writing

Warn = Callable[[str], None]


class Reference(NamedTuple):
    """Sets of features, None in other processes than the first, and what they are known by."""

    data: FeatureSet | None
    held_out: FeatureSet | None
    settings: dict[str, Any]


class Wanted(NamedTuple):
    """What decides a reference: how features are taken, and where they are kept.

    dimensions: of the samples' features, 0 where they are not known. warn: says a sentence once.
    """

    measure: Extractor
    dimensions: int
    workdir: Workdir
    overwrite: bool
    warn: Warn


def reference(config: Config, data: Dataset | None, wanted: Wanted) -> Reference:
    """By `evaluation.against`; data: where that is a split of them. UsageError for what cannot be compared."""
    c = config.evaluation
    require(c.against, f"evaluation.against is empty: name a file, or one of {', '.join(SPLITS)}")
    if data is None:
        return _of_file(c.against, wanted)
    sets: dict[str, FeatureSet | None] = {}
    settings: dict[str, Any] = {}
    more = ["held_out"] if c.against == "train" and len(data.held_out) > 1 else []
    for split in (c.against, *more):
        source, conditions = SPLITS[split](data)
        require(
            len(source) > 1,
            f"evaluation.against={split!r} names {len(source)} pictures of data.name={config.data.name!r}: set"
            " evaluation.against to another split or a file",
        )
        check(wanted, {tuple(source.shape[1:])}, gather(source, np.arange(1)).dtype, split)
        pictured = evaluating.of_data(split, source, conditions, c.num_data)
        about = {"dataset": config.data.path or config.data.name, "split": split}
        sets[split] = _kept(pictured, about, wanted)
        settings[split] = pictured.settings
    return Reference(sets[c.against], sets.get("held_out") if c.against == "train" else None, settings)


def pictures(path: str, field: str, warn: Warn) -> tuple[RawPictures | Stored, np.ndarray]:
    """What lies at a path, and which are finite; UsageError for what cannot be measured."""
    found, finite = pictures_at(path)
    require(
        len(found) > 1,
        f"evaluation.{field}={path!r} holds {len(found)} picture, which has no covariance: give 2 or more",
    )
    if found.transparent:
        warn(f"{path}: {found.transparent} of {len(found)} pictures have transparency, which is dropped")
    return found, finite


def check(wanted: Wanted, shapes: set[tuple[int, ...]], dtype: np.dtype, name: str) -> None:
    """UsageError for pictures that cannot be measured, or not be compared with the samples; a warning of grey ones.

    shapes: of single pictures [...], all that there are.
    """
    measure = wanted.measure
    features = measure.about["features"]
    for shape in sorted(shapes):
        measure.check(shape, dtype)
    require(
        len(shapes) == 1 or features == "inception",
        f"{name} has pictures of several sizes, as {min(shapes)} and {max(shapes)}, and"
        f" evaluation.features={features!r} takes those of one: resize them, or set evaluation.features='inception'",
    )
    dimensions = measure.dimensions(min(shapes))
    require(
        not wanted.dimensions or not dimensions or wanted.dimensions == dimensions,
        f"{name} has pictures of {min(shapes)}, {dimensions:,} numbers each, and the samples have"
        f" {wanted.dimensions:,}: give pictures that are alike, or set evaluation.features='inception'",
    )
    if features == "inception" and all(shape[-1] < 3 for shape in shapes):
        wanted.warn(
            f"{name}: grey pictures, whose channel is repeated: of a network of colours such figures say little"
        )


def _of_file(path: str, wanted: Wanted) -> Reference:
    place = pathlib.Path(path).expanduser()
    require(place.exists(), f"evaluation.against={path!r} is no file: name it, or one of {', '.join(SPLITS)}")
    if not is_statistics(place):
        found, finite = pictures(path, "against", wanted.warn)
        check(wanted, found.shapes, found[0:1][0].dtype, path)
        pictured = evaluating.found("data", found, finite)
        return Reference(_kept(pictured, {"dataset": path, "split": ""}, wanted), None, pictured.settings)
    statistics, warning = load(place)
    check_facts(wanted.measure.about, statistics.about, "evaluation", path)
    dimensions = len(statistics.moments.mean)
    require(
        not wanted.dimensions or dimensions == wanted.dimensions,
        f"{path} is of features of {dimensions:,} dimensions, and those of the samples have {wanted.dimensions:,}: name"
        " one of evaluation.features that made it",
    )
    if warning:
        wanted.warn(warning)
    return Reference(statistics, None, {"statistics": hashlib.sha256(place.read_bytes()).hexdigest()})


def _kept(pictured: Pictured, about: dict[str, str], wanted: Wanted) -> FeatureSet | None:
    """Features of a set of data, which stay for the next evaluation; None in other processes than the first."""
    measure = wanted.measure
    settings = {"about": measure.about, **pictured.settings}
    place = evaluating.place(wanted.workdir.path, settings, pictured.name, *evaluating.kind(measure))
    folder = FeatureFolder(place, settings, (STATISTICS,))
    if not together(folder.is_done):
        with writing(place) as first:
            evaluating.measured(pictured, measure, folder, wanted.overwrite)

            def finish() -> None:
                rows = folder.gathered()
                found = evaluating.as_set(rows, {**measure.about, **about})
                require(
                    found.moments.n > 1,
                    f"{about['dataset']} has {found.moments.n} pictures of {len(rows['features'])} whose features are"
                    " finite: measure against others, or mend evaluation.features",
                )
                found.save(place / STATISTICS, keep_features=True)
                folder.finish()

            together(lambda: finish() if first else None)
    return load(place / STATISTICS)[0] if jax.process_index() == 0 else None
