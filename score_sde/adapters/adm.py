"""ADM (Dhariwal & Nichol 2021): state dicts of its U-Nets and classifiers, and EDM's DhariwalUNet, as ours.

What a state dict does not tell: the number of heads and the order of queries, keys and values, which are the config's.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from score_sde.adapters import weights
from score_sde.adapters.foreign import Foreign, Tree, array, nested, reading, torch_to_flax
from score_sde.adapters.parts import choose
from score_sde.config import Config, flatten
from score_sde.errors import require
from score_sde.networks.adm import ADM, Trunk

KIND = "a network of ADM"
FILTER = ".resample_filter"
WHOLE = {
    "time_embed.0": "map_layer0",
    "time_embed.2": "map_layer1",
    "label_emb": "map_label",
    "input_blocks.0.0": "input_0",
    "out.0": "out_norm",
    "out.2": "out_conv",
    "out.3": "out_conv",
}
"""Modules of its own names; out.3 is the adaptive classifier's."""
BLOCK = {
    "in_layers.0": "norm0",
    "in_layers.2": "conv0",
    "emb_layers.1": "affine",
    "out_layers.0": "norm1",
    "out_layers.3": "conv1",
    "skip_connection": "skip",
}
ATTENTION = {"norm": "norm", "qkv": "qkv", "proj_out": "proj"}
MIDDLE = {"0": "middle_0", "1": "middle_0", "2": "middle_1"}
POOL = {"qkv_proj": "qkv", "c_proj": "proj"}


def is_ours(name: str) -> bool:
    """Whether a parameter of ADM's networks may be called so."""
    return name.startswith("time_embed.0.")


def is_model(saved: Any) -> bool:
    """Whether a loaded object holds the state dict of one."""
    return isinstance(saved, dict) and any(tree is not None for tree in choose(saved, is_ours)[:2])


def read(path: pathlib.Path, saved: Mapping[Any, Any], network: Any) -> Foreign:
    """The parameters, taken for the average; UsageError for what is none of ADM's, or for another network's config."""
    require(isinstance(network, Trunk), f"{path} is of ADM's U-Net: set network.name to 'adm'")
    with reading(path, KIND):
        found = choose(saved, is_ours)
        trees = [_tree(path, tree.state) for tree in (found.average, found.params) if tree is not None]
        params = trees[1] if len(trees) == 2 else None
        return Foreign(KIND, trees[0], params, taken=found.taken, unused=found.unused)


def read_params(path: str | pathlib.Path) -> Tree:
    """The parameters of a file of ADM's, a classifier's among them, for score_sde.networks.ADM or ADMEncoder.

    Raises UsageError for a file that is damaged or none of ADM's.
    """
    path = pathlib.Path(path)
    saved = weights.load(path)
    require(
        is_model(saved), f"{path} is no network of ADM, which has parameters named time_embed.0.: name its .pt file"
    )
    with reading(path, KIND):
        found = choose(saved, is_ours)
        tree = found.average or found.params
        assert tree is not None
        return _tree(path, tree.state)


def check(path: pathlib.Path, config: Config) -> None:
    """UsageError where the config makes another score of the network's output than ADM's chain of levels."""
    wanted = {
        "sde.name": "vp",
        "sde.discrete": True,
        "parametrization.prediction": "noise",
        "parametrization.label": "level",
    }
    here = flatten(config)
    differing = {n: v for n, v in wanted.items() if here[n] != v}
    require(
        not differing,
        f"{path} is ADM's, which predicts the noise of a chain of levels: set"
        f" {', '.join(f'{n}={v!r}' for n, v in differing.items())}, or take a config of configs/adm",
    )


