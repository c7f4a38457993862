"""The pairs of noise and sample that a reflow is trained on, drawn of its teacher once and kept with the run."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.config import Config, default
from score_sde.config.automatic import CHOICES
from score_sde.data.spec import Spec
from score_sde.devices.arrays import Agreement, collect, replicate, spread
from score_sde.devices.distributed import together
from score_sde.devices.precision import at
from score_sde.errors import require
from score_sde.experiment import objects, solving
from score_sde.experiment.conditions import Conditions
from score_sde.experiment.frozen import Frozen
from score_sde.experiment.teaching import taught
from score_sde.networks.remat import compiler_options
from score_sde.progress import Progress
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.posterior import Small
from score_sde.signals import Stopped
from score_sde.solvers.sampling import carried
from score_sde.storage.blocks import Blocks
from score_sde.systems.reflow import NOISE, Reflow
from score_sde.systems.teacher import PART
from score_sde.typing import Array

Arrays = dict[str, np.ndarray]


class Pairs(NamedTuple):
    """Samples x float32 [N, ...] in the network's range and, by name, the noise float32 [N, ...] that each was made of,
    with its label int32 [N] where the teacher was told one.
    """

    x: np.ndarray
    condition: Arrays


def drawn(config: Config, spec: Spec, frozen: Mapping[str, Frozen]) -> Pairs:
    """The pairs of a config, drawn into memory. UsageError for samples that are not finite."""
    count, size = config.reflow.pairs, config.sampling.batch_size
    found = [rows for _, rows in _blocks(config, spec, frozen[PART], range(0, count, size), size)]
    return _pairs({name: np.concatenate([rows[name] for rows in found]) for name in found[0]})


def draw_pairs(experiment: Any, folder: pathlib.Path, signal: Callable[[], int], show: bool = True) -> None:
    """Give a reflow's experiment its pairs in files of a folder, of which what is missing or damaged is drawn.

    Nothing where it has them already, or is no reflow. Every process calls it, of which the first writes and holds the
    run's lock. Raises UsageError for samples that are not finite, OSError, and Stopped behind a block where `signal`
    tells one.
    """
    if not isinstance(experiment.system, Reflow) or "pairs" in experiment.__dict__:
        return
    config, spec, teacher = experiment.config, experiment.spec, experiment.frozen[PART]
    first, agreed, settings = jax.process_index() == 0, Agreement(), _settings(config, teacher)
    rows = {"x": (spec.shape, "<f4"), NOISE: (spec.shape, "<f4")} | ({"label": ((), "<i4")} if spec.labels else {})
    blocks = Blocks(folder, rows, config.reflow.pairs, config.sampling.batch_size, settings)
    lacking = together(blocks.lacking)
    done = blocks.count - sum(min(blocks.size, blocks.count - k) for k in lacking)
    with Progress("pairs", blocks.count, "pairs", done, show=show and bool(lacking)) as progress:
        for start, arrays in _blocks(config, spec, teacher, lacking, blocks.size):
            if first:
                blocks.write(start, arrays)
            done += len(arrays["x"])
            progress.update(len(arrays["x"]))
            if signum := agreed.now(signal()):
                raise Stopped(signum, f"{done:,} of {blocks.count:,} pairs, which are kept")
    together(lambda: None)  # the last block is written
    experiment.__dict__["pairs"] = _pairs(blocks.arrays())


def _pairs(arrays: Arrays) -> Pairs:
    return Pairs(arrays["x"], {name: rows for name, rows in arrays.items() if name != "x"})


def _settings(config: Config, teacher: Frozen) -> dict[str, Any]:
    """What decides the pairs."""
    own = {"seed": config.seed, "teacher": teacher.record.checksum, "scale": config.teacher.scale}
    return own | config.reflow.to_dict()


def _blocks(
    config: Config, spec: Spec, teacher: Frozen, firsts: Iterable[int], size: int
) -> Iterator[tuple[int, Arrays]]:
    """The pairs first .. first + size - 1 of every first, fewer at the end: of one program, compiled once."""
    draw = jax.jit(
        at(config.sampling.precision, _program(config, spec, teacher)),
        compiler_options=compiler_options(teacher.experiment.platform.name),
    )
    params = replicate(teacher.params)
    for first in firsts:
        found = collect(draw(params, np.uint32(config.seed), spread(positions(first, size))))
        require(
            bool(np.isfinite(found["x"]).all()),
            f"samples of frozen.teacher={teacher.record.run} by reflow.solver={config.reflow.solver!r} with"
            f" reflow.num_steps={config.reflow.num_steps} are not finite: raise reflow.num_steps, or train it longer",
        )
        yield first, {name: rows[: config.reflow.pairs - first] for name, rows in found.items()}


def _program(config: Config, spec: Spec, teacher: Frozen) -> Callable[[Any, Array, Array], dict[str, Array]]:
    """(the teacher's parameters, seed, positions [B, 2]) -> {"x", "noise" [B, ...] and, by the law of labels, "label"}.

    z ~ N(0, I) and x, to which the teacher's probability-flow ODE takes x_T = prior_std z.
    """
    student, told = taught(config, teacher), teacher.experiment.config
    sde = student.system.process
    solver: Any = solving.SOLVERS[config.reflow.solver](default().sampling, Small())
    own = default()
    own.sampling.update(t_min=told.sampling.t_min, num_steps=config.reflow.num_steps)
    grid = functools.partial(objects.GRIDS[CHOICES[told.sde.name]["times"]], own, sde)

    def draw(params: Any, seed: Array, position: Array) -> dict[str, Array]:
        keys = example_keys(jax.random.fold_in(root_key(seed), Purpose.PAIR), position)
        z, condition = normal(child(keys, Purpose.PRIOR), spec.shape), Conditions(spec).of_keys(keys)
        steps, score = child(keys, Purpose.STEPS), student.score(params, condition)
        x = carried(steps, score, sde, sde.prior_std * z, solver=solver, times=grid()).x
        return {"x": x, NOISE: z, **condition}

    return draw
