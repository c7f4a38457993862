"""What a run's data are: read from its record, from the config, or from the data themselves, once and for all."""

import copy
import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from score_sde.config import Config
from score_sde.config.architecture import check_network
from score_sde.config.data_checks import (
    check_channels,
    check_kind,
    check_rank,
    known_kind,
    known_shape,
    picture_shape,
    stored_ranges,
)
from score_sde.config.field_checks import check_compared, check_missing_kind, is_masked
from score_sde.config.fields import DECODED
from score_sde.config.point_checks import check_dimension
from score_sde.config.spaces import channels, check_space, image_shape
from score_sde.data import captions
from score_sde.data.identity import difference, digest, flat, other_files
from score_sde.data.layouts import advice
from score_sde.data.points import PointSpec, check_scales
from score_sde.data.points import described as points_described
from score_sde.data.ranges import EXAMPLES, PLAIN, Scaled, as_bytes, written
from score_sde.data.sources import Dataset, Source, Subset, gather, hold_out
from score_sde.data.spec import Labels, Missing, Spec, chunks, kind_of, labels_of, statistics
from score_sde.data.text import alphabet_of
from score_sde.data.xyz import DIMENSION
from score_sde.devices.agreement import agree
from score_sde.devices.distributed import place
from score_sde.errors import UsageError, require
from score_sde.experiment import framing, objects
from score_sde.experiment.captions import asked_texts
from score_sde.experiment.conditions import asked_counts, one_or_none, parsed
from score_sde.experiment.fields import described_fields
from score_sde.names import EMBEDDINGS, FIELD, FRAMES


def load_data(config: Config, ranges: str = "") -> Dataset:
    """The config's data; UsageError where they are missing, malformed or of another shape than it says.

    ranges: what stored values of pictures lie in, from the run's record; "" for what data.range says, which is told.
    """
    section = copy.deepcopy(config.data)
    section.range = ranges or section.range
    found = _as_bytes(section, objects.DATA[section.name](section))
    for line in found.values.said(f"data.path={section.path}") if found.values and not ranges else ():
        print(line, file=sys.stderr)
    found = found if section.name == "text" else hold_out(found, config.data.held_out)  # whose own end is held out
    found = _with_channel(config, found)
    for name in config.data.condition:
        has = sorted(found.condition)
        require(
            name in found.condition and (name in found.held_out_condition or not len(found.held_out)),
            f"data.condition asks for {name!r} and data.name={config.data.name!r} has"
            f" {f'only {has}' if has else 'no labels'} for its examples: add it to the data, or leave it out",
        )
    return found


def _as_bytes(section: Config, data: Dataset) -> Dataset:
    """Arrays that are pictures as bytes, by their range."""
    parts = [part for part in (data.train, data.held_out) if isinstance(part, np.ndarray)]
    if data.values or len(parts) < 2:
        return data
    if kind_of(section.kind, _dtype(data)) != "bytes":
        return data
    (train, held_out), values = as_bytes(parts, stored_ranges(section))
    return data._replace(train=train, held_out=held_out, values=values)


def _with_channel(config: Config, data: Dataset) -> Dataset:
    """Arrays of bytes [N, H, W], grey pictures unless data.shape says otherwise, with an axis of one channel."""
    grey = config.data.name == "array" and not config.data.shape and config.data.kind in ("auto", "bytes")
    if not grey or len(data.train.shape) != 3 or _dtype(data) != np.uint8:
        return data
    return data._replace(train=_with_axis(data.train), held_out=_with_axis(data.held_out))


def _with_axis(source: Source) -> Source:
    if isinstance(source, np.ndarray):
        return source[..., None]
    assert isinstance(source, Subset | Scaled)  # what is held out of an array, and pictures of another range
    return dataclasses.replace(source, source=_with_axis(source.source))


def resolve(config: Config, record: Mapping[str, Any] | None, own_system: bool = False) -> tuple[Spec, Dataset | None]:
    """What is known of the data, and the data where they had to be read; UsageError for what does not fit the config.

    Read they are where the run has no record yet and the config does not tell all: array files, and what conditions. In
    the records of earlier versions nothing stands of the data, which were pictures as the config tells, or nothing of
    their content: then the ranges of stored values are what they were.
    """
    data = None
    if record is not None and "data" in record:
        spec = Spec.from_json(record["data"])
    elif record is not None or _is_told(config):
        spec = told(config)
    else:
        data = load_data(config)
        spec = _described(config, data)
        if not own_system:
            check_layout(config, spec.shape)
    if record and spec.content is None and ("imported" not in record or "resumed" in record):
        spec = dataclasses.replace(spec, content={"range": written(PLAIN)})
    check_resolved(config, spec, own_system)
    return spec, data


