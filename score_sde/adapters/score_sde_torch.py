"""Official PyTorch checkpoints: what torch.save wrote of {model, ema, optimizer, step}, or of the model alone.

The network there is a list `all_modules`, numbered in the order of calls; inside a module the names are Flax's own. The
average is a list without names, in the order of `model` but without the Fourier frequencies, which are no trained
parameters there; Adam's state counts them in its index and has none for them.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from score_sde.adapters.foreign import NO_AVERAGE, Foreign, Tree, count, float32, nested, reading, torch_to_flax
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
    """The neutral value of a loaded checkpoint; without an average, and of a model alone, the model stands for it."""
    with reading(path, KIND):
        model = _parameters(saved.get("model", saved))
        params = from_state_dict(model, layout)
        if not {"ema", "optimizer"} & saved.keys():
            step = count("step", saved.get("step", 0))
            return Foreign("the parameters of an official PyTorch model", params, step=step)
        step = count("step", saved["step"])
        if "ema" in saved:
            average = _average(path, saved["ema"]["shadow_params"], model, layout)
            foreign = Foreign(KIND, from_state_dict(average, layout), params, step=step)
        else:
            foreign = Foreign(f"{KIND} {NO_AVERAGE}", params, step=step)
        return foreign._replace(**_moments(path, saved["optimizer"], model, layout) if "optimizer" in saved else {})


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


def _moments(
    path: pathlib.Path, optimizer: dict[str, Any], model: dict[str, np.ndarray], layout: Layout
) -> dict[str, Any]:
    """Adam's moments, zeros where a parameter has none, and the number of its updates; nothing before the first."""
    state = _by_name(path, optimizer, list(model))
    if not state:
        return {}
    mu, nu = (
        from_state_dict({n: state[n][moment] if n in state else np.zeros_like(a) for n, a in model.items()}, layout)
        for moment in ("exp_avg", "exp_avg_sq")
    )
    updates = max(count("number of Adam's updates", s["step"]) for s in state.values())
    return {"mu": mu, "nu": nu, "adam_updates": updates}


def _by_name(path: pathlib.Path, optimizer: dict[str, Any], parameters: list[str]) -> dict[str, Any]:
    """Adam's state of every parameter that has one."""
    indices = [i for group in optimizer["param_groups"] for i in group["params"]]
    require(
        len(indices) == len(parameters),
        f"{path} has {len(indices)} parameters in its optimizer for {len(parameters)} in its model: one of the two is"
        " of another network; take another file, or save it without 'optimizer'",
    )
    by_index = dict(zip(indices, parameters))
    return {by_index[i]: state for i, state in optimizer["state"].items()}
