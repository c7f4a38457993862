"""EDM2's U-Net (Karras et al. 2024): a state dict under the release's names as ours."""

import pathlib
from collections.abc import Mapping
from typing import Any

from score_sde.adapters.adm import FILTER, unet_modules
from score_sde.adapters.foreign import Tree, nested, torch_to_flax
from score_sde.errors import require
from score_sde.networks.edm2 import EDM2

KIND = "a network of EDM2"
VECTORS = ("freqs", "phases")


def is_ours(name: str) -> bool:
    """Whether a parameter of EDM2's networks may be called so."""
    return name.removeprefix("unet.").startswith("emb_fourier.")


def tree(path: pathlib.Path, state: Mapping[str, Any], network: Any, size: int) -> Tree:
    """The state dict for images of size x size as our tree; what is not known keeps its name, for a check to name."""
    require(isinstance(network, EDM2), f"{path} is of EDM2's U-Net: set network.name to 'edm2'")
    known, leaves = dict(unet_modules(network, size)), {}
    for name, value in state.items():
        if name.endswith(FILTER):
            continue
        module, _, leaf = name.removeprefix("unet.").rpartition(".")
        outer, _, inner = module.rpartition(".")
        parts = [known[module]] if module in known else [known.get(outer, outer), inner]
        leaves["/".join(filter(None, [*parts, "kernel" if leaf == "weight" else leaf]))] = torch_to_flax(name, value)
    return nested(leaves)
