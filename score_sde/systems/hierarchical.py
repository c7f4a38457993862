"""Hierarchical variational autoencoders: a Markov chain of latents, learned in both directions."""

import dataclasses
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.mlp import Gaussian
from score_sde.objectives.elbo import balance
from score_sde.objectives.variational import gaussian_decoder, kl
from score_sde.rng import Purpose, child, normal
from score_sde.solvers.sampling import Samples
from score_sde.systems.autoencoder import DECODER, ENCODER, Autoencoder, at, log_normal
from score_sde.systems.base import Condition, Params
from score_sde.training.step import View
from score_sde.typing import Array, Keys, sum_per_example


@dataclasses.dataclass(frozen=True)
class Hierarchical(Autoencoder):
    """Levels z_1 .. z_L, upwards by q(z_i | z_{i-1}) from z_0 = x, downwards by p(z_{i-1} | z_i) from z_L ~ N(0, I).

        -ELBO = E_q[-log p(x | z_1)] + sum_i kl_i,  kl_i = E_q[log q(z_i | z_{i-1}) - log p(z_i | z_{i+1})],

    by one draw of the chain; kl_L, whose prior is N(0, I), is in closed form given z_{L-1}. With one level this is VAE;
    with an encoder that is a noise process's fixed chain, DDPM's bound (objectives.variational). In training the sum of
    kl_i has a weight, no level has less than `free_bits` nats of its estimate, and while the weight is below 1
    `balanced` levels have coefficients of their own (objectives.elbo.balance), of each example alone.

    latents: the shapes of z_1 .. z_L. encoders, decoders: of q(z_i | z_{i-1}) and p(z_{i-1} | z_i), i = 1 .. L.
    Sources: Sohl-Dickstein et al. 2015, whose chain is fixed; Sønderby et al. 2016 for why upper levels die.
    """

    latents: tuple[tuple[int, ...], ...]
    encoders: tuple[nn.Module, ...]
    decoders: tuple[nn.Module, ...]
    balanced: bool = False

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters of both parts, {level: tree} each, a function of the key [] and the architectures alone."""
        keys = jax.random.split(key, 2 * len(self.latents))
        ones = [jnp.zeros((1, *shape)) for shape in (self.image_shape, *self.latents)]
        levels = range(len(self.latents))
        return {
            ENCODER: {str(i + 1): self.encoders[i].init(keys[2 * i], ones[i])["params"] for i in levels},
            DECODER: {str(i + 1): self.decoders[i].init(keys[2 * i + 1], ones[i + 1])["params"] for i in levels},
        }

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """-ELBO of every example [B] in nats with its terms; KL's weight and free bits in training alone."""
        reconstruction, levels = self.evidence(params, x0, self.noise(keys), backwards=True)
        terms = {"reconstruction": reconstruction} | {f"kl_{i + 1}": level for i, level in enumerate(levels.T)}
        if not training:
            return reconstruction + levels.sum(1), terms
        weight = self.weight(view)
        kept = jnp.maximum(levels, self.free_bits) if self.free_bits else levels
        if self.balanced:
            sizes = jnp.asarray([math.prod(shape) for shape in self.latents], x0.dtype)
            kept = jnp.where(weight < 1, balance(levels, sizes / sizes.min()), 1.0) * kept
        return reconstruction + weight * kept.sum(1), terms

    def noise(self, keys: Keys) -> list[Array]:
        """eps_1 .. eps_L, [B, *latents[i]] each."""
        own = child(keys, Purpose.NOISE)
        return [normal(child(own, i), shape) for i, shape in enumerate(self.latents)]

    def evidence(
        self, params: Params, x0: Array, noise: Sequence[Array], backwards: bool = False
    ) -> tuple[Array, Array]:
        """-log p(x0 | z_1) [B] and the estimates of kl_1 .. kl_L [B, L], at the chain of latents of this noise."""
        latents, up = self.chain(params, x0, noise, backwards)
        down = self.priors(params, latents, backwards)
        zero = jnp.zeros((), x0.dtype)
        levels = [
            sum_per_example(gaussian_decoder(z, *q) - gaussian_decoder(z, *p))
            for z, q, p in zip(latents[:-1], up, down[1:])
        ]
        top = sum_per_example(kl(*up[-1], zero, zero))
        return -log_normal(x0, self.of_example(down[0])), jnp.stack([*levels, top], axis=1)

    def log_ratio(self, params: Params, x0: Array, noise: Sequence[Array]) -> Array:
        """log p(x0, z_1 .. z_L) / q(z_1 .. z_L | x0) [B] in nats at the chain of latents of this noise."""
        latents, up = self.chain(params, x0, noise)
        decoded, *down = self.priors(params, latents)
        ratios = [log_normal(z, p) - log_normal(z, q) for z, p, q in zip(latents, [*down, None], up, strict=True)]
        return log_normal(x0, self.of_example(decoded)) + sum(ratios)

    def chain(
        self, params: Params, x: Array, noise: Sequence[Array], backwards: bool = False
    ) -> tuple[list[Array], list[Gaussian]]:
        """z_1 .. z_L of examples [B, ...] in the network's range, and the Gaussians that they are drawn of."""
        latents, laws, z = [], [], self.image(x)
        for i, eps in enumerate(noise):
            laws.append(self.apply(self.encoders[i], params[ENCODER][str(i + 1)], z, backwards))
            z = at(laws[-1], eps)
            latents.append(z)
        return latents, laws

    def priors(self, params: Params, latents: Sequence[Array], backwards: bool = False) -> list[Gaussian]:
        """The Gaussians of p(z_{i-1} | z_i) of z_1, z_2, ... [B, ...]; the first is of x as networks are shown it."""
        return [self.apply(self.decoders[i], params[DECODER][str(i + 1)], z, backwards) for i, z in enumerate(latents)]

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """The chain from z_L ~ N(0, I) down to x, all latents drawn: x too, or its mean (`noisy`)."""
        own = child(keys, Purpose.STEPS)
        z = normal(child(keys, Purpose.PRIOR), self.latents[-1])
        for i in reversed(range(len(self.latents))):
            law = self.apply(self.decoders[i], params[DECODER][str(i + 1)], z, False)
            z = at(law, normal(child(own, i), law[0].shape[1:])) if i or self.noisy() else law[0]
        return Samples(z.reshape(-1, *self.shape), jnp.int32(len(self.latents)))
