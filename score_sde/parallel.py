"""Ways over devices. The step knows an axis name at most; this module alone knows devices, pmap and sharding."""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import jax_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from score_sde.errors import require

AXIS = "batch"


class Strategy(abc.ABC):
    """How a training step is mapped over devices."""

    axis_name: str | None
    """What the step averages over, None where the compiler inserts the collectives."""

    @abc.abstractmethod
    def compile(self, step: Callable) -> Callable:
        """A compiled (placed state, placed batches) -> (placed state, metrics [K]); the state given is consumed."""

    @abc.abstractmethod
    def place_state(self, state: Any) -> Any:
        """The state as the compiled step wants it."""

    @abc.abstractmethod
    def place_batches(self, batches: Any) -> Any:
        """Host batches, leaves [K, B, ...], as the compiled step wants them."""

    @abc.abstractmethod
    def fetch_state(self, state: Any) -> Any:
        """The inverse of place_state."""


class Pmap(Strategy):
    """Data parallel by pmap: a copy of the state on every device, gradients averaged after grad."""

    axis_name = AXIS

    def __init__(self, devices: Sequence[Any] | None = None) -> None:
        self.devices = list(jax.local_devices() if devices is None else devices)

    def compile(self, step: Callable) -> Callable:
        mapped = jax.pmap(step, axis_name=AXIS, donate_argnums=(0,), devices=self.devices)

        def call(state: Any, batches: Any) -> tuple[Any, Any]:
            state, metrics = mapped(state, batches)
            return state, jax.tree.map(lambda m: m[0], metrics)

        return call

    def place_state(self, state: Any) -> Any:
        # As pmap itself leaves it: under any other sharding the next call would compile the step anew.
        sharding = NamedSharding(_mesh(tuple(self.devices)), PartitionSpec(AXIS))

        def copies(x: Any) -> jax.Array:
            one = np.asarray(x)[None]
            return jax.make_array_from_callback((len(self.devices), *one.shape[1:]), sharding, lambda index: one)

        return jax.tree.map(copies, state)

    def place_batches(self, batches: Any) -> Any:
        n = len(self.devices)

        def split(x: np.ndarray) -> np.ndarray:
            steps, size = x.shape[:2]
            return np.moveaxis(x.reshape(steps, n, size // n, *x.shape[2:]), 1, 0)

        return jax.tree.map(split, batches)

    def fetch_state(self, state: Any) -> Any:
        return jax_utils.unreplicate(state)


def check_batch_size(name: str, size: int) -> None:
    """UsageError unless the devices divide the batch size."""
    n = jax.device_count()
    require(size % n == 0, f"{name}={size} is not divisible by the {n} devices: make it a multiple of {n}")


def spread(x: Any) -> Any:
    """Arrays [B, ...] laid over all local devices along B (where they divide it): the global view for jit."""
    devices = jax.local_devices()

    def place(a: jax.Array) -> jax.Array:
        if len(devices) == 1 or a.shape[0] % len(devices):
            return a
        return jax.device_put(a, NamedSharding(_mesh(tuple(devices)), PartitionSpec(AXIS)))

    return jax.tree.map(place, x)


def replicate(x: Any) -> Any:
    """Arrays copied whole onto every local device: the parameters of a program over `spread` arrays."""
    devices = jax.local_devices()
    return jax.device_put(x, NamedSharding(_mesh(tuple(devices)), PartitionSpec())) if len(devices) > 1 else x


@functools.cache
def _mesh(devices: tuple[Any, ...]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,))
