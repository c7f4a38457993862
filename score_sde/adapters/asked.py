"""What a foreign network asks of a config: fields by name, compared with the config's, all that differ said at once."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from score_sde.adapters.edm_pickle import KIND, Pickled
from score_sde.adapters.foreign import reading
from score_sde.config import Config, flatten
from score_sde.errors import require

Fields = dict[str, Any]
"""Field names such as network.nf and the values that a file asks for."""

MOST = 100_000
"""Classes."""
SHARED = {"model_channels": "nf", "channel_mult": "ch_mult", "num_blocks": "num_res_blocks"}
DEFAULTS: dict[str, Fields] = {
    "SongUNet": {
        "model_channels": 128,
        "channel_mult": (1, 2, 2, 2),
        "num_blocks": 4,
        "attn_resolutions": (16,),
        "embedding_type": "positional",
        "channel_mult_emb": 4,
        "channel_mult_noise": 1,
        "encoder_type": "standard",
        "decoder_type": "standard",
        "resample_filter": (1, 1),
        "augment_dim": 0,
    },
    "DhariwalUNet": {
        "model_channels": 192,
        "channel_mult": (1, 2, 3, 4),
        "num_blocks": 3,
        "attn_resolutions": (32, 16, 8),
        "channel_mult_emb": 4,
        "augment_dim": 0,
    },
    "UNet": {
        "model_channels": 192,
        "channel_mult": (1, 2, 3, 4),
        "num_blocks": 3,
        "attn_resolutions": (16, 8),
        "channels_per_head": 64,
        "logvar_channels": 128,
        "channel_mult_noise": None,
        "channel_mult_emb": None,
        "label_balance": 0.5,
        "concat_balance": 0.5,
        "res_balance": 0.3,
        "attn_balance": 0.3,
        "clip_act": 256,
    },
}
"""What the networks of EDM, and EDM2's, take for an option that their file leaves out."""
FIXED: dict[str, Fields] = {
    "SongUNet": {"channel_mult_emb": 4},
    "DhariwalUNet": {"channel_mult_emb": 4},
    "UNet": {
        name: DEFAULTS["UNet"][name]
        for name in ("channel_mult_noise", "channel_mult_emb", "label_balance", "concat_balance", "res_balance",
                     "attn_balance", "clip_act")
    },
}  # fmt: skip
"""Options that no network here has but with these values."""
PYRAMIDS = {"standard": ("none", "none"), "skip": ("input_skip", "output_skip"), "residual": ("residual", "residual")}
"""By EDM's word: network.progressive_input and network.progressive."""


def check(path: pathlib.Path, asked: Mapping[str, Any], config: Config, what: str) -> None:
    """UsageError that names every field whose value is not the asked one, as flags of the command line."""
    here = flatten(config)
    differing = {name: value for name, value in asked.items() if here[name] != value}
    flags = " ".join(shlex.quote(f"--config.{name}={value}") for name, value in differing.items())
    first = ", ".join(f"{name}={here[name]!r}" for name in list(differing)[:4])
    require(
        not differing,
        f"{path} is {what}, and the config's {first}{' and others' if len(differing) > 4 else ''} are of another"
        f" network: add {flags}",
    )


def of_pickle(path: pathlib.Path, pickled: Pickled, config: Config) -> Fields:
    """The fields of a network pickle of EDM or EDM2; UsageError where no network here computes what it does."""
    with reading(path, KIND):
        return _of_pickle(path, pickled, config)


