"""Variational autoencoders: a decoder of Gaussian latents, and an encoder that says which lead to an example."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.mlp import Gaussian
from score_sde.objectives.variational import kl
from score_sde.rng import Purpose, child, normal
from score_sde.solvers.sampling import Samples
from score_sde.systems.autoencoder import DECODER, ENCODER, Autoencoder, at, log_normal
from score_sde.systems.base import Condition, Params
from score_sde.training.step import View
from score_sde.typing import Array, Keys, expand, sum_per_example


@dataclasses.dataclass(frozen=True)
class VAE(Autoencoder):
    """Two parts: p(x | z) by the decoder under z ~ N(0, I), and q(z | x) by the encoder, both Gaussian.

        -ELBO = E_q[-log p(x | z)] + KL(q(z | x) || N(0, I))        reconstruction + kl, in nats, summed over dimensions

    by one z = mean + std eps, and KL in closed form. -ELBO - KL(q || p(z | x)) is -log p(x), whatever the encoder.
    In training kl has a weight, and no element of z less than `free_bits` nats of it, of each example alone, so that
    neither is the bound then.

    latent: the shape of z. encoder: x -> the Gaussian of z, decoder: z -> that of x, as networks.mlp has them.
    answered: what is made of examples that a condition names, None for samples. Sources: Kingma & Welling 2013 (arXiv
    1312.6114); Kingma et al. 2016 (arXiv 1606.04934) for the free bits.
    """

    latent: tuple[int, ...]
    encoder: nn.Module
    decoder: nn.Module
    answered: Callable[["VAE", Params, Condition], Samples | None] = lambda system, params, condition: None

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters of both, a function of the key [] and the architectures alone."""
        one, other = jax.random.split(key)
        x, z = jnp.zeros((1, *self.image_shape)), jnp.zeros((1, *self.latent))
        return {ENCODER: self.encoder.init(one, x)["params"], DECODER: self.decoder.init(other, z)["params"]}

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """-ELBO of every example [B] in nats with its terms; KL's weight and free bits in training alone."""
        reconstruction, divergence = self.evidence(params, x0, self.noise(keys), backwards=True)
        terms = {"reconstruction": reconstruction, "kl": sum_per_example(divergence)}
        if not training:
            return reconstruction + terms["kl"], terms
        kept = sum_per_example(jnp.maximum(divergence, self.free_bits)) if self.free_bits else terms["kl"]
        return reconstruction + self.weight(view) * kept, terms

    def noise(self, keys: Keys) -> Array:
        """eps [B, *latent]."""
        return normal(child(keys, Purpose.NOISE), self.latent)

    def evidence(self, params: Params, x0: Array, noise: Array, backwards: bool = False) -> tuple[Array, Array]:
        """-log p(x0 | z) [B] at z = mean + std noise, and KL(q(z | x0) || N(0, I)) of every element [B, *latent]."""
        law = self.encode(params, x0, backwards)
        zero = jnp.zeros((), noise.dtype)
        decoded = self.decode(params, at(law, noise), backwards)
        return -self.density(x0, decoded), kl(*law, zero, zero)

    def log_ratio(self, params: Params, x0: Array, noise: Array) -> Array:
        """log p(x0 | z) + log N(z; 0, I) - log q(z | x0) [B] in nats at z = mean + std noise."""
        law = self.encode(params, x0)
        z = at(law, noise)
        return self.density(x0, self.decode(params, z)) + log_normal(z) - log_normal(z, law)

    def encode(self, params: Params, x: Array, backwards: bool = False) -> Gaussian:
        """Mean [B, *latent] and log variance of q(z | x), x [B, ...] in the network's range."""
        return self.apply(self.encoder, params[ENCODER], self.image(x), backwards)

    def decode(self, params: Params, z: Array, backwards: bool = False) -> Gaussian:
        """Mean [B, ...] and log variance of p(x | z), z [B, *latent]."""
        return self.of_example(self.apply(self.decoder, params[DECODER], z, backwards))

    def density(self, x: Array, decoded: Gaussian) -> Array:
        """log p(x | z) [B] in nats, of what z was decoded to."""
        return log_normal(x, decoded)

    def reconstruct(self, params: Params, x: Array) -> Array:
        """The decoder's mean [B, ...] at the mean of q(z | x), x [B, ...] in the network's range."""
        return self.decode(params, self.encode(params, x)[0])[0]

    def interpolate(self, params: Params, x: Array, other: Array, weight: Array) -> Array:
        """The decoder's means on the lines between two examples' latents: weight [B], 0 for x [B, ...], 1 for other."""
        one, two = self.encode(params, x)[0], self.encode(params, other)[0]
        weight = expand(weight, one)
        return self.decode(params, (1 - weight) * one + weight * two)[0]

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """x of a z ~ N(0, I): one of p(x | z), or its mean (`noisy`); or what is `answered`."""
        if (found := self.answered(self, params, condition)) is not None:
            return found
        law = self.decode(params, normal(child(keys, Purpose.PRIOR), self.latent))
        x = at(law, normal(child(keys, Purpose.STEPS), self.shape)) if self.noisy() else law[0]
        return Samples(x, jnp.int32(1))
