"""What a diffusers config.json says of a UNet2DModel: its modules in order of calls, and whether ours do the same."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from score_sde.errors import UsageError, require
from score_sde.networks.ncsnpp import NCSNpp

DEFAULTS: dict[str, Any] = {
    "_class_name": "",
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
}
"""What diffusers takes for a setting that config.json leaves out."""

DOWN = ("DownBlock2D", "AttnDownBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D")
UP = ("UpBlock2D", "AttnUpBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D")


class Module(NamedTuple):
    """One of diffusers' modules: its kind in our words, its name, and its norms' groups as `group_count` takes them."""

    kind: str
    name: str
    groups: int | None = None


def complete(settings: dict[str, Any]) -> dict[str, Any]:
    """All settings, the missing ones at diffusers' defaults."""
    return DEFAULTS | settings


def check(file: pathlib.Path, config: dict[str, Any], network: Any) -> None:
    """UsageError for the first setting that has no equal here, or whose equal in the config has another value."""
    require(isinstance(network, NCSNpp), f"{file} is of a U-Net: set network.name to ncsnpp or ddpm")
    skips, fourier = has_skips(config), config["time_embedding_type"] == "fourier"
    widths = {w for w, b in zip(config["block_out_channels"], config["down_block_types"]) if "Attn" in b}
    widths.add(config["block_out_channels"][-1])
    accepted: dict[str, tuple[Any, ...]] = {
        "_class_name": ("UNet2DModel",),
        "act_fn": ("silu", "swish"),
        "attention_head_dim": (None, *widths) if len(widths) == 1 else (None,),
        "norm_eps": (1e-6,),
        "mid_block_type": ("UNetMidBlock2D",),
        "mid_block_scale_factor": (2**0.5,) if skips else (1,),
        "downsample_padding": (0,),
        "freq_shift": (1,),
        "time_embedding_type": ("fourier", "positional"),
        "downsample_type": ("conv",),
        "upsample_type": ("conv",),
        "add_attention": (True,),
        "resnet_time_scale_shift": ("default",),
        "time_embedding_dim": (None,),
        "class_embed_type": (None,),
        "num_class_embeds": (None,),
        "attn_norm_num_groups": (None,),
    }
    for name in ("freq_shift",) * fourier + ("downsample_padding",) * skips:  # not used then
        del accepted[name]
    for name, values in accepted.items():
        require(
            any(_equal(config[name], v) for v in values),
            f"{file} has {name}={config[name]!r}, which no network here computes (it would have to be {values[0]!r}):"
            " this model cannot be imported",
        )
    for field, here, wanted in differences(config, network):
        require(here == wanted, f"{field}={here!r} does not compute what {file} does: set it to {wanted!r}")


def differences(config: dict[str, Any], network: NCSNpp) -> Iterator[tuple[str, Any, Any]]:
    """(field of ours, its value, what the config's model computes) of every field that decides more than names."""
    skips, fourier = has_skips(config), config["time_embedding_type"] == "fourier"
    ours: dict[str, Any] = {"embedding_type": config["time_embedding_type"], "scale_by_sigma": fourier}
    ours |= {"skip_rescale": skips, "nonlinearity": "swish", "fir": skips, "conditional": True}
    ours |= {"fir_kernel": (1, 3, 3, 1)} if skips else {}
    for name, value in ours.items():
        here = getattr(network, name)
        yield f"network.{name}", tuple(here) if isinstance(here, list) else here, value
    yield "data.centered", network.centered, not config["center_input_sample"]


def has_skips(config: dict[str, Any]) -> bool:
    """Whether it has the blocks of NCSN++, which carry pyramids of images along."""
    return any("Skip" in block for block in (*config["down_block_types"], *config["up_block_types"]))


def settings_of(network: NCSNpp, shape: tuple[int, ...]) -> dict[str, Any]:
    """The config of a model that computes what the network does, where one does: `check` and `reasons` tell.

    shape: of an example, [H, W, C].
    """
    skips, sizes = network.progressive == "output_skip", [min(shape[:2]) >> i for i in range(len(network.ch_mult))]
    attends = [size in network.attn_resolutions for size in sizes]
    block = lambda way, here: f"{'Attn' * here}{'Skip' * skips}{way}Block2D"
    return DEFAULTS | {
        "_class_name": "UNet2DModel",
        "sample_size": shape[0] if shape[0] == shape[1] else list(shape[:2]),
        "in_channels": shape[-1],
        "out_channels": network.out_channels or shape[-1],
        "center_input_sample": not network.centered,
        "time_embedding_type": network.embedding_type,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "down_block_types": [block("Down", here) for here in attends],
        "up_block_types": [block("Up", here) for here in reversed(attends)],
        "block_out_channels": [network.nf * mult for mult in network.ch_mult],
        "layers_per_block": network.num_res_blocks,
        "mid_block_scale_factor": 2**0.5 if skips else 1,
        "downsample_padding": 1 if skips else 0,
        "act_fn": "silu",
        "attention_head_dim": None,
        "norm_num_groups": None if skips else 32,
        "norm_eps": 1e-6,
        "dropout": network.dropout,
    }


