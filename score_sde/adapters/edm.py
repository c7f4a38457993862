"""EDM's networks (Karras et al. 2022, 2024): SongUNet, its DDPM++ and NCSN++, DhariwalUNet, and EDM2's.

They come as a state dict saved by torch.save, or in EDM's own pickles (edm_pickle.py). SongUNet's modules are listed
from the network's fields in the order of calls and put side by side with ours. What differs:
- An attention lies in the block before it; its queries, keys and values are every third row of one map, `qkv`.
- The frequencies are a buffer, and so are the resampling filters, which are compared with the network's.
- The null label is the zero vector there and the last row here, zeros at first; sqrt(rows) goes into the others.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from score_sde.adapters import adm, edm2
from score_sde.adapters.edm_pickle import Pickled
from score_sde.adapters.foreign import Foreign, Tree, array, nested, reading, torch_to_flax
from score_sde.adapters.layout import Child, Layout
from score_sde.adapters.parts import choose
from score_sde.config import Config, flatten
from score_sde.errors import UsageError, require
from score_sde.networks.ncsnpp import NCSNpp

KIND = "a network of EDM"
FILTER = ".resample_filter"
RESIDUAL, ATTENTION = "ResnetBlockBigGANpp", "AttnBlockpp"
PARTS = {
    RESIDUAL: {
        "GroupNorm_0": "norm0",
        "Conv_0": "conv0",
        "Dense_0": "affine",
        "GroupNorm_1": "norm1",
        "Conv_1": "conv1",
        "Conv_2": "skip",
    },
    ATTENTION: {"GroupNorm_0": "norm2", "NIN_0": "q", "NIN_1": "k", "NIN_2": "v", "NIN_3": "proj"},
}
"""Our submodules' names there; those of the other kinds are one module there."""


def is_ours(name: str) -> bool:
    """Whether a parameter of EDM's networks may be called so."""
    return name.startswith(("map_layer0.", "emb_fourier."))


def is_model(saved: Any) -> bool:
    """Whether a loaded object holds the state dict of one."""
    return isinstance(saved, dict) and any(tree is not None for tree in choose(saved, is_ours)[:2])


def read(path: pathlib.Path, saved: dict[Any, Any], network: Any, layout: Layout) -> Foreign:
    """The parameters, taken for the average; UsageError for a network that computes something else."""
    with reading(path, KIND):
        found = choose(saved, is_ours)
        trees = [_tree(path, tree.state, network, layout) for tree in (found.average, found.params) if tree is not None]
        params = trees[1] if len(trees) == 2 else None
        return Foreign(KIND, trees[0], params, taken=found.taken, unused=found.unused)


def read_pickle(path: pathlib.Path, pickled: Pickled, network: Any, layout: Layout) -> Foreign:
    """The same of a network in one of EDM's pickles, parameters and buffers of its preconditioning left out."""
    state = {name.removeprefix("model."): value for name, value in pickled.state.items()}
    with reading(path, KIND):
        return pickled.foreign(_tree(path, state, network, layout))


def check(path: pathlib.Path, config: Config) -> None:
    """UsageError where the config makes another score of the network's output than EDM's preconditioning."""
    label = "root_sigma" if config.network.embedding_type == "fourier" else "log_sigma"
    wanted = {"sde.name": "edm", "parametrization.prediction": "edm", "parametrization.label": label}
    here = flatten(config)
    differing = {n: v for n, v in wanted.items() if here[n] != v}
    require(
        not differing,
        f"{path} is EDM's, whose preconditioning is not the config's: set"
        f" {', '.join(f'{n}={v!r}' for n, v in differing.items())}, or take a config of configs/edm",
    )


def _tree(path: pathlib.Path, state: Any, network: Any, layout: Layout) -> Tree:
    """A state dict of theirs as our tree."""
    first = next((m for name in state if (m := re.fullmatch(r"(?:unet\.)?enc\.(\d+)x\1_conv\.weight", name))), None)
    require(first, f"{path} has no enc.<size>x<size>_conv, and is of no network of EDM's: it cannot be imported")
    assert first is not None
    if any(edm2.is_ours(name) for name in state):
        return edm2.tree(path, state, network, int(first[1]))
    if "out_norm.weight" in state:
        return adm.edm_tree(path, state, network, int(first[1]))
    _check_network(path, network)
    known = _names(path, int(first[1]), network, layout)
    ours = {}
    for name, value in _with_null(_apart(state), network.label_rows).items():
        if name.endswith(FILTER):
            _check_filter(path, value, network)
        else:
            ours[known.get(name, name)] = torch_to_flax(name, value)
    return nested(ours)


def _check_network(path: pathlib.Path, network: Any) -> None:
    require(isinstance(network, NCSNpp), f"{path} is of a U-Net: set network.name to ncsnpp")
    wanted = {"resblock_type": "biggan", "skip_rescale": True, "scale_by_sigma": False, "nonlinearity": "swish",
              "conditional": True, "up_attention": "level", "progressive_combine": "sum"}  # fmt: skip
    wanted |= {"label_embedding": "edm"} if network.label_rows else {}
    for name, value in wanted.items():
        here = getattr(network, name)
        require(here == value, f"network.{name}={here!r} does not compute what {path} does: set it to {value!r}")


