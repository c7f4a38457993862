"""Official PyTorch checkpoints: what torch.save wrote of {model, ema, optimizer, step}, or of the model alone.

The network there is a list `all_modules`, numbered in the order of calls; inside a module the names are Flax's own. The
average is a list without names, in the order of `model` but without the Fourier frequencies, which are no trained
parameters there; Adam's state counts them in its index and has none for them.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from score_sde.adapters.foreign import Foreign, Tree, float32, nested, reading, torch_to_flax
from score_sde.adapters.layout import Layout
from score_sde.errors import require

KIND = "an official PyTorch checkpoint"
LEAVES = {"kernel": "weight", "scale": "weight"}
"""Flax's names of parameters that PyTorch calls otherwise."""


def names(layout: Layout) -> dict[str, str]:
    """{PyTorch's name: ours} of every parameter; modules without parameters are numbered too, but not pyramids."""
    numbered = [child for child in layout.children if not child.pyramid]
    return {
        ".".join(filter(None, (f"all_modules.{i}", part.replace("/", "."), LEAVES.get(leaf, leaf)))): path
        for i, child in enumerate(numbered)
        for path, part, leaf in child.paths()
    }


def is_model(saved: Any) -> bool:
    """Whether a loaded object is a checkpoint of the official code or its model's state dict."""
    return isinstance(saved, dict) and ("model" in saved or any("all_modules." in str(name) for name in saved))


def read(path: pathlib.Path, saved: dict[str, Any], layout: Layout) -> Foreign:
    """The neutral value of a loaded checkpoint, or of a model alone, which then is the average."""
    with reading(path, KIND):
        if "model" not in saved:
            return Foreign("the parameters of an official PyTorch model", from_state_dict(saved, layout))
        model = _parameters(saved["model"])
        params = from_state_dict(model, layout)
        if not {"ema", "optimizer"} <= saved.keys():
            return Foreign("the parameters of an official PyTorch model", params)
        ema, optimizer = saved["ema"], saved["optimizer"]
        state = _by_name(optimizer, list(model))
        moments = [
            from_state_dict({n: state[n][moment] if n in state else 0 * a for n, a in model.items()}, layout)
            for moment in ("exp_avg", "exp_avg_sq")
        ]
        return Foreign(
            KIND,
            ema=from_state_dict(_average(path, ema["shadow_params"], model, layout), layout),
            params=params,
            mu=moments[0],
            nu=moments[1],
            step=int(saved["step"]),
            adam_updates=max((int(s["step"]) for s in state.values()), default=0),
            ema_updates=int(ema["num_updates"] or 0),
        )


def from_state_dict(state: dict[str, Any], layout: Layout) -> Tree:
    """PyTorch parameters by name -> our tree; a name that is not known stays as it is, for the tree's check to name."""
    known = names(layout)
    return nested({known.get(name, name): torch_to_flax(name, value) for name, value in _parameters(state).items()})


def _parameters(model: dict[str, Any]) -> dict[str, np.ndarray]:
    """The model's parameters without DataParallel's prefix and without the table of noise levels."""
    named = {name.removeprefix("module."): value for name, value in model.items()}
    return {name: float32(name, value) for name, value in named.items() if name != "sigmas"}


def _average(
    path: pathlib.Path, shadow: Sequence[Any], model: dict[str, np.ndarray], layout: Layout
) -> dict[str, np.ndarray]:
    """The averaged parameters by name; those that are not trained are the model's own."""
    known = names(layout)
    trained = [name for name in model if not known.get(name, name).startswith("GaussianFourierProjection")]
    require(
        len(shadow) == len(trained),
        f"{path} has {len(shadow)} averaged parameters for {len(trained)} trained ones:"
        " choose the config that belongs to it",
    )
    return model | dict(zip(trained, shadow))


def _by_name(optimizer: dict[str, Any], parameters: list[str]) -> dict[str, Any]:
    """Adam's state of every parameter that has one."""
    indices = [i for group in optimizer["param_groups"] for i in group["params"]]
    by_index = dict(zip(indices, parameters, strict=True))
    return {by_index[i]: state for i, state in optimizer["state"].items()}
