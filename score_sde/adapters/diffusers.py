"""Hugging Face diffusers: the UNet2DModel of google/ncsnpp-* and of DDPM, a directory of config.json and weights.

It holds averaged parameters alone. Its modules are listed from config.json in the order of calls and put side by side
with ours. What it computes differently from us, and what becomes of it:
- The output is divided by sigma inside the network if the embedding is "fourier", as ours is if scale_by_sigma; the
  Fourier embedding takes the logarithm itself, in both.
- The positional embedding may have its cosines first (flip_sin_to_cos): the rows of the first linear map are swapped.
- Attention's linear maps, which older files call query, key, value and proj_attn, and 1x1 convolutions of shortcuts
  become NINs.
- GroupNorm has norm_num_groups groups, the skip blocks' attention always 32, whatever the width: compared with ours
  one by one. From 128 channels on, all are 32.
- AttnUpBlock2D attends after every residual block, as Ho et al. 2020 do, and not once a level: network.up_attention.
- Other frequencies, symmetric padding, several heads, another eps, scale or activation: refused (diffusers_config.py).
"""

import json
import pathlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
import safetensors

from score_sde.adapters import torch_pickle
from score_sde.adapters.diffusers_config import Module, check, complete, modules_of
from score_sde.adapters.foreign import Foreign, nested, reading, torch_to_flax
from score_sde.adapters.layout import Child, Layout
from score_sde.errors import UsageError, require
from score_sde.networks.layers import group_count

KIND = "a diffusers UNet2DModel"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
KINDS = {
    "ResnetBlockBigGANpp": "residual block",
    "ResnetBlockDDPMpp": "residual block",
    "ResnetBlockDDPM": "residual block",
    "AttnBlockpp": "attention block",
    "AttnBlock": "attention block",
}
PARTS = {
    "residual block": {
        "GroupNorm_0": "norm1",
        "Conv_0": "conv1",
        "Dense_0": "time_emb_proj",
        "GroupNorm_1": "norm2",
        "Conv_1": "conv2",
        "Conv_2": "conv_shortcut",
        "NIN_0": "conv_shortcut",
    },
    "attention block": {
        "GroupNorm_0": "group_norm",
        "NIN_0": "to_q",
        "NIN_1": "to_k",
        "NIN_2": "to_v",
        "NIN_3": "to_out.0",
    },
    "Downsample": {"Conv_0": "conv"},
    "Upsample": {"Conv_0": "conv"},
}
"""Our submodules' names there; those of the other kinds are one module there."""

OLD_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
    "time_proj.W": "time_proj.weight",
}


def find(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """(config.json, weights) of a directory, one with `unet` in it, or a file of weights; UsageError where missing."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and not (path / "config.json").exists():
        folder = path / "unet"
    config = folder / "config.json"
    require(config.is_file(), f"{folder} has no config.json, which tells what the weights mean: copy it beside them")
    if not path.is_dir():
        return config, path
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    require(found, f"{folder} has no {' or '.join(WEIGHTS)}: download one of them")
    return config, found[0]


def read(path: pathlib.Path, network: Any, layout: Layout, state: dict[str, Any] | None = None) -> Foreign:
    """The parameters at `path`, under the names of a network that computes the same; UsageError where it does not.

    `state` is what the file of weights holds, where it has been loaded already.
    """
    file, weights = find(path)
    with reading(file, "the config of a diffusers model"):
        config = complete(json.loads(file.read_text()))
        check(file, config, network)
        modules = list(modules_of(config))
    pairs = _pairs(file, modules, layout)
    with reading(weights, KIND):
        state = _renamed(_load(weights) if state is None else state)
        _check_groups(file, pairs, layout, state)
        known = {name: path for module, child in pairs for name, path in _names(module, child)}
        flat = {known.get(name, name): torch_to_flax(name, value) for name, value in state.items()}
        # A shortcut that is a 1x1 convolution there is a matrix here.
        flat = {n: a[0, 0] if n.endswith("/W") and a.ndim == 4 else a for n, a in flat.items()}
        if config["flip_sin_to_cos"] and config["time_embedding_type"] == "positional":
            flat["Dense_0/kernel"] = _sines_first(flat["Dense_0/kernel"])
        return Foreign(KIND, nested(flat))


def _load(weights: pathlib.Path) -> dict[str, Any]:
    if weights.suffix != ".safetensors":
        return torch_pickle.load(weights)
    with safetensors.safe_open(weights, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def _renamed(state: dict[str, Any]) -> dict[str, Any]:
    """The state dict under today's names."""
    result = {}
    for name, value in state.items():
        for old, new in OLD_NAMES.items():
            name = name.replace(old, new)
        result[name] = value
    return result


def _pairs(file: pathlib.Path, modules: list[Module], layout: Layout) -> list[tuple[Module, Child]]:
    """Their modules and ours side by side; UsageError at the first that is of another kind."""
    children = [child for child in layout.children if child.leaves]
    for module, child in zip_longest(modules, children):
        if module and child and module.kind == _kind(child):
            continue
        theirs = f"{module.kind} {module.name}" if module else "nothing more"
        ours = f"{_kind(child)} {child.name}" if child else "nothing more"
        attends = module and module.kind == "attention block" and module.name.startswith("up_blocks")
        remedy = "it attends after every residual block on the way up: set network.up_attention='block'"
        raise UsageError(
            f"{file} is of another architecture than the config: where it has {theirs}, the network has {ours};"
            f" {remedy if attends else 'give network.* the values of the model'}"
        )
    return list(zip(modules, children))


def _kind(child: Child) -> str:
    return KINDS.get(child.kind, child.kind)


def _names(module: Module, child: Child) -> Iterator[tuple[str, str]]:
    """(their name, our path) of every parameter of a module."""
    for path, part, leaf in child.paths():
        inner = PARTS.get(module.kind, {}).get(part, "")
        yield ".".join(filter(None, (module.name, inner, "bias" if leaf in ("bias", "b") else "weight"))), path


def _check_groups(
    file: pathlib.Path, pairs: list[tuple[Module, Child]], layout: Layout, state: dict[str, np.ndarray]
) -> None:
    """UsageError at the first GroupNorm that splits its channels otherwise than ours.

    The first norms of AttnSkipUpBlock2D's residual blocks follow yet another rule, which agrees wherever that block's
    attention does.
    """
    for module, child in pairs:
        for name, path in _names(module, child):
            ours = layout.groups.get(path.removesuffix("/scale"))
            if ours is None or name not in state:
                continue
            channels = np.shape(state[name])[0]
            theirs = group_count(channels, module.groups)
            require(
                theirs == ours,
                f"{file} normalises the {channels} channels of {name} in {theirs} groups, the config's network in"
                f" {ours}: this model cannot be imported",
            )


def _sines_first(kernel: np.ndarray) -> np.ndarray:
    """The rows of a linear map [in, out] that took cosines before sines; an odd last row is padding's."""
    half = kernel.shape[0] // 2
    return np.concatenate([kernel[half : 2 * half], kernel[:half], kernel[2 * half :]])
