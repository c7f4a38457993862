"""What a config's programs will cost on devices that are not there: compiled for them, and read off the programs."""

import copy
import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from score_sde.config import Config
from score_sde.config.fields import SAMPLERS
from score_sde.data.stream import Batch
from score_sde.devices.chips import chip
from score_sde.devices.hlo import Collective, costs
from score_sde.devices.parallel import DATA, FSDP, Sharded, check_batch_size
from score_sde.devices.precision import at
from score_sde.devices.topologies import devices
from score_sde.experiment import objects
from score_sde.experiment.building import build
from score_sde.experiment.degrading import LEVEL
from score_sde.experiment.experiment import Experiment
from score_sde.names import IMAGE, PRESENT
from score_sde.networks.remat import compiler_options
from score_sde.rng import example_keys, root_key
from score_sde.sde import reverse
from score_sde.solvers import AdaptiveSolver
from score_sde.systems import Reflow
from score_sde.systems.reflow import NOISE


class Memory(NamedTuple):
    """Bytes on a device: what a program is given, what it needs besides, what it returns in the place of the former."""

    arguments: int
    temporaries: int
    outputs: int
    aliased: int
    code: int

    @property
    def total(self) -> int:
        """All of them at once."""
        return self.arguments + self.temporaries + self.outputs - self.aliased + self.code


@dataclasses.dataclass(frozen=True)
class Forecast:
    """One program on one topology.

    flops: of all devices. bytes: accessed on one, in its main memory or in that beside its cores, None where the
    compiler counts none. seconds: by its cycles, None where it estimates none. at_least: those of the FLOPs at the
    chip's peak. Of a program that the compiler refuses for the chip's memory there is what it says is needed, as
    temporaries, and no more.
    """

    program: str
    devices: int
    memory: Memory
    fits: bool | None
    flops: float
    bytes: float | None
    cycles: int
    seconds: float | None
    at_least: float | None
    kernels: int
    collectives: dict[str, Collective]
    unknown_loops: int
    compile_seconds: float

    @property
    def refused(self) -> bool:
        """Whether there is no program."""
        return not self.kernels

    def utilisation(self, peak: float) -> float | None:
        """The part of the devices' peak that the model's operations are, by the seconds."""
        return self.flops / (self.devices * self.seconds * peak) if self.seconds and peak else None


def forecasts(config: Config, programs: Iterable[str] = ()) -> Iterator[Forecast]:
    """Of each program, by default of all that the system has, for the devices of `parallel.topology`; nothing is run.

    Training is the sharded program; that of pmap, which is not compiled ahead, does the same. UsageError for batches
    that the devices do not divide.
    """
    experiment = on_topology(config)
    scoreless = config.system.name in SAMPLERS
    for name in programs or [name for name in PROGRAMS if name != "likelihood drift" or not scoreless]:
        yield _forecast(name, experiment)


def on_topology(config: Config) -> Experiment:
    """The experiment, its training step to be laid over the topology's devices."""
    c = config.parallel
    found = devices(c.topology)
    for section in ("training", "sampling", "likelihood"):
        parts = config.training.microbatches if section == "training" else 1
        size = config[section].batch_size
        check_batch_size(f"{section}.batch_size", size, parts, len(found), f" of {c.topology}")
    strategy = Sharded(c.fsdp if c.strategy == "sharded" else 1, found)
    return dataclasses.replace(build(config), strategy=strategy)


def _forecast(name: str, experiment: Experiment) -> Forecast:
    target = chip(experiment.config.parallel.topology)
    since = time.perf_counter()
    options: Any = compiler_options(experiment.platform.name)
    lowered, refused = PROGRAMS[name](experiment), 0
    try:
        compiled = lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        refused = needed(str(error), target.memory)
        if not refused:
            raise
        compiled = None
    seconds = time.perf_counter() - since
    found = costs((compiled.as_text() if compiled else "") or "")
    memory = _memory(compiled) if compiled else Memory(0, refused, 0, 0, 0)
    count = experiment.strategy.mesh.devices.size  # pyright: ignore[reportAttributeAccessIssue]
    flops = model_flops(name, experiment.config)
    return Forecast(
        program=name,
        devices=count,
        memory=memory,
        fits=memory.total <= target.memory if target.memory else None,
        flops=flops,
        bytes=_accessed(compiled) if compiled else None,
        cycles=found.cycles,
        seconds=found.cycles / target.clock if found.cycles and target.clock else None,
        at_least=flops / count / target.flops if target.flops else None,
        kernels=found.kernels,
        collectives=found.collectives,
        unknown_loops=found.unknown_loops,
        compile_seconds=seconds,
    )