def _is_told(config: Config) -> bool:
    """Whether the config alone tells all there is to know: pictures that nothing conditions, or what is no data yet."""
    return config.data.name != "array" and known_kind(config) == "bytes" and not config.data.condition


def told(config: Config) -> Spec:
    """What the config tells of its data, for where there are none: an import. Classes have equal shares.

    Raises UsageError for real data without mean and std, and for labels whose number is not told.
    """
    c, kind = config.data, known_kind(config) or "bytes"
    for name in ("mean", "std") if kind == "real" else ():
        require(c[name], f"data.{name} is empty, and there are no data to take it of: give one number per channel")
    require(
        "label" not in c.condition or c.num_classes,
        "data.num_classes=0, and there are no labels to count: give the number of classes",
    )
    require(
        not {captions.CAPTION, EMBEDDINGS} & set(c.condition),
        f"data.condition={c.condition} is of texts, whose words the data tell, and there are none: train a run on them",
    )
    require(
        not {FIELD, FRAMES} & set(c.condition),
        f"data.condition={c.condition} is of what the data tell the shape of, and there are none: train a run on them",
    )
    labels = Labels((1 / c.num_classes,) * c.num_classes) if "label" in c.condition else None
    missing = Missing() if is_masked(config) or kind == "points" else None
    shape = known_shape(config) or picture_shape(c)
    points = _told_points(config) if kind == "points" else None
    return Spec(shape, kind, tuple(c.mean), tuple(c.std), labels, missing=missing, points=points, rank=c.rank)


def _told_points(config: Config) -> PointSpec:
    """Of sets that all have as many points as data.shape says."""
    shape = config.data.shape
    require(shape, "data.shape is empty, and there are no data to count the points of: give it, as (5, 2)")
    return PointSpec(config.data.dimension or shape[1], (*(0.0,) * (shape[0] - 1), 1.0))


def _described(config: Config, data: Dataset) -> Spec:
    kind, c = kind_of(known_kind(config) or "auto", _dtype(data)), config.data
    shape = tuple(int(n) for n in data.train.shape[1:])
    check_shape(config, kind, shape)
    if kind == "points":
        return _described_points(config, data, shape)
    check_missing_kind(config, kind)
    known = (
        statistics(data, tuple(c.mean), tuple(c.std), objects.MISSING[c.missing], c.rank) if kind == "real" else None
    )
    labels = labels_of(data, c.num_classes) if "label" in c.condition else None
    text = captions.described(data, c.condition)
    if text and (missing := captions.unknown(data, text)):
        words = f"{len(missing)} words that are in none to train on, such as {min(missing)!r}"
        print(f"data: held-out captions have {words}: they are left out", file=sys.stderr)
    mean, std, missing = known or ((), (), None)
    beside = described_fields(data, c.condition, image_shape(shape, c.rank)[:-1])
    frames = framing.described(shape, data.condition[FRAMES].shape) if FRAMES in c.condition else ()
    alphabet = alphabet_of(data) if kind == "tokens" else None
    more = {"text": text, "missing": missing, "beside": beside, "frames": frames, "alphabet": alphabet}
    more["rank"] = c.rank
    return Spec(shape, kind, mean, std, labels, **more)


def _described_points(config: Config, data: Dataset, shape: tuple[int, ...]) -> Spec:
    c = config.data
    require(
        len(shape) == 2,
        f"the data are of kind 'points' and one example has the shape {shape}: give [N, C], N points of C numbers, the"
        " coordinates first",
    )
    require(
        not data.elements or c.dimension in (0, DIMENSION),
        f"data.dimension={c.dimension} and points of {c.path} have {DIMENSION} coordinates: leave it at 0",
    )
    dimension = DIMENSION if data.elements else c.dimension or shape[1]
    check_dimension(dimension, shape[1])
    given = tuple(c.mean), tuple(c.std)
    for name, values in zip(("mean", "std"), given, strict=True):
        check_channels(name, values, shape[1])
    check_scales(*given, dimension)
    points, mean, std = points_described(chunks(data.train), chunks(data.held_out), dimension, given, data.elements)
    return Spec(shape, "points", mean, std, missing=Missing(), points=points)


def _dtype(data: Dataset) -> np.dtype:
    return gather(data.train, np.arange(1)).dtype


