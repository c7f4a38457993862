"""Ways over devices. The step knows an axis name at most; this module alone knows devices, pmap and sharding.

Devices are those of all processes, ordered by process. A batch of B examples lies over them in that order, so each
process has B / processes consecutive rows of it (`process_rows`) and never sees the others.
"""

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from score_sde.devices import memory
from score_sde.devices.arrays import AXIS, all_devices, line, ordered, put
from score_sde.errors import require

DATA, FSDP = "data", "fsdp"
SMALL = 1024
"""Arrays of fewer elements are copied whole onto every device, however the rest is sharded."""

Loss = Callable[[Any, Any, Any], Any]


class Strategy(abc.ABC):
    """How a training step is mapped over devices."""

    axis_name: str | None
    """What the step averages over, None where the compiler inserts the collectives."""

    ahead: bool = True
    """Whether the mapped step can be compiled before it is called, as the compiler's options need it."""

    @abc.abstractmethod
    def wrap(self, loss: Loss) -> Loss:
        """The loss (params, view, batch) as the step wants it: what is sharded of the first two gathered."""

    @abc.abstractmethod
    def map(self, step: Callable, state: Any) -> Any:
        """The step over devices, to be lowered and compiled; its metrics are global or have an axis of devices.

        state: the (abstract) state that it will be called with, which it consumes.
        """

    def compile(self, step: Callable, state: Any, frozen: Any, options: dict[str, str] | None = None) -> "Compiled":
        """(placed state, placed batches) -> (placed state, metrics [K]), compiled once for each number K of updates.

        state: as it is fetched, or its shapes. The state given to a call is consumed. frozen: what the step only reads,
        fetched; it is placed as parameters are, once. options: the compiler's. What compiling leaves of memory is
        handed back before the program runs.
        """
        return Compiled(self, self.map(step, state), self.placed(state), self.place_state(frozen), options)

    @abc.abstractmethod
    def lower(self, state: Callable[[Any], Any], key: Any) -> jax.stages.Lowered:
        """The pure function that makes of a key a state to be placed; no device ever holds more than its part of it."""

    @abc.abstractmethod
    def first(self, metrics: Any) -> Any:
        """The metrics of the mapped step without an axis of devices, on this process."""

    @abc.abstractmethod
    def abstract(self, state: Any) -> Any:
        """Shapes, dtypes and shardings of a fetched state: what a checkpoint is restored as."""

    @abc.abstractmethod
    def place_state(self, state: Any) -> Any:
        """A fetched, restored or new state as the compiled step wants it."""

    @abc.abstractmethod
    def placed(self, state: Any) -> Any:
        """Shapes, dtypes and shardings of a fetched state once it is placed."""

    @abc.abstractmethod
    def place_batches(self, batches: Any) -> Any:
        """The rows of batches that are this process's, leaves [K, rows, ...], on its devices."""

    @abc.abstractmethod
    def fetch_state(self, state: Any) -> Any:
        """The inverse of place_state: global arrays without an axis of devices."""


class Compiled:
    """A step over devices: what `Strategy.compile` returns."""

    def __init__(
        self, strategy: Strategy, mapped: Any, state: Any, frozen: Any, options: dict[str, str] | None
    ) -> None:
        self._strategy, self._mapped, self._state, self._frozen = strategy, mapped, state, frozen
        self._options, self._programs = options, {}

    def prepare(self, batches: Any) -> Callable:
        """The program for batches of this shape, compiled, for which no state need be there yet."""
        shape = jax.tree.leaves(batches)[0].shape
        if shape not in self._programs:
            mapped = self._mapped
            if self._strategy.ahead:
                with memory.uncollected():
                    lowered = mapped.lower(self._state, self._frozen, batches)
                mapped = lowered.compile(self._options)
            self._programs[shape] = mapped
            memory.release()
        return self._programs[shape]

    def __call__(self, state: Any, batches: Any) -> tuple[Any, Any]:
        state, metrics = self.prepare(batches)(state, self._frozen, batches)
        return state, self._strategy.first(metrics)


