"""Hugging Face diffusers: the UNet2DModel of google/ncsnpp-* and of DDPM, a directory of config.json and weights.

Its training script keeps the parameters in `unet` and the average in `unet_ema`. Its modules are listed from
config.json in the order of calls and put side by side with ours. What it computes differently from us, and what becomes
of it:
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
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from score_sde.adapters import scheduler, weights
from score_sde.adapters.diffusers_config import Module, check, complete, modules_of, settings_of
from score_sde.adapters.foreign import Foreign, Tree, count, flat, flax_to_torch, nested, reading, torch_to_flax
from score_sde.adapters.layout import Child, Layout
from score_sde.adapters.parts import AVERAGE, RAW, choose
from score_sde.errors import UsageError, require
from score_sde.networks.group_norm import group_count

KIND = "a diffusers UNet2DModel"
CONFIG = "config.json"
STEMS = ("diffusion_pytorch_model",)
TREES = ("unet_ema", "unet")
"""Directories of a pipeline, and of a checkpoint of diffusers' training script, with the average first."""
KNOWN = (CONFIG, scheduler.FILE, "scheduler", "model_index.json")
"""What is read of a directory beside weights, and an index of it."""
FIRST = "Dense_0/kernel"
VERSION = "0.42.1"
"""The version of diffusers whose files those that are written here are like."""
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


def is_ours(name: str) -> bool:
    """Whether a parameter of a UNet2DModel may be called so."""
    return "conv_in." in name


def read(path: pathlib.Path, network: Any, layout: Layout, saved: dict[Any, Any] | None = None) -> Foreign:
    """The parameters at `path`, under the names of a network that computes the same; UsageError where it does not.

    A directory of config.json and weights, or one with `unet`, `unet_ema` or both in it, or a file of weights beside
    config.json; `saved` is what such a file holds, where it has been loaded already.
    """
    if not path.is_dir():
        saved = weights.load(path) if saved is None else saved
        return _of_model(path.with_name(CONFIG), path, saved, network, layout)
    if (path / CONFIG).is_file() or not any((path / name).is_dir() for name in TREES):
        foreign = _of_folder(path, network, layout)
        return foreign._replace(unused=foreign.unused + _beside(path))
    found = {name: _of_folder(path / name, network, layout) for name in TREES if (path / name).is_dir()}
    average = found.get("unet_ema", found.get("unet"))
    assert average is not None
    params = found["unet"].ema if len(found) == 2 else None
    roles = zip(("unet_ema", "unet"), (AVERAGE, RAW)) if params is not None else [(next(iter(found)), AVERAGE)]
    unused = tuple(f"{name}/{inner}" for name, model in found.items() for inner in model.unused)
    unused += _others(path, {*found, *KNOWN})
    return Foreign(KIND, average.ema, params, step=_step(path), taken=tuple(roles), unused=unused)


def scheduler_of(path: pathlib.Path) -> pathlib.Path | None:
    """The scheduler_config.json that belongs to the model at `path`; None where there is none."""
    return scheduler.find(path if path.is_dir() else path.parent)


def _of_folder(folder: pathlib.Path, network: Any, layout: Layout) -> Foreign:
    """One directory of config.json and weights."""
    require(
        (folder / CONFIG).is_file(),
        f"{folder} has no {CONFIG}, which tells what the weights mean: copy it beside them",
    )
    saved, file = weights.load_folder(folder, *STEMS)
    foreign = _of_model(folder / CONFIG, file, saved, network, layout)
    shards = {path.name for path in folder.iterdir() if weights.SHARD.fullmatch(path.name)}
    used = {file.name, *(shards if file.name.endswith(weights.INDEX) else ())}
    return foreign._replace(unused=(*foreign.unused, *_others(folder, {*used, *KNOWN})))


def _beside(folder: pathlib.Path) -> tuple[str, ...]:
    """The other one of `unet` and `unet_ema`, where one of them was named."""
    others = [folder.parent / name for name in TREES if name != folder.name] if folder.name in TREES else []
    return tuple(f"../{other.name}" for other in others if other.is_dir())


def _of_model(file: pathlib.Path, place: pathlib.Path, saved: Any, network: Any, layout: Layout) -> Foreign:
    """Loaded weights and the config beside them."""
    require(file.is_file(), f"{file.parent} has no {CONFIG}, which tells what the weights mean: copy it beside them")
    with reading(file, "the config of a diffusers model"):
        config = complete(json.loads(file.read_text()))
        check(file, config, network)
        pairs = _pairs(file, list(modules_of(config)), layout)
    with reading(place, KIND):
        found = choose(saved, is_ours)
        trees = [_tree(file, tree.state, pairs, layout, config) for tree in (found.average, found.params) if tree]
        if not trees:
            raise ValueError("it holds no parameter of a UNet2DModel")
        taken = tuple((place.name if name == "its parameters" else name, role) for name, role in found.taken)
        params = trees[1] if len(trees) == 2 else None
        return Foreign(KIND, trees[0], params, taken=taken, unused=found.unused)


def _tree(
    file: pathlib.Path, state: Any, pairs: list[tuple[Module, Child]], layout: Layout, config: dict[str, Any]
) -> Tree:
    """A state dict of theirs as our tree."""
    renamed = _renamed(state)
    _check_groups(file, pairs, layout, renamed)
    known = {name: path for module, child in pairs for name, path in _names(module, child)}
    ours = {known.get(name, name): torch_to_flax(name, value) for name, value in renamed.items()}
    # A shortcut that is a 1x1 convolution there is a matrix here.
    ours = {n: a[0, 0] if n.endswith("/W") and a.ndim == 4 else a for n, a in ours.items()}
    if config["flip_sin_to_cos"] and config["time_embedding_type"] == "positional" and FIRST in ours:
        ours[FIRST] = _sines_first(ours[FIRST])
    return nested(ours)


def _step(folder: pathlib.Path) -> int:
    """Of the directory's name, checkpoint-10, or of the average's config; 0 where neither tells."""
    if found := re.fullmatch(r"checkpoint[-_](\d+)", folder.absolute().name):
        return count("step", found[1])
    file = folder / "unet_ema" / CONFIG
    return count("step", json.loads(file.read_text()).get("optimization_step", 0)) if file.is_file() else 0


def _others(folder: pathlib.Path, used: set[str]) -> tuple[str, ...]:
    """What else is in a directory, but for what only describes it."""
    hidden = lambda name: name.startswith(".") or name.endswith((".md", ".txt", ".png"))
    return tuple(sorted(p.name for p in folder.iterdir() if p.name not in used and not hidden(p.name)))


def to_folder(folder: pathlib.Path, params: Tree, network: Any, layout: Layout, shape: tuple[int, ...]) -> None:
    """Write config.json and weights of the UNet2DModel that computes what the network does.

    shape: of an example, [H, W, C]. Raises UsageError where `reasons` has none and the norms' groups still differ.
    """
    config, leaves = settings_of(network, shape), flat(params)
    file = folder / CONFIG
    check(file, config, network)
    pairs, state = _pairs(file, list(modules_of(config)), layout), {}
    for module, child in pairs:
        for name, path in _names(module, child):
            value = leaves[path]
            matrix = name.endswith("conv_shortcut.weight") and value.ndim == 2
            state[name] = flax_to_torch(name, value[None, None] if matrix else value)
    _check_groups(file, pairs, layout, state)
    file.write_text(json.dumps({**config, "_diffusers_version": VERSION}, indent=2, sort_keys=True) + "\n")
    weights.save(folder / f"{STEMS[0]}.safetensors", state)


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