def edm_tree(path: pathlib.Path, state: Mapping[str, Any], network: ADM, size: int) -> Tree:
    """The state dict of EDM's DhariwalUNet for images of size x size as our tree, its resampling filters compared."""
    known, leaves = dict(unet_modules(network, size)), {}
    for name, value in state.items():
        if name.endswith(FILTER):
            taps = array(name, value).reshape(-1)
            require(
                taps.size == 4 and np.allclose(taps, 0.25),
                f"{path} resamples by another filter than the mean of 2x2 pixels: it cannot be imported",
            )
            continue
        module, _, leaf = name.rpartition(".")
        outer, _, inner = module.rpartition(".")
        attends = inner in ("norm2", "qkv", "proj")
        ours = f"{known.get(outer, outer)}{'_attention' * attends}/{'norm' if attends and inner == 'norm2' else inner}"
        leaves |= _leaf(known.get(module, ours.lstrip("/")), name, leaf, value)
    return nested(leaves)


def unet_modules(network: Any, size: int) -> Iterator[tuple[str, str]]:
    """(name, ours) of every block and first convolution of EDM's DhariwalUNet and of EDM2's U-Net."""
    sizes, number = [size >> level for level in range(len(network.ch_mult))], 0
    yield "map_augment", "Dense_augment"
    for s in sizes:
        kinds = ["conv" if s == size else "down", *(f"block{i}" for i in range(network.num_res_blocks))]
        for kind in kinds:
            yield f"enc.{s}x{s}_{kind}", f"input_{number}"
            number += 1
    number = 0
    for s in reversed(sizes):
        if s == sizes[-1]:
            yield from ((f"dec.{s}x{s}_in{i}", f"middle_{i}") for i in (0, 1))
        else:
            yield f"dec.{s}x{s}_up", f"output_{number - 1}_up"
        for i in range(network.num_res_blocks + 1):
            yield f"dec.{s}x{s}_block{i}", f"output_{number}"
            number += 1


def _tree(path: pathlib.Path, state: Any) -> Tree:
    """A state dict of ADM's as our tree."""
    pooled = any(name.startswith("out.2.") and name.split(".")[2] in POOL for name in state)
    spatial = "out.2.weight" in state and np.ndim(state["out.2.weight"]) == 2
    require(not spatial, f"{path} pools by concatenated means (spatial), which no network here does")
    leaves = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if pooled and module.startswith("out.2"):
            inner = module.removeprefix("out.2").lstrip(".")
            if not inner:
                leaves["pool/positional_embedding"] = array(name, value)
                continue
            leaves |= _leaf(f"pool/{POOL.get(inner, inner)}", name, leaf, value)
        else:
            leaves |= _leaf(_module(module), name, leaf, value)
    return nested(leaves)


def _module(module: str) -> str:
    """Our path of a module of ADM's, its own name where that is not known."""
    if module in WHOLE:
        return WHOLE[module]
    if found := re.fullmatch(r"middle_block\.([012])\.(.+)", module):
        slot, inner = found[1], found[2]
        return (
            f"{MIDDLE[slot]}_attention/{ATTENTION.get(inner, inner)}"
            if slot == "1"
            else f"{MIDDLE[slot]}/{BLOCK.get(inner, inner)}"
        )
    if found := re.fullmatch(r"(in|out)put_blocks\.(\d+)\.(\d+)\.(.+)", module):
        place, inner = f"{found[1]}put_{found[2]}", found[4]
        if inner in ATTENTION:
            return f"{place}_attention/{ATTENTION[inner]}"
        place += "_up" if found[3] != "0" else ""
        return place if inner in ("op", "conv") else f"{place}/{BLOCK.get(inner, inner)}"
    return module


def _leaf(module: str, name: str, leaf: str, value: Any) -> dict[str, np.ndarray]:
    """{our path: array} of a parameter; `name` is theirs, `module` our path of its module."""
    last = module.rpartition("/")[2]
    found = array(name, value)
    if last in ("qkv", "proj"):
        found = found.reshape(found.shape[:2]) if leaf == "weight" else found
        return {f"{module}/{'W' if leaf == 'weight' else 'b'}": torch_to_flax(name, found)}
    if name == "label_emb.weight":
        return {f"{module}/embedding": found}
    kinds = {"norm": "scale", "map_label": "embedding"}
    weight = next((own for word, own in kinds.items() if word in last), "kernel")
    return {f"{module}/{weight if leaf == 'weight' else leaf}": torch_to_flax(name, found)}