def needed(message: str, memory: float) -> int:
    """Bytes that a compiler says a program needs where it refuses it for a chip's memory; 0 for other refusals.

    More than the chip's, where it does not say how many.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return 0
    said = re.search(r"([\d.]+)([KMGT])\)? (?:exceeds|of [\d.]+[KMGT] hbm)", message)
    return int(float(said[1]) * 2 ** (10 * "KMGT".index(said[2]) + 10)) if said else int(memory) + 1


def _memory(compiled: Any) -> Memory:
    said = compiled.memory_analysis()
    sizes = (
        getattr(said, f"{kind}_size_in_bytes") for kind in ("argument", "temp", "output", "alias", "generated_code")
    )
    return Memory(*sizes)


def _accessed(compiled: Any) -> float | None:
    found = (compiled.cost_analysis() or {}).get("bytes accessed")
    return None if found is None else float(found)


def model_flops(name: str, config: Config) -> float:
    """Of a program on all devices, as the CPU's lowering counts it: without what rematerialisation computes again.

    In an accelerator's forms, as those of CPU have fewer products, and without loops, whose bodies are counted once.
    """
    plain = copy.deepcopy(config)
    plain.parallel.update(topology="v5e:2x2", strategy="sharded", fsdp=1)
    plain.training.update(microbatches=1, remat="none", scan_blocks=False)
    experiment = dataclasses.replace(build(plain), strategy=Sharded(1, jax.devices("cpu")[:1]))
    return float((PROGRAMS[name](experiment).cost_analysis() or {})["flops"])


def _spread(experiment: Experiment, *axes: Any) -> NamedSharding:
    mesh: Mesh = experiment.strategy.mesh  # pyright: ignore[reportAttributeAccessIssue]
    return NamedSharding(mesh, PartitionSpec(*axes))


ALL = (DATA, FSDP)


def _array(experiment: Experiment, shape: tuple[int, ...], dtype: Any, *axes: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=_spread(experiment, *axes))


def _condition(experiment: Experiment, shape: tuple[int, ...], *axes: Any) -> dict[str, Any]:
    labels, text = experiment.spec.labels, experiment.spec.text
    found = {} if labels is None else {"label": _array(experiment, shape, jnp.int32, *axes)}
    told = {} if text is None else text.shapes
    return found | {name: _array(experiment, (*shape, *own), dtype, *axes) for name, (own, dtype) in told.items()}


def _training(experiment: Experiment) -> jax.stages.Lowered:
    """One update, the state where the strategy has it."""
    size = experiment.config.training.batch_size
    dtype = {"bytes": jnp.uint8, "real": jnp.float32}.get(experiment.spec.kind, jnp.int32)
    place: Any = lambda shape, dtype: _array(experiment, (1, size, *shape), dtype, None, ALL)
    condition = _condition(experiment, (1, size), None, ALL)
    if isinstance(experiment.system, Reflow):
        dtype, condition[NOISE] = jnp.float32, place(experiment.shape, jnp.float32)
    batch = Batch(place(experiment.shape, dtype), place((2,), jnp.uint32), condition)
    state, frozen = (experiment.strategy.placed(x) for x in (experiment.abstract_state(), _frozen(experiment)))
    return experiment.strategy.map(experiment.train_step(), state).lower(state, frozen, batch)


def _frozen(experiment: Experiment) -> Any:
    return jax.eval_shape(lambda: experiment.frozen_params)


def _sampling(experiment: Experiment) -> jax.stages.Lowered:
    """One step of the solver, of a fixed grid, or one evaluation of the score, of an adaptive one; all few steps."""
    c, size = experiment.config.sampling, experiment.config.sampling.batch_size

    def step(params: Any, condition: Any, seed: Any, position: Any, x: Any, t: Any, s: Any) -> Any:
        keys = example_keys(root_key(seed), position)
        if c.solver == "few_step":
            return experiment.draw(params, keys, condition).x
        system = experiment.score_system
        score = experiment.drawing.guiding.score(system, params, condition)
        solver: Any = experiment.solver(params, condition)
        if isinstance(solver, AdaptiveSolver):
            return score(x, t)
        sde = system.sde(params)
        memory = solver.init(sde, x, jnp.linspace(t, s, c.num_steps + 1))
        return solver.step(keys, sde, score, x, t, s, memory).x

    scalar = _array(experiment, (), jnp.float32)
    return _lowered(experiment, c.precision, step, size, _array(experiment, (), jnp.uint32), scalar, scalar)


def _drift(experiment: Experiment) -> jax.stages.Lowered:
    """The ODE's drift with its divergence, once."""
    c = experiment.config.likelihood

    def drift(params: Any, condition: Any, seed: Any, position: Any, x: Any, t: Any) -> Any:
        keys, score = example_keys(root_key(seed), position), experiment.score_of(params, condition)
        field = reverse(experiment.system.sde(params), score, churn=0.0).drift
        return objects.DIVERGENCES[c.divergence](c).estimate(keys, x)(lambda y: field(y, t), x)

    seed, scalar = _array(experiment, (), jnp.uint32), _array(experiment, (), jnp.float32)
    return _lowered(experiment, c.precision, drift, c.batch_size, seed, scalar)