def _of_pickle(path: pathlib.Path, pickled: Pickled, config: Config) -> Fields:
    kind = pickled.inner
    require(
        kind in DEFAULTS, f"{path} is of {kind}, and of EDM's networks SongUNet, DhariwalUNet and EDM2's UNet are read"
    )
    given = {**DEFAULTS[kind], **pickled.options}
    options: Fields = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    for name, value in FIXED[kind].items():
        require(options[name] == value, f"{path} has {name}={options[name]!r}, and {value!r} alone is read here")
    fields: Fields = {
        "network.name": {"SongUNet": "ncsnpp", "DhariwalUNet": "dhariwal", "UNet": "edm2"}[kind],
        **{f"network.{ours}": options[theirs] for theirs, ours in SHARED.items()},
    }
    size = int(options["img_resolution"])
    levels = {size >> i for i in range(len(options["channel_mult"]))}
    fields["network.attn_resolutions"] = tuple(r for r in options["attn_resolutions"] if r in levels)
    if kind == "SongUNet":
        fields |= _song(path, options)
    if kind == "UNet":
        fields |= {f"network.{ours}": options[theirs] for theirs, ours in
                   (("channels_per_head", "head_channels"), ("logvar_channels", "logvar_channels"))}  # fmt: skip
    return fields | _data(options, config) | _preconditioning(path, pickled, options)


def _song(path: pathlib.Path, options: Fields) -> Fields:
    """Of EDM's DDPM++ and NCSN++."""
    fourier, taps = options["embedding_type"] == "fourier", options["resample_filter"]
    require(
        options["channel_mult_noise"] == (2 if fourier else 1),
        f"{path} has channel_mult_noise={options['channel_mult_noise']!r}, which goes with another embedding of the"
        " noise level than its own in every network here",
    )
    own = {
        "embedding_type": options["embedding_type"],
        "progressive_input": PYRAMIDS[options["encoder_type"]][0],
        "progressive": PYRAMIDS[options["decoder_type"]][1],
        "fir": taps != (1, 1),
        "resblock_type": "biggan",
        "skip_rescale": True,
        "nonlinearity": "swish",
        "conditional": True,
        "up_attention": "level",
        "progressive_combine": "sum",
    }
    own |= {"fir_kernel": taps} if taps != (1, 1) else {}
    own |= {"label_embedding": "edm"} if options.get("label_dim") else {}
    return {f"network.{name}": value for name, value in own.items()}


def _data(options: Fields, config: Config) -> Fields:
    """Of what the network was trained on; any augmentation of the config's stands for EDM's."""
    size, classes, data = int(options["img_resolution"]), int(options.get("label_dim", 0)), config.data
    sides = {"data.height": size, "data.width": size} if data.height or data.width else {"data.image_size": size}
    channels = int(options["img_channels"])
    fields: Fields = {} if tuple(data.shape) == (size, size, channels) else {**sides, "data.num_channels": channels}
    fields["data.condition"] = ("label",) if classes else ()
    if classes and 0 < classes < MOST:
        fields["data.num_classes"] = classes
    told = options.get("augment_dim", 0)
    fields["data.augmentation"] = (data.augmentation or 0.12) if told else 0.0
    return fields


def _preconditioning(path: pathlib.Path, pickled: Pickled, options: Fields) -> Fields:
    """What makes a score of the network's output: EDM's and EDM2's, or that of EDM's VP baseline."""
    require(
        pickled.kind in ("EDMPrecond", "Precond", "VPPrecond"),
        f"{path} has the preconditioning {pickled.kind}, and of EDM's EDMPrecond and VPPrecond are read here",
    )
    if pickled.kind == "VPPrecond":
        slope, least = float(pickled.fields.get("beta_d", 19.9)), float(pickled.fields.get("beta_min", 0.1))
        return {
            "sde.name": "vp",
            "sde.discrete": False,
            "sde.beta_min": least,
            "sde.beta_max": round(slope + least, 9),
            "parametrization.prediction": "noise",
            "parametrization.label": "time",
            "network.scale_by_sigma": False,
        }
    return {
        "sde.name": "edm",
        "parametrization.prediction": "edm",
        "parametrization.label": "root_sigma" if options.get("embedding_type") == "fourier" else "log_sigma",
        "parametrization.sigma_data": float(pickled.fields.get("sigma_data", 0.5)),
        "network.scale_by_sigma": False,
    }
