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
    blocks = [*config["down_block_types"], *config["up_block_types"]]
    skips, fourier = any("Skip" in b for b in blocks), config["time_embedding_type"] == "fourier"
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
    ours = {"embedding_type": config["time_embedding_type"], "scale_by_sigma": fourier, "skip_rescale": skips}
    ours |= {"nonlinearity": "swish", "fir": skips, "conditional": True}
    for name, value in ours.items():
        here = getattr(network, name)
        require(here == value, f"network.{name}={here!r} does not compute what {file} does: set it to {value!r}")
    centered, kernel = not config["center_input_sample"], tuple(network.fir_kernel)
    require(
        network.centered == centered,
        f"data.centered={network.centered} does not go with center_input_sample={not centered} in {file}:"
        f" set it to {centered}",
    )
    require(not skips or kernel == (1, 3, 3, 1), f"network.fir_kernel={kernel} is not theirs: set it to (1, 3, 3, 1)")


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
