"""The config's `degradation` section carried out: what of x a network is shown, in training and of its samples.

c = alpha(s) A x_0 + sigma(s) n, alpha and sigma of the VP SDE with its published betas, s its time: in training s ~
U(0, degradation.noise) of every example's own, at sampling degradation.level. x_0 in the network's range. Source:
Saharia et al. 2021 (SR3) and 2022 (Palette) for s = 0; Ho et al. 2022 (cascades), section 4.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import Config
from score_sde.config.degradation_checks import is_degraded
from score_sde.data.kinds import Kind
from score_sde.data.sources import Dataset, some
from score_sde.errors import UsageError, require
from score_sde.experiment.measuring import Measured, Y, in_range, in_units, noise, read, shaped, state_of, truth
from score_sde.guidance.operators import Operator, bicubic, box, grey, mask
from score_sde.names import IMAGE
from score_sde.networks.concatenating import Concatenating
from score_sde.rng import example_keys, root_key
from score_sde.scores.noisy_condition import NoisyCondition
from score_sde.sde import vp
from score_sde.typing import Array, Keys

Shape = tuple[int, ...]
LEVEL = "level"
"""What a condition has of it beside the picture."""
TOLD = 32
"""Of how many numbers the level is embedded."""
OWN = 2**26
"""Bytes of the data's own pictures, in float32, that samples are shown at most."""


def uncropped(factor: int, shape: Shape) -> Operator:
    """1 in the middle, of a part 1 / factor of height and of width, 0 around it."""
    known = np.zeros(shape[:2])
    h, w = (n // factor for n in shape[:2])
    require(h >= 1 and w >= 1, f"degradation.factor={factor} leaves nothing of pictures of shape {shape}: lower it")
    top, left = (shape[0] - h) // 2, (shape[1] - w) // 2
    known[top : top + h, left : left + w] = 1
    return mask(known, shape)


OPERATORS: dict[str, Callable[[int, Shape], Operator]] = {
    "box": box,
    "bicubic": bicubic,
    "gray": lambda factor, shape: grey(shape),
    "uncrop": uncropped,
}
"""By degradation.name, of its factor and the shape of pictures."""


def operator(config: Config, shape: Shape) -> Operator:
    """A of pictures in the data's units; UsageError for examples that are none, and where it does not fit."""
    c = config.degradation
    require(
        len(shape) == 3,
        f"degradation.name={c.name!r} is of pictures [H, W, C], and one example has the shape {shape}: reshape the"
        " data, or set it to 'none'",
    )
    return _operator(c.name, c.factor, shape)


@functools.lru_cache(maxsize=4)
def _operator(name: str, factor: int, shape: Shape) -> Operator:
    with jax.ensure_compile_time_eval():  # its matrices are constants of every program
        return OPERATORS[name](factor, shape)


def shown(config: Config, shape: Shape) -> Shape:
    """The shape of what the network is shown; () for nothing."""
    if not is_degraded(config):
        return ()
    return jax.eval_shape(operator(config, shape), jax.ShapeDtypeStruct((1, *shape), jnp.result_type(float))).shape[1:]


def showing(config: Config, shape: Shape, network: Any) -> nn.Module:
    """The network, which is shown what is left of a picture where the config says so."""
    c = config.degradation
    if not is_degraded(config):
        return network
    told = TOLD if c.noise else 0
    more = {"augment_dim": told} if told else {}
    inner = network.clone(out_channels=network.out_channels or shape[-1], **more)
    return Concatenating(inner, c.first, c.enlarging, told)


@dataclasses.dataclass(frozen=True)
class Degradation:
    """The `degradation` section, of examples of a kind and a shape; data: theirs, read where they are wanted."""

    config: Config
    kind: Kind
    shape: Shape
    data: Callable[[], Dataset]

    @property
    def noisy(self) -> NoisyCondition | None:
        """How what is shown is noised."""
        most = self.config.degradation.noise
        return NoisyCondition(vp(), 0.0, most) if most else None

    def of_examples(self, keys: Keys, x0: Array) -> dict[str, Array]:
        """What the network is shown beside examples x0 [B, ...] in its range: in training, and of held-out ones."""
        given = {IMAGE: in_units(operator(self.config, self.shape), self.kind)(x0)}
        return self.noisy.train(keys, given) if self.noisy else given

    def of_samples(self, position: np.ndarray) -> dict[str, Array]:
        """What it is shown for samples at these positions (two words each) [B, 2]: of sample k a function of k."""
        keys = example_keys(root_key(self.config.sampling.seed), position)
        given = {IMAGE: jnp.asarray(self.answered.of_samples(position)[Y])}
        return self.noisy.at(keys, given, self.config.degradation.level) if self.noisy else given

    @property
    def answered(self) -> Measured:
        """The pictures that samples answer: those of measurement.path, or the data's own."""
        c = self.config.measurement
        return dataclasses.replace(self._of_file(c.path) if c.path else self._own, each=c.samples)

    @functools.cached_property
    def _own(self) -> Measured:
        """Held-out pictures degraded, or ones to train on where none is held out: as many as fit, a fixed choice."""
        data = self.data()
        source = data.held_out if len(data.held_out) else data.train
        x = some(source, max(1, OWN // (4 * int(np.prod(self.shape)))))
        y = jax.jit(operator(self.config, self.shape).__call__)(x.astype(np.float32))
        return in_range(operator(self.config, self.shape), np.asarray(y, np.float64), 0.0, x, self.kind, self.shape)

    def _of_file(self, path: str) -> Measured:
        """UsageError for a file that is missing, has no pictures, or others than are asked for."""
        c = self.config.degradation
        remedy = (
            f"name an .npz file with y, pictures as degradation.name={c.name!r} leaves them, or a run that draws such"
        )
        return _of_file(c.name, c.factor, *state_of("measurement.path", path, remedy), self.kind, self.shape)


def degradation(config: Config, kind: Kind, shape: Shape, data: Callable[[], Dataset]) -> Degradation | None:
    """What a network is shown beside x; None for nothing."""
    return Degradation(config, kind, shape, data) if is_degraded(config) else None


@functools.lru_cache(maxsize=4)
def _of_file(name: str, factor: int, path: str, time: int, size: int, kind: Kind, shape: Shape) -> Measured:
    """Of a state of the file, by its time and size, read once."""
    del time, size
    A = _operator(name, factor, shape)
    try:
        arrays, digest = read(path)
        found = [array for array in ("y", "samples") if array in arrays]
        require(found, "has no `y`: np.savez(path, y=...) in the data's units, or name the samples.npz of a run")
        y = shaped(arrays[found[0]], A, shape)
        require(
            noise(arrays.get("sigma_y", np.zeros(()))) == 0,
            "has pictures with noise in them, by its sigma_y, and the network knows of degradation.level alone: leave"
            " sigma_y out",
        )
        measured = in_range(A, y, 0.0, truth(arrays, len(y), shape), kind, shape)
    except UsageError as error:
        raise UsageError(f"measurement.path={path}: {error}") from None
    return dataclasses.replace(measured, digest=digest)