def reasons(network: Any, shape: tuple[int, ...]) -> Iterator[str]:
    """Every field for which no UNet2DModel computes what the network does."""
    if not isinstance(network, NCSNpp):
        yield "network.name (there: the U-Nets ncsnpp and ddpm)"
        return
    config = settings_of(network, shape)
    for field, here, wanted in differences(config, network):
        if here != wanted:
            yield f"{field}={here!r} (there: {wanted!r})"
    skips, attends = has_skips(config), any("Attn" in block for block in config["up_block_types"])
    ours: dict[str, tuple[Any, ...]] = {
        "progressive": ("output_skip",) if skips else ("none",),
        "progressive_input": ("input_skip",) if skips else ("none",),
        "progressive_combine": ("sum",) if skips else ("sum", "cat"),
        "resblock_type": ("biggan",) if skips else ("ddpm",),
        "resamp_with_conv": (True, False) if skips else (True,),
        "up_attention": (("level",) if skips else ("block",)) if attends else ("level", "block"),
        "augment_dim": (0,),
        "label_rows": (0,),
        "text": (None,),
    }
    for name, values in ours.items():
        if (here := getattr(network, name)) not in values:
            yield f"{FIELDS.get(name, f'network.{name}')}={here!r} (there: {values[0]!r})"
    if network.ch_mult[0] != 1:
        yield f"network.ch_mult={tuple(network.ch_mult)} (there it begins with 1)"
    if config["time_embedding_type"] == "positional" and network.nf % 2:
        yield f"network.nf={network.nf} (there it is even)"


FIELDS = {
    "augment_dim": "data.augmentation, as labels",
    "label_rows": "data.condition, as rows of labels",
    "text": "data.condition, as a text",
}
"""What the network's own fields come from, where that is no field of `network`."""


def _equal(a: Any, b: Any) -> bool:
    """Equality of settings; numbers were rounded when they were written."""
    return bool(np.isclose(a, b, rtol=1e-5)) if isinstance(a, float) and isinstance(b, float) else a == b


def modules_of(config: dict[str, Any]) -> Iterator[Module]:
    """Every module with parameters, in the order of calls."""
    layers, groups = config["layers_per_block"], config["norm_num_groups"]
    down, up = config["down_block_types"], config["up_block_types"]
    for block in {*down, *up} - {*DOWN, *UP}:
        raise UsageError(f"the diffusers block {block!r} is not known here: this model cannot be imported")
    if config["time_embedding_type"] == "fourier":
        yield Module("GaussianFourierProjection", "time_proj")
    yield Module("Dense", "time_embedding.linear_1")
    yield Module("Dense", "time_embedding.linear_2")
    yield Module("Conv", "conv_in")
    for i, block in enumerate(down):
        yield from _blocks(f"down_blocks.{i}", block, layers, groups)
        if i < len(down) - 1 and "Skip" in block:
            yield Module("residual block", f"down_blocks.{i}.resnet_down")
            yield Module("Combine", f"down_blocks.{i}.skip_conv")
        elif i < len(down) - 1:
            yield Module("Downsample", f"down_blocks.{i}.downsamplers.0")
    yield Module("residual block", "mid_block.resnets.0", groups)
    yield Module("attention block", "mid_block.attentions.0", groups)
    yield Module("residual block", "mid_block.resnets.1", groups)
    for i, block in enumerate(up):
        yield from _blocks(f"up_blocks.{i}", block, layers + 1, groups)
        if i < len(up) - 1 and "Skip" in block:
            yield Module("GroupNorm", f"up_blocks.{i}.skip_norm")
            yield Module("Conv", f"up_blocks.{i}.skip_conv")
            yield Module("residual block", f"up_blocks.{i}.resnet_up")
        elif i < len(up) - 1:
            yield Module("Upsample", f"up_blocks.{i}.upsamplers.0")
    yield Module("GroupNorm", "conv_norm_out", groups)
    yield Module("Conv", "conv_out")


def _blocks(name: str, block: str, layers: int, groups: int | None) -> Iterator[Module]:
    """The residual and attention blocks of one resolution."""
    skip = "Skip" in block
    for j in range(layers):
        yield Module("residual block", f"{name}.resnets.{j}", None if skip else groups)
        if "Attn" in block and block != "AttnSkipUpBlock2D":
            yield Module("attention block", f"{name}.attentions.{j}", 32 if skip else groups)
    if block == "AttnSkipUpBlock2D":
        yield Module("attention block", f"{name}.attentions.0", 32)
