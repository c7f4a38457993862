"""What a tree of arrays holds that a JAX program saved: the official training state, another one, bare parameters."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from score_sde.adapters.foreign import NO_AVERAGE, Foreign, Tree, array, count, flat, nested
from score_sde.adapters.parts import AVERAGE, AVERAGES, MOMENTS, PARAMETERS, RAW, STEP, first, innermost

OLD_NORMS = re.compile(r"GroupNorm_\d+|init_bn|bn_2|pre-pool-bn")
"""Modules whose parameters Flax 0.3.1 gave the shape (1, 1, 1, C), and Flax gives (C,) today."""
SINGLE, DOUBLE = "grad_ema", "grad_sq_ema"
"""Adam's moments, which every leaf of the official optimizer's tree holds."""


def understood(kind: str, saved: Tree) -> Foreign:
    """What is in a tree; parameters alone stand for their average. ValueError, KeyError: it is damaged."""
    if "optimizer" in saved and not set(PARAMETERS) & saved.keys():
        found = _official(saved)
    elif {*AVERAGES, *PARAMETERS} & saved.keys():
        found = _state(saved)
    else:
        return Foreign("a tree of bare parameters", params_of(saved), taken=(("its parameters", AVERAGE),))
    used = {name.partition(".")[0] for name, _ in found.taken}
    return found._replace(source=f"{kind}{found.source}", unused=tuple(name for name in saved if name not in used))


def _official(saved: Tree) -> Foreign:
    """The official training state, its average under any of the names in use."""
    step, params = count("step", saved["step"]), params_of(saved["optimizer"]["target"])
    moments, average = _moments(saved["optimizer"]["state"]), first(AVERAGES, saved)
    taken = (("step", STEP), ("optimizer.target", RAW if average else AVERAGE), ("optimizer.state", MOMENTS))
    if average is None:
        return Foreign(f" {NO_AVERAGE}", params, step=step, taken=taken, **moments)
    ema = params_of(saved[average])
    return Foreign("", ema, params, step=step, taken=((average, AVERAGE), *taken), **moments)


def _state(saved: Tree) -> Foreign:
    """Another program's: parameters, an average or both, and a step perhaps."""
    average, raw, step = first(AVERAGES, saved), first(PARAMETERS, saved), count("step", saved.get("step", 0))
    taken = tuple((name, AVERAGE if name == (average or raw) else RAW) for name in (average, raw) if name is not None)
    trees = [params_of(saved[name]) for name, _ in taken]
    taken += (("step", STEP),) if "step" in saved else ()
    source = " without an optimizer" if average else f" {NO_AVERAGE}"
    return Foreign(source, trees[0] if trees else {}, trees[1] if len(trees) > 1 else None, step=step, taken=taken)


def params_of(tree: Mapping[str, Any]) -> Tree:
    """Parameters in today's shapes; ValueError for what is no array."""
    return nested({path: _today(path, leaf) for path, leaf in flat(dict(innermost(tree))).items()})


def official(step: int, average: Tree, params: Tree, mu: Tree, nu: Tree, updates: int, **others: Any) -> Tree:
    """The official training state, in its order and with its dtypes; `others` are lr, ema_rate and rng."""
    moments = {path: {SINGLE: m, DOUBLE: v} for (path, m), v in zip(flat(mu).items(), flat(nu).values(), strict=True)}
    state = {"step": np.asarray(updates, np.int32), "param_states": nested(moments)}
    return {
        "step": np.asarray(step, np.int32),
        "optimizer": {"target": params, "state": state},
        "lr": np.asarray(others["lr"], np.float32),
        "model_state": {},
        "ema_rate": np.asarray(others["ema_rate"], np.float32),
        "params_ema": average,
        "rng": np.asarray(others["rng"], np.uint32),
    }


def _moments(state: Tree) -> dict[str, Any]:
    """Adam's two moments and the number of its updates."""
    leaves = [(path.rpartition("/"), leaf) for path, leaf in flat(state["param_states"]).items()]
    mu, nu = (nested({p: leaf for (p, _, name), leaf in leaves if name == key}) for key in (SINGLE, DOUBLE))
    updates = count("number of Adam's updates", state["step"])
    return {"mu": params_of(mu), "nu": params_of(nu), "adam_updates": updates}


def _today(path: str, leaf: Any) -> np.ndarray:
    found = array(path, leaf)
    module = path.split("/")[-2:][0]
    return found.reshape(-1) if OLD_NORMS.fullmatch(module) and found.shape[:-1] == (1, 1, 1) else found
