"""Arrays of programs over all devices of all processes, in the global view: spread, replicated, collected."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def spread(x: Any) -> Any:
    """Arrays [B, ...], the same in every process, laid over all devices along B where they divide it: for jit."""
    mesh = all_devices()

    def place(a: Any) -> jax.Array:
        axes = (AXIS,) if a.shape[0] % mesh.devices.size == 0 else ()
        return put(a, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.tree.map(place, x)


def replicate(x: Any) -> Any:
    """Arrays copied whole onto every device: the parameters of a program over `spread` arrays."""
    whole = NamedSharding(all_devices(), PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(x, whole)
    return put(x, jax.tree.map(lambda _: whole, x))


def collect(x: Any) -> Any:
    """Arrays that a program over all devices made, as numpy arrays in every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, x)
    return multihost_utils.process_allgather(x, tiled=True)


def put(tree: Any, shardings: Any) -> Any:
    """Arrays every process has the same of, laid out; those that lie right already are left alone.

    The others share no memory with what they are made of, as those of device_put would: they may be donated.
    """
    leaves, structure = jax.tree.flatten(tree)
    pairs = list(zip(leaves, structure.flatten_up_to(shardings)))
    moving = [i for i, (x, s) in enumerate(pairs) if isinstance(x, jax.Array) and x.sharding != s]
    moving = [i for i in moving if not pairs[i][0].is_fully_addressable]
    moved = _moved(tuple(pairs[i][1] for i in moving))([pairs[i][0] for i in moving])
    there = dict(zip(moving, moved))
    return structure.unflatten([there[i] if i in there else _placed(x, s) for i, (x, s) in enumerate(pairs)])


@functools.cache
def _moved(shardings: tuple[NamedSharding, ...]) -> Callable[[list[Any]], list[Any]]:
    """Arrays of several processes to these shardings: one program, compiled once."""
    return jax.jit(lambda arrays: arrays, out_shardings=list(shardings))


def _placed(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array) and x.sharding == sharding:
        return x
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


class Agreement:
    """The largest of the numbers that the processes give, without waiting for it.

    Every process calls it equally often. One process gets its number back at once; several get, all the same one, what
    they agreed on in the call before: by now it costs no time to read.
    """

    def __init__(self) -> None:
        self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(all_devices(), PartitionSpec()))
        self._before: jax.Array | None = None

    def __call__(self, number: int, after: Any = None) -> int:
        """after: what the program before it returns. On processors one of two that communicate could overtake the
        other in one process alone, so there they wait for one another.
        """
        if jax.process_count() == 1:
            return number
        in_turn = jax.default_backend() == "cpu"
        if in_turn:
            jax.block_until_ready(after)
        sharding = NamedSharding(all_devices(), PartitionSpec(AXIS))
        own = np.full(jax.local_device_count(), number, np.int32)
        before, self._before = self._before, self._largest(jax.make_array_from_process_local_data(sharding, own))
        if in_turn:
            jax.block_until_ready(self._before)
        return 0 if before is None else int(before.addressable_data(0))

    def now(self, number: int) -> int:
        """The same, but the largest of the numbers given in this call, which it waits for."""
        self(number)
        return self(number)


def ordered() -> list[Any]:
    """All devices, ordered by process."""
    return sorted(jax.devices(), key=lambda d: (d.process_index, d.id))


@functools.cache
def all_devices() -> Mesh:
    """All devices in one line."""
    return line(tuple(ordered()))


@functools.cache
def line(devices: tuple[Any, ...]) -> Mesh:
    """A mesh of one axis over these devices."""
    return Mesh(np.asarray(devices), (AXIS,))
