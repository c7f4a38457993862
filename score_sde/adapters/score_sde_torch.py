"""Official PyTorch checkpoints: what torch.save wrote of {model, ema, optimizer, step}, or of the model alone.

The network there is a list `all_modules`, numbered in the order of calls; inside a module the names are Flax's own. The
average is a list without names, in the order of `model` but without the Fourier frequencies, which are no trained
parameters there; Adam's state counts them in its index and has none for them. Forks keep the average as a state dict,
under one of the names of parts.py. The same names stand in the safetensors files that are written here.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from score_sde.adapters.foreign import (
    NO_AVERAGE,
    Foreign,
    Tree,
    array,
    count,
    flat,
    flax_to_torch,
    nested,
    reading,
    torch_to_flax,
)
from score_sde.adapters.layout import Layout
from score_sde.adapters.parts import AVERAGES, MOMENTS, STEP, Chosen, choose, is_counter, unwrapped
from score_sde.errors import require

KIND = "an official PyTorch checkpoint"
LEAVES = {"kernel": "weight", "scale": "weight"}
"""Flax's names of parameters that PyTorch calls otherwise."""
SIGMAS = "sigmas"
"""A buffer of every official model: the table of noise levels, of the largest first."""
FIXED = "GaussianFourierProjection"


def names(layout: Layout) -> dict[str, str]:
    """{PyTorch's name: ours} of every parameter; modules without parameters are numbered too, but not pyramids."""
    numbered = [child for child in layout.children if not child.pyramid]
    return {
        ".".join(filter(None, (f"all_modules.{i}", part.replace("/", "."), LEAVES.get(leaf, leaf)))): path
        for i, child in enumerate(numbered)
        for path, part, leaf in child.paths()
    }


def is_ours(name: str) -> bool:
    """Whether a parameter of the official networks may be called so."""
    return "all_modules" in name


def is_model(saved: Any) -> bool:
    """Whether a loaded object is a checkpoint of the official code or its model's state dict."""
    return isinstance(saved, Mapping) and any(tree is not None for tree in choose(saved, is_ours)[:2])


def read(path: pathlib.Path, saved: dict[str, Any], layout: Layout) -> Foreign:
    """The neutral value of a loaded checkpoint; without an average, and of a model alone, the model stands for it."""
    with reading(path, KIND):
        found = choose(saved, is_ours)
        for name in AVERAGES:
            if name in saved and found.average is None:
                raise ValueError(f"its {name} holds no parameters of this network")
        model, unused = _named(found.params, layout)
        average, more = _averaged(path, found, model, layout)
        foreign = _described(saved, average, None if model is None else from_state_dict(model, layout))
        taken = found.taken + tuple((name, STEP) for name in ("step", "global_step") if name in saved)
        moments: Any = saved.get("optimizer")
        known = names(layout).keys()
        readable = isinstance(moments, Mapping) and "param_groups" in moments
        if readable and model is not None and model.keys() <= known:  # else the tree's check names what is not known
            foreign = foreign._replace(**_moments(path, moments, model, layout))
            taken += (("optimizer", MOMENTS),) if foreign.mu is not None else ()
        used = {place for place, _ in taken}
        return foreign._replace(taken=taken, unused=tuple(p for p in (*found.unused, *unused, *more) if p not in used))


def _described(saved: dict[str, Any], average: Tree | None, params: Tree | None) -> Foreign:
    """The two trees with their step and what the file is."""
    official = {*AVERAGES, "optimizer"} & saved.keys()
    step = saved["step"] if official and "global_step" not in saved else saved.get("step", saved.get("global_step", 0))
    step = count("step", step)
    if average is not None:
        return Foreign(KIND, average, params, step=step)
    if params is None:
        raise ValueError("it holds no parameters of the official networks")
    source = f"{KIND} {NO_AVERAGE}" if official else "the parameters of an official PyTorch model"
    return Foreign(source, params, step=step)


def from_state_dict(state: Mapping[str, Any], layout: Layout) -> Tree:
    """PyTorch parameters by name -> our tree; a name that is not known stays as it is, for the tree's check to name."""
    known, bare = names(layout), {unwrapped(name)[1]: value for name, value in state.items()}
    return nested({known.get(name, name): torch_to_flax(name, value) for name, value in bare.items() if name != SIGMAS})


def to_state_dict(params: Tree, layout: Layout, sigmas: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse: the official model's state dict, its table of noise levels [N] included."""
    leaves = flat(params)
    return {SIGMAS: sigmas, **{name: flax_to_torch(name, leaves[path]) for name, path in names(layout).items()}}


def noise_levels(sigma_min: float, sigma_max: float, num_scales: int) -> np.ndarray:
    """The table that every official model carries, in float64 and from the largest on [N]."""
    return np.exp(np.linspace(np.log(sigma_max), np.log(sigma_min), num_scales))


def _named(found: Any, layout: Layout) -> tuple[dict[str, np.ndarray] | None, tuple[str, ...]]:
    """A tree's parameters under the names of the layout, in their order, and what in it is no parameter.

    Some averages keep names without their dots.
    """
    if found is None or isinstance(found.state, list):
        return None, ()
    known = {name.replace(".", ""): name for name in names(layout)}
    result, unused = {}, []
    for name, value in found.state.items():
        ours = known.get(name.replace(".", ""))
        if ours is None and (name == SIGMAS or is_counter(value)):
            unused.append(".".join(filter(None, (found.place, name))))
        else:
            result[ours or name] = array(name, value)
    return result, tuple(unused)


def _averaged(
    path: pathlib.Path, found: Chosen, model: dict[str, np.ndarray] | None, layout: Layout
) -> tuple[Tree | None, tuple[str, ...]]:
    """The average, by its own names or by the model's order; what it leaves out is not trained, and the model's."""
    if found.average is None:
        return None, ()
    if isinstance(found.average.state, list):
        if model is None:
            raise ValueError(f"its {found.average.place} has no names, and the model that would tell them is missing")
        return from_state_dict(_by_order(path, found.average.state, model, layout), layout), ()
    average, unused = _named(found.average, layout)
    fixed = {n: a for n, a in (model or {}).items() if names(layout).get(n, "").startswith(FIXED)}
    return from_state_dict(fixed | (average or {}), layout), unused


def _by_order(
    path: pathlib.Path, shadow: Sequence[Any], model: dict[str, np.ndarray], layout: Layout
) -> dict[str, np.ndarray]:
    """The averaged parameters by name; those that are not trained are the model's own."""
    known = names(layout)
    if not model.keys() <= known.keys():
        return model  # for the tree's check, which names what is not known
    trained = [name for name in model if not known[name].startswith(FIXED)]
    require(
        len(shadow) == len(trained),
        f"{path} has {len(shadow)} averaged parameters for {len(trained)} trained ones:"
        " choose the config that belongs to it",
    )
    return model | dict(zip(trained, shadow))


def _moments(
    path: pathlib.Path, optimizer: Mapping[str, Any], model: dict[str, np.ndarray], layout: Layout
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


def _by_name(path: pathlib.Path, optimizer: Mapping[str, Any], parameters: list[str]) -> dict[str, Any]:
    """Adam's state of every parameter that has one."""
    indices = [i for group in optimizer["param_groups"] for i in group["params"]]
    require(
        len(indices) == len(parameters),
        f"{path} has {len(indices)} parameters in its optimizer for {len(parameters)} in its model: one of the two is"
        " of another network; take another file, or save it without 'optimizer'",
    )
    by_index = dict(zip(indices, parameters))
    return {by_index[i]: state for i, state in optimizer["state"].items()}