def _lowered(
    experiment: Experiment, precision: str, function: Callable, size: int, seed: Any, *scalars: Any
) -> jax.stages.Lowered:
    """Of examples spread over all devices, parameters whole on each."""
    whole = lambda x: _array(experiment, x.shape, x.dtype)
    params = jax.tree.map(whole, experiment.abstract_params())
    position = _array(experiment, (size, 2), jnp.uint32, ALL)
    x = _array(experiment, (size, *experiment.shape), jnp.float32, ALL)
    condition = _condition(experiment, (size,), ALL)
    if shown := getattr(experiment.system, "shown", ()):
        condition |= {IMAGE: _array(experiment, (size, *shown), jnp.float32, ALL)}
        condition |= {LEVEL: _array(experiment, (size,), jnp.float32, ALL)}
    if experiment.spec.missing:
        condition |= {PRESENT: _array(experiment, (size, *experiment.shape), jnp.bool_, ALL)}
    return jax.jit(at(precision, function)).lower(params, condition, seed, position, x, *scalars)


PROGRAMS: dict[str, Callable[[Experiment], jax.stages.Lowered]] = {
    "training step": _training,
    "sampling step": _sampling,
    "likelihood drift": _drift,
}
"""What is forecast, and how it is lowered."""

CHANGES: tuple[dict[str, Any], ...] = (
    {"training.microbatches": 2}, {"training.microbatches": 4}, {"training.microbatches": 8},
    {"training.remat": "dots"}, {"training.remat": "blocks"},
    {"parallel.strategy": "sharded", "parallel.fsdp": 0},
    {"training.compute_dtype": "bfloat16"},
    {"parallel.strategy": "sharded", "parallel.fsdp": 0, "training.remat": "blocks"},
    {"parallel.strategy": "sharded", "parallel.fsdp": 0, "training.remat": "blocks",
     "training.compute_dtype": "bfloat16"},
    {"parallel.strategy": "sharded", "parallel.fsdp": 0, "training.remat": "blocks",
     "training.compute_dtype": "bfloat16", "training.microbatches": 8},
)  # fmt: skip
"""What makes a training step smaller, in the order in which it is tried."""


def changed(config: Config, changes: dict[str, Any]) -> Config | None:
    """The config with these fields; None where they are so already, or the batch cannot be cut so."""
    other = copy.deepcopy(config)
    for name, value in changes.items():
        section, field = name.split(".")
        other[section][field] = value
    count = len(devices(config.parallel.topology)) * other.training.microbatches
    same = other.to_json() == config.to_json()
    return None if same or other.training.batch_size % count else other


def remedy(config: Config) -> Iterator[tuple[dict[str, Any], Forecast]]:
    """Every change that is tried, with what becomes of the training step, up to the first that fits."""
    for changes in CHANGES:
        other = changed(config, changes)
        if other is None:
            continue
        (found,) = forecasts(other, ("training step",))
        yield changes, found
        if found.fits:
            return


def gib(size: float) -> str:
    """Bytes in GiB, in words."""
    return f"{size / 2**30:.2f}" if size < 100 * 2**30 else f"{size / 2**30:.0f}"
