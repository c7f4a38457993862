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
from score_sde.config import Config
from score_sde.errors import require
from score_sde.networks.adm import ADM

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


def read(path: pathlib.Path, saved: Mapping[Any, Any]) -> Foreign:
    """The parameters, taken for the average; UsageError for what is none of ADM's."""
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


def asked(path: pathlib.Path, tree: Tree, config: Config, shape: tuple[int, ...]) -> dict[str, Any]:
    """The fields of the network whose parameters are the tree's, for images of the shape [H, W, C].

    UsageError for a network that the mode does not import: one that is shown a picture beside x; and for a classifier
    in the place of a U-Net, or the other way round.
    """
    is_u_net, wanted = "output_0" in tree, config.system.name == "score"
    require(
        is_u_net or not wanted,
        f"{path} is a classifier of ADM's: set system.name='classifier' and network.name='adm_encoder' in another"
        " config, and name its run as frozen.classifier; adapters.adm.read_params reads it alone",
    )
    require(not is_u_net or wanted, f"{path} is a U-Net of ADM's, no classifier: set system.name='score'")
    if not is_u_net:
        with reading(path, KIND):
            return _classifier_fields(path, tree, config, shape)
    with reading(path, KIND):
        outputs = [tuple(m.groups()) for name in tree if (m := re.fullmatch(r"output_(\d+)(_up)?", name))]
        ups = sorted(int(number) for number, up in outputs if up)
        levels, nf = len(ups) + 1, _nf(tree)
        blocks = (len(outputs) - len(ups)) // levels - 1
        widths = _widths(tree, levels, blocks)
        shown, made = tree["input_0"]["kernel"].shape[2], tree["out_conv"]["kernel"].shape[-1]
        fields = _encoder_fields(tree, levels, blocks, shape) | {
            "network.name": "adm",
            "data.condition": ("label",) if "map_label" in tree else (),
            "parametrization.prediction": "noise",
            "parametrization.learned_variance": made == 2 * shown,
        }
        if ups:
            fields["network.resblock_updown"] = "conv0" in tree[f"output_{ups[0]}_up"]
        if "map_label" in tree:
            fields["data.num_classes"] = tree["map_label"]["embedding"].shape[0] - (config.network.label_dropout > 0)
        if made == 2 * shown and config.training.objective == "denoising":
            fields["training.objective"] = "hybrid"
    require(
        all(width % nf == 0 for width in widths),
        f"{path} has levels of {widths} channels, no multiples of the {nf} of its noise level's embedding: it cannot be"
        " imported",
    )
    require(
        shown == shape[-1] and made in (shown, 2 * shown),
        f"{path} is shown {shown} channels and makes {made}, and the data have {shape[-1]}: set"
        f" data.num_channels={shown} if it is of such pictures; one that is shown a second picture is not imported",
    )
    return fields


def _classifier_fields(path: pathlib.Path, tree: Tree, config: Config, shape: tuple[int, ...]) -> dict[str, Any]:
    """`asked` of a classifier: how many levels there are is told by an attention pool, or by network.num_res_blocks."""
    total = sum(name.removeprefix("input_").isdigit() for name in tree)
    levels, pooled = total // (config.network.num_res_blocks + 1), "pool" in tree
    if pooled:
        pixels = tree["pool"]["positional_embedding"].shape[1] - 1
        levels = 1 + round(np.log2(np.prod(shape[:2]) / pixels) / 2)
    require(
        levels > 0 and total % levels == 0,
        f"{path} has {total} blocks on its way down, which are not those of {levels} levels of pictures of shape"
        f" {shape}: set data.image_size, data.num_channels and network.num_res_blocks to what it was trained with",
    )
    blocks = total // levels - 1
    fields = _encoder_fields(tree, levels, blocks, shape) | {
        "network.name": "adm_encoder",
        "network.pool": "attention" if pooled else "adaptive",
        "data.num_channels": tree["input_0"]["kernel"].shape[2],
        "data.num_classes": tree["pool"]["proj"]["b"].shape[0] if pooled else tree["out_conv"]["kernel"].shape[-1],
    }
    if levels > 1:
        fields["network.resblock_updown"] = "conv0" in tree[f"input_{_first(levels, blocks)[1] - 1}"]
    return fields


def _encoder_fields(tree: Tree, levels: int, blocks: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """What the way down tells, of so many levels with so many residual blocks; and of every one of ADM's networks."""
    nf, widths = _nf(tree), _widths(tree, levels, blocks)
    attending = [level for level, k in enumerate(_first(levels, blocks)) if f"input_{k}_attention" in tree]
    return {
        "network.nf": nf,
        "network.ch_mult": tuple(width // nf for width in widths),
        "network.num_res_blocks": blocks,
        "network.attn_resolutions": tuple(min(shape[:2]) >> level for level in attending),
        "network.scale_shift": tree["input_1"]["affine"]["bias"].shape[0] == 2 * widths[0],
        "sde.name": "vp",
        "sde.discrete": True,
        "parametrization.label": "level",
        "training.times": "levels",
    }


def _nf(tree: Tree) -> int:
    return tree["map_layer0"]["kernel"].shape[0]


def _first(levels: int, blocks: int) -> list[int]:
    """The number of every level's first residual block."""
    return [1 + level * (blocks + 1) for level in range(levels)]


def _widths(tree: Tree, levels: int, blocks: int) -> list[int]:
    return [tree[f"input_{k}"]["conv1"]["kernel"].shape[-1] for k in _first(levels, blocks)]


def edm_tree(path: pathlib.Path, state: Mapping[str, Any], network: Any, size: int) -> Tree:
    """The state dict of EDM's DhariwalUNet for images of size x size as our tree, its resampling filters compared."""
    require(isinstance(network, ADM), f"{path} is of EDM's DhariwalUNet: set network.name to 'dhariwal'")
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
