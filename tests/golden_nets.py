"""The recorded networks of golden/conditioning/nets: parameters under the names of their codes, inputs, outputs."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np

from score_sde.adapters.foreign import Tree, flat
from tests.golden_files import load, quick_jit, unpack_flat

TOLERANCES = {"EDM": 3 * 5e-7, "EDM2": 3 * 3e-7, "ADM": 3 * 9e-6}
"""Three times what float64 and the recorded float32 differ by (golden/conditioning/README.md), of max|output|."""
FOLDER = "conditioning/nets"


def arrays(name: str) -> dict[str, np.ndarray]:
    """What is recorded of a network; not to be written to."""
    return load(name, FOLDER)


def config(name: str) -> dict[str, Any]:
    """What it was made with, in the words of its code."""
    return json.loads(str(arrays(name)["meta_json"]))["config"]


def state(name: str, prefix: str = "") -> dict[str, np.ndarray]:
    """Its state dict in float32, without the prefix."""
    found = unpack_flat(arrays(name)).items()
    return {n.removeprefix(prefix): value.astype(np.float32) for n, value in found}


def nhwc(x: np.ndarray) -> np.ndarray:
    """Images [N, C, H, W] -> [N, H, W, C]."""
    return x.transpose(0, 2, 3, 1)


def nchw(x: Any) -> np.ndarray:
    """The inverse of `nhwc`."""
    return np.asarray(x).transpose(0, 3, 1, 2)


def edm_denoiser(name: str, f: Callable[[np.ndarray, np.ndarray], Any]) -> np.ndarray:
    """EDM's D [N, C, H, W] of the recorded input, from F(c_in x, ln(sigma) / 4); sigma_data is 1/2."""
    x, s = arrays(name)["x"].astype(np.float64), arrays(name)["sigma"].astype(np.float64)
    sigma = s[:, None, None, None]
    root = np.sqrt(sigma**2 + 0.25)
    output = nchw(f(nhwc(x / root).astype(np.float32), (np.log(s) / 4).astype(np.float32))).astype(np.float64)
    return 0.25 / root**2 * x + 0.5 * sigma / root * output


@cache
def _compiled(network: Any) -> Callable[..., Any]:
    return quick_jit(network.apply)


def bound(network: Any, params: Tree, **options: Any) -> Callable[..., Any]:
    """The network with parameters, which must be all of it and of its shapes, compiled."""

    def call(*inputs: Any) -> Any:
        fresh = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs, **options))["params"]
        shapes = [{name: np.shape(leaf) for name, leaf in flat(tree).items()} for tree in (fresh, params)]
        assert shapes[0] == shapes[1]
        return _compiled(network)({"params": params}, *inputs, **options)

    return call


def edm_conditions(golden: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """What a class-conditional network of EDM's was told for each of its recorded outputs, by their names."""
    label, augment = golden["class_labels"].argmax(1).astype(np.int32), golden["augment_labels"]
    null = np.full(3, 5, np.int32)
    kept = np.where(golden["label_dropout_u"][:, 0] >= 0.4, label, null)
    return {
        "output": {"label": label, "augment": augment},
        "output_uncond": {"label": null, "augment": augment},
        "output_no_augment": {"label": label},
        "output_train_label_dropout": {"label": kept, "augment": augment},
    }
