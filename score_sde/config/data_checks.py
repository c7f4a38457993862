"""The checks of a config's `data` section, and what it says of the data's shape and kind before they are read."""

import re
from collections.abc import Sequence

from score_sde.config.fields import CLASSIFIERS, DECODED, FIELDS, SCHEMA, SONG_NETS, U_NETS, Config
from score_sde.config.text_checks import TEXTS, is_told_text
from score_sde.errors import require
from score_sde.names import FIELD, FRAMES

PATHS = {
    "array": "an .npy or .npz file of arrays [N, ...], such as uint8 images [N, H, W, C], a folder of .npy files, or"
    " CIFAR's python batches",
    "folder": "a directory or a zip file of pictures",
    "waves": "a directory of .wav files, or one of them",
    "text": "a text, whose bytes are the tokens",
    "xyz": "a .xyz file of one or more frames, or a folder of such files",
    "tfds": "a builder of tensorflow_datasets, such as cifar10, or a directory that it prepared",
}
"""What data.path must name for a data.name."""
WINDOWED = {"text": "bytes, such as 64,", "waves": "samples, such as 7200,"}
"""Sources whose examples are windows of data.length."""


DEPTHS = ("uint8", "uint16", "int32", "float32")
"""What the stored values of pictures may be, for data.range."""


def stored_ranges(data: Config) -> dict[str, tuple[float, float]]:
    """data.range by depth: low,high for all, or depth=low,high;... for some; {} for auto. UsageError for another."""
    if data.range == "auto":
        return {}
    number, found = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", {}
    for part in data.range.split(";"):
        match = re.fullmatch(rf"\s*(?:({'|'.join(DEPTHS)})=)?({number})\s*,\s*({number})\s*", part)
        require(
            match and float(match[2]) < float(match[3]),
            f"data.range={data.range!r} is not understood: write auto, or the two stored values that are black and"
            " white, the lower one first, such as 0,4095",
        )
        assert match is not None
        found |= dict.fromkeys([match[1]] if match[1] else DEPTHS, (float(match[2]), float(match[3])))
    return found


def picture_shape(data: Config) -> tuple[int, int, int]:
    """[H, W, C] of pictures, by the `data` section."""
    return (data.height or data.image_size, data.width or data.image_size, data.num_channels)


def known_kind(config: Config) -> str | None:
    """The kind of the data, None where only an array file tells."""
    data = config.data
    if data.name == "xyz":
        return "points"
    if data.kind != "auto":
        return data.kind
    return {"array": None, "waves": "real", "text": "tokens"}.get(data.name, "bytes")


def known_shape(config: Config) -> tuple[int, ...] | None:
    """The shape of one example, None where only an array file tells."""
    if config.data.shape:
        return tuple(config.data.shape)
    if config.data.name in WINDOWED:
        return (config.data.length,)
    pictures = config.data.name not in ("array", "xyz") or config.data.kind == "bytes"
    return picture_shape(config.data) if pictures else None


def conditions(network: str) -> tuple[str, ...]:
    """What a network can be conditioned on, by the data's names."""
    embedded = FIELDS["network"].fields["label_dropout"].networks
    labels = ("label",) if network in (*embedded, *CLASSIFIERS) else ()
    fields, frames = (FIELD,) if network in U_NETS else (), (FRAMES,) if network == "wavegrad" else ()
    return labels + (TEXTS if network in SONG_NETS else ()) + fields + frames


def check_data(config: Config, own_system: bool = False) -> None:
    """UsageError for what can be told to be wrong before the data are read.

    own_system: what conditions, and which kinds there are, is another system's affair than the score's.
    """
    data = config.data
    if data.name in PATHS:
        require(data.path, f"data.path is empty: name {PATHS[data.name]}")
    require(
        not data.shape or data.name not in DECODED,
        f"data.shape={data.shape} does not go with data.name={data.name!r}, whose pictures are brought to data.height,"
        " data.width and data.num_channels: set these",
    )
    require(
        data.name != "text" or (data.kind in ("auto", "tokens") and not data.shape),
        f"data.kind={data.kind!r} and data.shape={data.shape} do not go with data.name='text', whose examples are"
        f" data.length={data.length} tokens: leave them at 'auto' and ()",
    )
    require(
        data.name in WINDOWED or data.length == SCHEMA["data.length"],
        f"data.length={data.length} is of data.name={' or '.join(map(repr, WINDOWED))}, and has no effect on"
        f" {data.name!r}: leave it at {SCHEMA['data.length']}",
    )
    require(
        data.name not in WINDOWED or data.length > 0,
        f"data.length=0 says nothing of data.name={data.name!r}: give the {WINDOWED.get(data.name)} of an example",
    )
    require(all(n >= 1 for n in data.shape), f"data.shape={data.shape} must be positive numbers: such as (16, 16)")
    require(
        not stored_ranges(data) or not data.name.startswith("digit"),
        f"data.range={data.range} has no effect on data.name={data.name!r}, whose pictures are bytes: leave it at auto",
    )
    require(all(s > 0 for s in data.std), f"data.std={data.std} must be positive: give one number per channel")
    _check_labels(config)
    if not own_system:
        _check_condition(config)
    _check_augmentation(config)
    if kind := known_kind(config):
        check_kind(config, kind, own_system)