class Pmap(Strategy):
    """Data parallel by pmap: a copy of the state on every device, gradients averaged after grad."""

    axis_name = AXIS

    def __init__(self, devices: Sequence[Any] | None = None) -> None:
        self.devices = list(jax.local_devices() if devices is None else devices)
        self._sharding = NamedSharding(line(tuple(self.devices)), PartitionSpec(AXIS))
        self.ahead = jax.process_count() == 1  # of several, a program of pmap's compiled ahead wants global arrays

    def wrap(self, loss: Loss) -> Loss:
        return loss

    def map(self, step: Callable, state: Any) -> Any:
        devices = self.devices if jax.process_count() == 1 else None
        return jax.pmap(step, axis_name=AXIS, donate_argnums=(0,), devices=devices)

    def lower(self, state: Callable[[Any], Any], key: Any) -> jax.stages.Lowered:
        return jax.jit(state).lower(key)

    def first(self, metrics: Any) -> Any:
        return _first_copies(metrics)

    def abstract(self, state: Any) -> Any:
        sharding = NamedSharding(all_devices(), PartitionSpec())
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), state)

    def placed(self, state: Any) -> Any:
        n = len(self.devices)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((n, *a.shape), a.dtype, sharding=self._sharding), state)

    def place_state(self, state: Any) -> Any:
        def copies(x: Any) -> jax.Array:
            one, shape = np.asarray(x)[None], (len(self.devices), *np.shape(x))
            # As pmap itself leaves it: under any other sharding the next call would compile the step anew.
            return jax.make_array_from_callback(shape, self._sharding, lambda index: one)

        return jax.tree.map(copies, state)

    def place_batches(self, batches: Any) -> Any:
        n = len(self.devices)

        def split(x: np.ndarray) -> jax.Array:
            steps, size = x.shape[:2]
            rows = np.moveaxis(x.reshape(steps, n, size // n, *x.shape[2:]), 1, 0)
            return jax.device_put(rows, self._sharding)

        return jax.tree.map(split, batches)

    def fetch_state(self, state: Any) -> Any:
        if jax.process_count() == 1:
            return _first_copies(state)
        # Each process gives its devices' copies to the global arrays.
        leaves, tree = jax.tree.flatten(state)
        per_device = zip(*([s.data for s in x.addressable_shards] for x in leaves))
        copies = zip(*(_unstacked(list(shards)) for shards in per_device))
        sharding = NamedSharding(all_devices(), PartitionSpec())
        whole = [jax.make_array_from_single_device_arrays(s[0].shape, sharding, list(s)) for s in copies]
        return jax.tree.unflatten(tree, whole)


class Sharded(Strategy):
    """jit over a mesh (data, fsdp): batches over both axes, every large array of the state over the second one.

    fsdp devices share one copy of parameters, averages and optimizer state; 0 stands for all devices, 1 is plain data
    parallelism. Parameters are gathered for a (micro)batch and their gradients scattered after it (Rajbhandari et
    al. 2020, ZeRO stage 3). Raises UsageError where fsdp does not divide the number of devices.
    """

    axis_name = None

    def __init__(self, fsdp: int = 1, devices: Sequence[Any] | None = None) -> None:
        devices = ordered() if devices is None else devices
        n = len(devices)
        fsdp = fsdp or n
        require(n % fsdp == 0, f"parallel.fsdp={fsdp} does not divide the {n} devices: choose one of {_divisors(n)}")
        self.mesh = Mesh(np.asarray(devices).reshape(n // fsdp, fsdp), (DATA, FSDP))

    def _sharding(self, *axes: Any) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def shardings(self, tree: Any) -> Any:
        """How arrays of the state lie: along their longest axis that fsdp divides, or whole where they are small."""
        n = self.mesh.shape[FSDP]

        def sharding(x: Any) -> NamedSharding:
            fitting = [(length, axis) for axis, length in enumerate(x.shape) if length % n == 0]
            if n == 1 or not fitting or math.prod(x.shape) < SMALL:
                return self._sharding()
            return self._sharding(*([None] * max(fitting)[1]), FSDP)

        return jax.tree.map(sharding, tree)

    def wrap(self, loss: Loss) -> Loss:
        def gathered(params: Any, view: Any, batch: Any) -> Any:
            seen = view._replace(averages=self._gather(view.averages), frozen=self._gather(view.frozen))
            return loss(self._gather(params), seen, batch)

        return gathered

    def _gather(self, params: Any) -> Any:
        """Arrays of the state whole on every device; their gradient sharded as they were."""
        whole = self._sharding()

        @jax.custom_vjp
        def gather(p: Any) -> Any:
            return jax.lax.with_sharding_constraint(p, whole)

        def backward(_: None, g: Any) -> tuple[Any]:
            return (jax.lax.with_sharding_constraint(g, self.shardings(g)),)

        gather.defvjp(lambda p: (gather(p), None), backward)
        return gather(params)

    def map(self, step: Callable, state: Any) -> Any:
        return jax.jit(step, donate_argnums=(0,), out_shardings=(self.shardings(state), self._sharding()))

    def lower(self, state: Callable[[Any], Any], key: Any) -> jax.stages.Lowered:
        return jax.jit(state, out_shardings=self.shardings(jax.eval_shape(state, key))).lower(key)

    def first(self, metrics: Any) -> Any:
        return metrics

    def abstract(self, state: Any) -> Any:
        make = lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)
        return jax.tree.map(make, state, self.shardings(state))

    def placed(self, state: Any) -> Any:
        return self.abstract(state)

    def place_state(self, state: Any) -> Any:
        return put(state, self.shardings(state))

    def place_batches(self, batches: Any) -> Any:
        sharding = self._sharding(None, (DATA, FSDP))
        scale = self.mesh.devices.size // len(sharding.addressable_devices)

        def place(x: np.ndarray) -> jax.Array:
            shape = (x.shape[0], x.shape[1] * scale, *x.shape[2:])
            return jax.make_array_from_process_local_data(sharding, x, shape)

        return jax.tree.map(place, batches)

    def fetch_state(self, state: Any) -> Any:
        return state


@jax.jit
def _unstacked(arrays: list[jax.Array]) -> list[jax.Array]:
    """Arrays [1, ...] of one device without that axis: one program, not one for each array."""
    return [a[0] for a in arrays]


def _first_copies(tree: Any) -> Any:
    """What the first of this process's devices holds of arrays with an axis of devices, without that axis."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, _unstacked([x.addressable_shards[0].data for x in leaves]))


def process_rows(size: int) -> slice:
    """The rows of a batch of `size` examples that this process reads."""
    part = size // jax.process_count()
    return slice(jax.process_index() * part, (jax.process_index() + 1) * part)


def check_batch_size(name: str, size: int, microbatches: int = 1, devices: int = 0, of: str = "") -> None:
    """UsageError unless the devices, times the microbatches, divide the batch size.

    devices: how many, of what is called `of`; 0 for those at hand.
    """
    n = devices or jax.device_count()
    by = f"the {n} devices{of}"
    if microbatches > 1:
        n, by = n * microbatches, f"{by} times training.microbatches={microbatches}"
    require(size % n == 0, f"{name}={size} is not divisible by {by}: make it a multiple of {n}")


def _divisors(n: int) -> str:
    return ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)
