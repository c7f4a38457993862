"""A denoising diffusion GAN of vectors: small perceptrons in the place of the generator's and the critic's networks."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from score_sde.sde.chain import long_step_betas, vp_chain
from score_sde.systems import Adversarial


def layers(sizes: tuple[int, ...], *inputs: Any) -> Any:
    """A perceptron of leaky ReLUs and a linear last layer, of all inputs joined."""
    h = jnp.concatenate(inputs, axis=-1)
    for size in sizes[:-1]:
        h = nn.leaky_relu(nn.Dense(size)(h), 0.2)
    return nn.Dense(sizes[-1])(h)


def one_hot(label: Any, steps: int) -> Any:
    return jax.nn.one_hot(label.astype(jnp.int32), steps)


def waves(x: Any) -> Any:
    """x and its sines and cosines of three frequencies [B, 7 D]: sharp modes are a smooth function of them."""
    return jnp.concatenate([x, *(f(np.pi * 2.0**i * x) for i in range(3) for f in (jnp.sin, jnp.cos))], axis=-1)


class Generator(nn.Module):
    """x, label, z -> x_0, of the shape of x; the signs of z are told too, so that it may be no continuous function."""

    width: int = 16
    steps: int = 4

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None, condition: Any = None):
        flat = x.reshape(len(x), -1)
        sizes = (*(self.width,) * 3, flat.shape[-1])
        z = condition["latent"]
        return layers(sizes, waves(flat), one_hot(label, self.steps), z, jnp.sign(z)).reshape(x.shape)


class Critic(nn.Module):
    """x_s, x_t, label -> logits [B]."""

    width: int = 16
    steps: int = 4

    @nn.compact
    def __call__(self, x_s, x_t, label):
        x_s, x_t = (x.reshape(len(x), -1) for x in (x_s, x_t))
        return layers((*(self.width,) * 3, 1), waves(x_s), x_t, one_hot(label, self.steps))[:, 0]


def system(beta_max: float = 20.0, width: int = 16, **more: Any) -> Adversarial:
    """Of perceptrons, over a chain of four steps."""
    chain = vp_chain(long_step_betas(4, beta_max=beta_max))
    return Adversarial((2,), (2,), chain, Generator(width), Critic(width), 8, **more)


def players(built: Any, **more: Any) -> Any:
    """An experiment of system.name='adversarial' with perceptrons in the place of its networks."""
    own = {"generator": Generator(), "critic": Critic()}
    return dataclasses.replace(built, system=dataclasses.replace(built.system, **own, **more))


def grid() -> np.ndarray:
    """The centres of 25 modes, half apart [25, 2]."""
    return np.stack(np.meshgrid(*[np.arange(-2, 3) / 2] * 2), -1).reshape(25, 2)


STD = 0.05
"""Of every mode."""


def samples(count: int, seed: int = 0) -> np.ndarray:
    """Of the 25 modes, all as likely [count, 2]."""
    rng = np.random.default_rng(seed)
    return (grid()[rng.integers(0, 25, count)] + STD * rng.standard_normal((count, 2))).astype(np.float32)


def judged(x: np.ndarray) -> tuple[int, float]:
    """How many modes have a fifth of their share of the samples [N, 2] or more; the share within 3 STD of a mode."""
    apart = np.linalg.norm(x[:, None] - grid(), axis=-1)
    good = apart.min(1) < 3 * STD
    shares = np.bincount(apart.argmin(1)[good], minlength=25) / len(x)
    return int((shares > 0.2 / 25).sum()), float(good.mean())
