"""A two-player quadratic game, whose path under simultaneous gradient descent is known in closed form.

    one's loss    a/2 |p|^2 + b p . q - m p_0,     other's loss    c/2 |q|^2 - b p . q,     p, q in R^2,

m the mean of an example: the gradient's mean over the batch counts. As a program: python -m tests.systems.game WORKDIR
trains it for 12 steps, and halts after every update, to be killed.
"""

import dataclasses
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.experiment import Experiment, build
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from tests.tiny import tiny_config

A, B, C = 0.5, 1.0, 0.25
RATES = {"one": 0.1, "other": 0.2}
START = {"one": np.float32([1.0, -0.5]), "other": np.float32([0.25, 2.0])}


@dataclasses.dataclass(frozen=True)
class GradientDescent:
    """p <- p - rate g; its state counts."""

    learning_rate: float

    def init(self, params):
        return {"count": jnp.int32(0)}

    def rate(self, step):
        return jnp.float32(self.learning_rate)

    def update(self, gradients, state, params, step, norm=None):
        moved = jax.tree.map(lambda p, g: p - self.learning_rate * g, params, gradients)
        return moved, {"count": state["count"] + 1}


@dataclasses.dataclass(frozen=True)
class Game:
    """Both players in one loss, in which each meets only its own terms; nothing is sampled."""

    parts: tuple[str, ...] = ("one", "other")
    frozen: tuple[str, ...] = ()

    def init(self, key, frozen):
        return {part: {"w": jnp.asarray(START[part])} for part in self.parts}

    def losses(self, params, view, keys, x0, condition, u, training=True):
        p, q = params["one"]["w"], params["other"]["w"]
        still_p, still_q = jax.lax.stop_gradient((p, q))
        m = x0.reshape(len(x0), -1).mean(1)
        one = 0.5 * A * jnp.sum(p**2) + B * jnp.sum(p * still_q) - m * p[0]
        other = 0.5 * C * jnp.sum(q**2) - B * jnp.sum(still_p * q) + 0 * m
        return one + other, {"one": one, "other": other}


def experiment(strategy: Any = None, **changes: Any) -> Experiment:
    """The game on the digits, without flips and dequantisation."""
    changes = {"data__random_flip": False, "data__uniform_dequantization": False, **changes}
    config = tiny_config(training__steps_per_call=2, checkpoint__every=4, logging__every=2, **changes)
    built = build(config, system=lambda config, spec, drawing, frozen: Game())
    optimizers: Any = {part: GradientDescent(rate) for part, rate in RATES.items()}
    return dataclasses.replace(built, optimizers=optimizers, strategy=strategy or built.strategy)


def path(built: Experiment, steps: int) -> np.ndarray:
    """(p, q) [steps + 1, 4] after every update: z <- (I - R M) z + R f, R the rates, f the batch's force."""
    eye, rates = np.eye(2), np.diag([RATES["one"]] * 2 + [RATES["other"]] * 2)
    matrix = np.block([[A * eye, B * eye], [-B * eye, C * eye]])
    z, found = np.concatenate([START["one"], START["other"]]).astype(np.float64), []
    size = built.config.training.batch_size
    for k in range(steps + 1):
        found.append(z)
        images = built.stream.batches(k * size, size, 1).x
        force = np.array([(images.astype(np.float64) / 127.5 - 1).mean(), 0, 0, 0])
        z = z - rates @ (matrix @ z) + rates @ force
    return np.stack(found)


class Slow:
    """In the place of the generator, which is never asked."""


class Halting:
    """A compiled step that takes its time."""

    def __init__(self, step: Any) -> None:
        self.step, self.prepare = step, step.prepare

    def __call__(self, *given: Any) -> Any:
        time.sleep(0.3)
        return self.step(*given)


def main(folder: str) -> None:
    built = experiment()
    compiled = built.strategy.compile
    built.strategy.compile = lambda *arguments: Halting(compiled(*arguments))
    train(built, Workdir(folder), generator=Slow(), show=False)


if __name__ == "__main__":
    main(sys.argv[1])