def _check_filter(path: pathlib.Path, found: np.ndarray, network: NCSNpp) -> None:
    """UsageError unless the taps [1, 1, K, K] of a resampling are the network's."""
    taps = np.asarray(network.fir_kernel if network.fir else (1, 1), np.float64)
    ours = np.outer(taps, taps) / taps.sum() ** 2
    theirs = np.asarray(found, np.float64).reshape(np.shape(found)[-2:])
    naive = theirs.shape == (2, 2)
    require(
        theirs.shape == ours.shape and np.allclose(theirs, ours, atol=1e-6),
        f"network.fir={network.fir}, network.fir_kernel={tuple(network.fir_kernel)} do not resample as {path} does:"
        f" set network.fir={not naive}{'' if naive else ', network.fir_kernel=(1, 3, 3, 1)'}",
    )


def _apart(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """The state dict with queries, keys and values apart, and 1x1 convolutions of attention as linear maps."""
    result = {}
    for name, value in state.items():
        value = array(name, value)
        block, _, leaf = name.rpartition(".")
        if not block.endswith((".qkv", ".proj")):
            result[name] = value
            continue
        value = value[..., 0, 0] if value.ndim == 4 else value
        if block.endswith(".proj"):
            result[name] = value
        else:
            result |= {f"{block.removesuffix('qkv')}{part}.{leaf}": value[i::3] for i, part in enumerate("qkv")}
    return result


def _with_null(state: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """The state dict with a label of zeros behind the last, where the network has one row more than it.

    There the one-hot vector is scaled by the root of the labels, here by that of the rows.
    """
    weight = state.get("map_label.weight")
    if weight is None or weight.shape[1] + 1 != rows:
        return state
    scaled = weight * np.sqrt(weight.shape[1] / rows).astype(weight.dtype)
    return {**state, "map_label.weight": np.pad(scaled, ((0, 0), (0, 1)))}


def _names(path: pathlib.Path, size: int, network: Any, layout: Layout) -> dict[str, str]:
    """{their name: our path} of every parameter; UsageError where the network has other modules."""
    modules = list(_modules(network, size))
    children = [child for child in layout.children if child.leaves]
    kinds = [child.kind for child in children]
    if [kind for kind, _ in modules] != kinds:
        raise UsageError(
            f"{path} is of pictures of {size}x{size}, and the config's network is not one of EDM's for these: take its"
            f" config of configs/edm, with data.image_size={size}"
        )
    return dict(pair for (_, module), child in zip(modules, children) for pair in _inside(module, child))


def _inside(module: str, child: Child) -> Iterator[tuple[str, str]]:
    for path, part, leaf in child.paths():
        inner = PARTS.get(child.kind, {}).get(part, "")
        own = "freqs" if module == "map_noise" else "bias" if leaf in ("bias", "b") else "weight"
        yield ".".join(filter(None, (module, inner, own))), path


def _modules(network: NCSNpp, size: int) -> Iterator[tuple[str, str]]:
    """(our kind, their name) of every module with parameters, in the order of calls."""
    if network.embedding_type == "fourier":
        yield "GaussianFourierProjection", "map_noise"
    if network.label_rows:
        yield "Dense", "map_label"
    if network.augment_dim:
        yield "Dense", "map_augment"
    yield from (("Dense", "map_layer0"), ("Dense", "map_layer1"))
    sizes = [size >> level for level in range(len(network.ch_mult))]
    pyramid = {"residual": [("Downsample", "aux_residual")], "input_skip": [("Combine", "aux_skip")], "none": []}
    for level, s in enumerate(sizes):
        if level == 0:
            yield "Conv", f"enc.{s}x{s}_conv"
        else:
            yield RESIDUAL, f"enc.{s}x{s}_down"
            yield from ((kind, f"enc.{s}x{s}_{name}") for kind, name in pyramid[network.progressive_input])
        for i in range(network.num_res_blocks):
            yield from _block(f"enc.{s}x{s}_block{i}", s in network.attn_resolutions)
    for s in reversed(sizes):
        if s == sizes[-1]:
            yield from _block(f"dec.{s}x{s}_in0", True)
            yield RESIDUAL, f"dec.{s}x{s}_in1"
        else:
            yield RESIDUAL, f"dec.{s}x{s}_up"
        for i in range(network.num_res_blocks + 1):
            attends = i == network.num_res_blocks and s in network.attn_resolutions
            yield from _block(f"dec.{s}x{s}_block{i}", attends)
        if network.progressive == "output_skip" or s == size:
            yield "GroupNorm", f"dec.{s}x{s}_aux_norm"
            yield "Conv", f"dec.{s}x{s}_aux_conv"


def _block(name: str, attends: bool) -> list[tuple[str, str]]:
    return [(RESIDUAL, name), *([(ATTENTION, name)] if attends else [])]
