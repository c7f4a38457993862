"""A new run that starts with the weights of another one: which, and what of them fits."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from score_sde.config import Config, flatten
from score_sde.data.spec import Spec
from score_sde.errors import require
from score_sde.experiment.frozen import Build, Record, Reference, check_unchanged, experiment_of, parse, weights
from score_sde.systems.base import Params

FIELD = "training.start_from"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a run's first parameters came from, and how to get them: {name: array}, on the host.

    Only a run without a checkpoint reads them. left_out: of the parameters that did not fit, which and why. young: in
    words, how much of its average is not trained, and what its network was to mean otherwise.
    """

    record: Record
    read: Callable[[], dict[str, Any]]
    left_out: tuple[str, ...] = ()
    young: str = ""

    def __str__(self) -> str:
        run, step, average = self.record[:3]
        kind = "the parameters themselves (raw)" if average == "raw" else f"the average {average!r}"
        afresh = f"; made afresh: {'; '.join(self.left_out)}" if self.left_out else ""
        hint = "" if average == "raw" else f"; {FIELD}={run}@{step}:raw takes the parameters themselves"
        return f"starting from {kind} of {run} at step {step}{self.young}{hint}{afresh}"


def origin(
    config: Config, spec: Spec, recorded: Mapping[str, Any] | None, abstract: Callable[[], Params], build: Build
) -> Origin | None:
    """The origin that the config's field names, or that the run's record has, which is not looked at before it is read.

    spec: of this run's data. abstract: shapes and dtypes of its parameters. Raises UsageError where there is no such
    run, step or average, and for parameters that do not fit: for any of them, or other classes, if strict, else where
    none fits.
    """
    text, strict = config.training.start_from, config.training.start_strict
    if recorded is not None:
        return Origin(Record(**recorded), lambda: _again(Record(**recorded), abstract, build))
    if not text:
        return None
    reference = parse(FIELD, text)
    other = experiment_of(FIELD, reference.run, build)
    record, params = weights(other, reference)
    given, left_out = fitting(params, abstract())
    if strict or not given:
        require(
            not left_out,
            f"{FIELD}={text} does not fit this run's network: {'; '.join(left_out[:3])} ({len(left_out)} arrays in all)"
            ": give network.*, data.num_channels and data.condition its values"
            + f", or take what fits by --config.training.start_strict=False ({len(given)} arrays)"
            * bool(given),
        )
    classes = _other_classes(other.spec, spec)
    require(
        not (strict and classes),
        f"{FIELD}={text} {classes}: give the data the same ones, or take its rows by number, by"
        " --config.training.start_strict=False",
    )
    held = [given]  # until the first state is made of them
    read = lambda: held.pop() if held else _again(record, abstract, build)
    said = [classes] if classes else []
    said += _other_meaning(other.config, config)
    young = other.early.words(record.step, record.average) + "".join(f"; {what}" for what in said)
    return Origin(record, read, tuple(left_out), young)


def _other_classes(there: Spec, here: Spec) -> str:
    """What to say where rows of a table of labels would go from one class to another; else nothing."""
    texts = [spec.text.words if spec.text else () for spec in (there, here)]
    if all(texts) and texts[0] != texts[1]:
        return "reads captions of other words than this run"
    old, new = ((spec.labels.names if spec.labels else ()) for spec in (there, here))
    if not old or not new or old == new:
        return ""
    return f"knows the classes {', '.join(old[:6])}, and this run's are {', '.join(new[:6])}"


def _other_meaning(there: Config, here: Config) -> list[str]:
    """What the network's output and input were to mean in the other run, where that differs."""
    old, new = flatten(there), flatten(here)
    apart = [n for n in new if n.split(".")[0] in ("sde", "parametrization") or n == "data.centered"]
    differing = [f"{n} was {old.get(n)} and is {new[n]}" for n in apart if old.get(n) != new[n]]
    return [f"trained otherwise: {', '.join(differing[:6])}"] if differing else []


def _again(record: Record, abstract: Callable[[], Params], build: Build) -> dict[str, Any]:
    """The parameters of a record, read once more; UsageError where they are others now."""
    reference = Reference(record.run, record.step, record.average)
    found, params = weights(experiment_of(FIELD, record.run, build), reference)
    check_unchanged(f"{FIELD}={record.run}", found, record._asdict(), params)
    return fitting(params, abstract())[0]


def fitting(params: Params, abstract: Params) -> tuple[dict[str, Any], list[str]]:
    """Those of the parameters that a run can start with, by name, and of all others which and why not."""
    there, here = named(params), named(abstract)
    fits = lambda n: n in there and (there[n].shape, there[n].dtype) == (here[n].shape, here[n].dtype)
    shape = lambda tree, name: f"{list(tree[name].shape)}" if name in tree else "not"
    given = {name: there[name] for name in here if fits(name)}
    others = sorted((there.keys() | here.keys()) - given.keys())
    return given, [f"{name} is {shape(there, name)} there and {shape(here, name)} here" for name in others]


def named(tree: Params) -> dict[str, Any]:
    """{"part/module/parameter": leaf}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def replaced(params: Params, given: Mapping[str, Any]) -> Params:
    """The parameters, with those given in their places."""
    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, [given.get(name, leaf) for name, leaf in zip(named(params), leaves)])