def check_kind(config: Config, kind: str, own_system: bool = False) -> None:
    """UsageError for settings that mean nothing for data of this kind."""
    data, objective = config.data, config.training.objective
    masked = config.system.name == "masked"
    require(
        kind != "tokens" or own_system or masked,
        f"data.kind='tokens' has no density to take a score of, nor noise: system.name={config.system.name!r} trains on"
        " bytes or real numbers, and 'masked' on tokens",
    )
    require(
        kind == "tokens" or own_system or not masked,
        f"the data are of kind {kind!r}, and system.name='masked' masks tokens: save them as int32, or set"
        " data.kind='tokens' for bytes that are such",
    )
    for name in ("mean", "std"):
        require(
            kind in ("real", "points") or not data[name],
            f"data.{name}={data[name]} has no effect on data of kind {kind!r}, which are not standardised: leave it"
            " empty, or set data.kind='real'",
        )
    require(
        kind == "bytes" or not stored_ranges(data),
        f"data.range={data.range} is for pictures, which become bytes, and has no effect on data of kind {kind!r}:"
        " leave it at auto, or set data.kind='bytes'",
    )
    if kind == "bytes" or (kind == "tokens" and own_system):
        return
    names = ("centered", "uniform_dequantization", "augmentation")
    what = "tokens, which are no numbers" if kind == "tokens" else "real numbers, which are standardised"
    for name in (*names, "random_flip") if kind == "tokens" else names:
        require(
            data[name] == SCHEMA[f"data.{name}"],
            f"data.{name}={data[name]} is for bytes, and the data are {what}: leave it at {SCHEMA[f'data.{name}']}",
        )
    require(
        objective not in ("variational", "hybrid"),
        f"training.objective={objective!r} is a bound on the probability of bytes, and the data are real numbers:"
        " choose 'denoising'",
    )


def check_rank(config: Config, shape: tuple[int, ...]) -> None:
    """UsageError for flips and augmentation of what is no picture."""
    require(
        not config.data.random_flip or known_kind(config) != "points",
        "data.random_flip=True mirrors pictures, and the data are points, whose networks turn with them: set it to"
        " False",
    )
    for name, ranks, asks in (("random_flip", (2, 3), "[H, W] or [H, W, C]"), ("augmentation", (3,), "[H, W, C]")):
        require(
            not config.data[name] or (len(shape) in ranks and config.data.rank in (0, 2)),
            f"data.{name}={config.data[name]} is for {asks}, and one example has the shape {shape}: set it to"
            f" {SCHEMA[f'data.{name}']}",
        )


def check_channels(name: str, values: Sequence[float], channels: int) -> None:
    """UsageError unless a field's values are one per channel, or none."""
    require(
        len(values) in (0, channels),
        f"data.{name} has {len(values)} numbers and the data {channels} channels: give one per channel, or none",
    )


def _check_condition(config: Config) -> None:
    data, network = config.data, config.network
    for name in data.condition:
        taken = conditions(network.name)
        require(
            name in taken,
            f"data.condition contains {name!r}, which network.name={network.name!r} does not take:"
            f" {f'it takes {taken}' if taken else 'choose ncsnpp or ddpm for a label'}, or leave it out",
        )
    require(
        "label" not in data.condition or network.conditional,
        "data.condition=('label',) enters with the noise level's embedding: set network.conditional=True, not False",
    )


def _check_labels(config: Config) -> None:
    data, network, labelled = config.data, config.network, "label" in config.data.condition
    told = labelled or is_told_text(config)
    require(len(set(data.condition)) == len(data.condition), f"data.condition={data.condition} has one name twice")
    for name, value in (
        ("network.label_dropout", network.label_dropout),
        ("sampling.label", config.sampling.label),
        ("likelihood.label", config.likelihood.label),
        ("data.num_classes", data.num_classes),
    ):
        otherwise = {"sampling.label": config.guidance.classifier_scale != 0, "network.label_dropout": told}
        require(
            labelled or not value or otherwise.get(name, False),
            f"{name}={value!r} has no effect without labels: set data.condition=('label',), or leave it at"
            f" {SCHEMA[name]!r}",
        )
    null = network.null_label
    require(
        labelled or null == SCHEMA["network.null_label"],
        f"network.null_label={null!r} has no effect without labels: set data.condition=('label',), or leave it at"
        " 'row'",
    )
    require(
        network.label_dropout > 0 or null != "learned",
        "network.null_label='learned' is learned from examples whose labels are dropped, and network.label_dropout=0.0"
        " drops none: set it to 0.1, or null_label to 'zero'",
    )


def _check_augmentation(config: Config) -> None:
    """That the augmentation has its labels read, and does not flip what is flipped already."""
    p, network = config.data.augmentation, config.network
    if not p:
        return
    require(
        not config.data.random_flip,
        f"data.random_flip=True would flip again what data.augmentation={p} flips: set random_flip=False",
    )
    require(
        network.name == "dhariwal" or (network.name == "ncsnpp" and network.conditional),
        f"data.augmentation={p} leaks into the samples unless the network is told of it: set network.name='ncsnpp' and"
        " network.conditional=True",
    )
    objective = config.training.objective
    require(
        objective not in ("variational", "hybrid"),
        f"data.augmentation={p} does not go with training.objective={objective!r}, whose bound is on the probability of"
        " the bytes themselves: set it to 0.0",
    )