def check_shape(config: Config, kind: str, found: tuple[int, ...]) -> None:
    """UsageError unless data of this kind and shape are what the config says."""
    c = config.data
    if c.shape:
        require(
            tuple(c.shape) == found,
            f"the data have shape {found} but data.shape={tuple(c.shape)}: give it that value, or leave it empty",
        )
        return
    expected = picture_shape(c)
    if kind != "bytes" or found == expected or (len(found) != 3 and c.name not in DECODED):
        return
    layout = advice(c.path, found, expected[:2], images=True)
    require(not layout, f"the images {layout}")
    fields = _fields(c, expected, found) if len(found) == 3 else "data.name='array', for data that are no pictures"
    require(False, f"the images have shape {found} but the config says {expected}: set {fields}")


def _fields(data: Config, expected: tuple[int, ...], found: tuple[int, ...]) -> str:
    """The fields that have the config ask for pictures of a shape, with their values."""
    fields = {}
    if found[:2] != expected[:2]:
        one = found[0] == found[1] and not (data.height or data.width)
        fields = {"image_size": found[0]} if one else {"height": found[0], "width": found[1]}
    if found[2] != expected[2]:
        fields["num_channels"] = found[2]
    return " and ".join(f"data.{name}={value}" for name, value in fields.items())


def check_layout(config: Config, shape: tuple[int, ...]) -> None:
    """UsageError for arrays whose axes are in another order than networks take, unless data.shape says so."""
    c = config.data
    layout = "" if c.shape or c.rank or c.name != "array" else advice(c.path, shape, picture_shape(c)[:2], images=False)
    meant = f" (if it is meant so, data.shape={shape})" if len(shape) == 3 else ""
    require(not layout or shape == picture_shape(c), f"the data {layout}{meant}")


def check_same(config: Config, spec: Spec, data: Dataset) -> None:
    """UsageError where data that were read are not as described."""
    found = tuple(data.train.shape[1:])
    kind = kind_of(known_kind(config) or "auto", _dtype(data))
    require(
        kind == spec.kind,
        f"the data are of kind {kind!r} and the run was begun with {spec.kind!r}: give it those data again, or train in"
        " another --workdir",
    )
    if found != spec.shape:
        check_shape(config, spec.kind, found)
    require(
        found == spec.shape,
        f"the data have shape {found} and the run was begun with {spec.shape}: give it those data again, or train in"
        " another --workdir",
    )
    if spec.content and "train" in spec.content:
        _check_content(config, spec.content, digest(data))
    if spec.labels is not None:
        labels_of(data, spec.labels.count)
        require(
            data.classes in ((), spec.labels.names) or not spec.labels.names,
            f"the data have the classes {data.classes} and the run was begun with {spec.labels.names}: give it those"
            " data again, or train in another --workdir",
        )


def _check_content(config: Config, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    other = difference(before, now, config.data.condition)
    require(
        other is None,
        f"data.path={config.data.path} is not what the run was begun with, {other}: name those data again, wherever"
        " they are, or train on these in another --workdir, from the start or by training.start_from=<run>",
    )
    if other_files(before, now):
        same = f"and of {EXAMPLES:,} fixed pictures none has changed"
        print(f"data.path={config.data.path}: files have other names or sizes than at first, {same}", file=sys.stderr)


def agree_on_data(read: Callable[[], Dataset]) -> None:
    """UsageError in all processes where the data that they read are not the same; missing ones must be so in all."""
    if place().processes == 1:
        return
    try:
        facts = flat(digest(read()))
    except UsageError as error:
        facts = {"the data": str(error)}
    agree(facts, "give all processes the same data", partial="checksum")


def check_resolved(config: Config, spec: Spec, own_system: bool = False) -> None:
    """UsageError for what can be told to be wrong only once the data are known.

    own_system: the network is another system's affair.
    """
    check_kind(config, spec.kind, own_system)
    for name, values in (("mean", config.data.mean), ("std", config.data.std)):
        check_channels(name, values, spec.shape[1] if spec.points else channels(spec.shape, spec.rank))
    if not own_system:
        check_network(config, spec.shape)
    check_rank(config, spec.shape)
    check_space(spec.shape, config.data.rank)
    check_compared(config, differ=spec.missing is not None and not (spec.missing.common or spec.points))
    if spec.points is not None:
        asked_counts(config.sampling.points, spec.points)
    if spec.labels is not None:
        parsed("sampling.label", config.sampling.label, spec.labels)
        one_or_none(config.likelihood.label, spec.labels)
    if spec.text is not None and config.sampling.caption:
        asked_texts(config.sampling.caption, spec.text)
    if spec.frames and config.sampling.condition:
        framing.asked(config, spec)
