"""What systems of an encoder and a decoder share: a log ratio log p(x, z) / q(z | x), whose mean is a bound."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.devices.platform import Platform, platform
from score_sde.errors import UsageError
from score_sde.networks.mlp import Gaussian
from score_sde.objectives.elbo import kl_weight
from score_sde.objectives.variational import gaussian_decoder
from score_sde.rng import Purpose, child
from score_sde.sde import SDE
from score_sde.systems.base import Condition, Params
from score_sde.systems.score import computed
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn, sum_per_example

ENCODER, DECODER = "encoder", "decoder"
NO_SCORE = (
    "an autoencoder has no score: its likelihood is bounded by its own terms, and it takes no guidance; choose a run of"
    " system.name='score' for these"
)


@dataclasses.dataclass(frozen=True)
class Autoencoder(abc.ABC):
    """Two parts, an encoder and a decoder; every example's latents are a function of its noise, which is given.

    shape: of an example; image_shape: what the networks are shown of it. warmup, warmup_after, free_bits: of KL in
    training, as objectives.elbo has them. noisy: whether samples have the decoder's noise, else they are its mean.
    discrete: never, as x has a density: bytes are dequantised.
    """

    shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    warmup: int = dataclasses.field(default=0, kw_only=True)
    warmup_after: int = dataclasses.field(default=0, kw_only=True)
    free_bits: float = dataclasses.field(default=0.0, kw_only=True)
    noisy: Callable[[], bool] = dataclasses.field(default=lambda: True, kw_only=True)
    discrete: bool = dataclasses.field(default=False, kw_only=True)
    platform: Platform = dataclasses.field(default_factory=platform, kw_only=True)
    parts: tuple[str, ...] = dataclasses.field(default=(ENCODER, DECODER), kw_only=True)
    frozen: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

    @abc.abstractmethod
    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """-ELBO of every example [B] in nats with its terms; KL's weight and free bits in training alone."""

    @abc.abstractmethod
    def noise(self, keys: Keys) -> Any:
        """The standard normals that make latents of examples, one draw for each key [B]."""

    @abc.abstractmethod
    def log_ratio(self, params: Params, x0: Array, noise: Any) -> Array:
        """log p(x0, z) / q(z | x0) [B] in nats at the latents z of this noise: log p(x0) if q is exact."""

    def bound(self, params: Params, keys: Keys, x0: Array, condition: Condition) -> tuple[Array, dict[str, Array]]:
        """-ELBO of every example [B] in nats, a bound on -log p(x0), and its terms."""
        return self.losses(params, View(jnp.int32(0), {}, {}), keys, x0, condition, jnp.zeros(()), training=False)

    def importance_weighted(
        self, params: Params, keys: Keys, x0: Array, condition: Condition, *, samples: int
    ) -> Array:
        """-log of the mean of p(x0, z) / q(z | x0) over so many z [B], in nats (Burda et al. 2016, arXiv 1509.00519).

        Its mean falls to -log p(x0) as samples grow, and with one of them is the bound's.
        """
        return -log_mean(lambda own: self.log_ratio(params, x0, self.noise(own)), keys, samples)

    def sde(self, params: Params | None = None) -> SDE:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)

    def score(self, params: Params, condition: Condition | None = None) -> ScoreFn:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)

    def weight(self, view: View) -> Array:
        """KL's weight [] in training at the view's update."""
        return kl_weight(view.step, self.warmup, self.warmup_after)

    def image(self, x: Array) -> Array:
        """Examples [B, ...] as networks are shown them."""
        return x.reshape(-1, *self.image_shape)

    def of_example(self, law: Gaussian) -> Gaussian:
        """What networks say of pictures, as of examples."""
        if self.image_shape == self.shape:
            return law
        mean, log_variance = law
        return mean[..., 0], log_variance[..., 0]

    def apply(self, network: nn.Module, params: Any, x: Array, backwards: bool) -> Gaussian:
        """The network's Gaussian; backwards: in a form that reverse mode suits, to rounding."""
        form = self.platform.convolution(backwards)
        return computed(network, {"convolution": form}).apply({"params": params}, x)  # pyright: ignore[reportReturnType]


def log_mean(log_ratio: Callable[[Keys], Array], keys: Keys, samples: int) -> Array:
    """The log of the mean of so many ratios [B], each by draws of its own of every example's key [B]."""
    draws = child(keys, Purpose.STEPS)
    ratios = jax.lax.map(lambda k: log_ratio(child(draws, k)), jnp.arange(samples))
    return jax.nn.logsumexp(ratios, axis=0) - math.log(samples)


def at(law: Gaussian, noise: Array) -> Array:
    """mean + std noise of a Gaussian, shape of noise."""
    mean, log_variance = law
    return mean + jnp.exp(0.5 * log_variance) * noise


def log_normal(x: Array, law: Gaussian | None = None) -> Array:
    """log N(x; mean, variance) of every example [B] in nats; None for the standard one."""
    zero = jnp.zeros((), x.dtype)
    return sum_per_example(gaussian_decoder(x, *(law or (zero, zero))))
