"""Autoencoders whose latents are to be diffused: nearly no prior, or a codebook, and a critic (Rombach et al. 2022)."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.errors import UsageError
from score_sde.networks.mlp import Gaussian
from score_sde.networks.vq import VectorQuantizer
from score_sde.objectives.adversarial import adaptive_weight, hinge, switched
from score_sde.objectives.variational import kl
from score_sde.solvers.sampling import Samples
from score_sde.systems.autoencoder import DECODER, ENCODER, at
from score_sde.systems.base import Condition, Params
from score_sde.systems.score import computed
from score_sde.systems.vae import VAE
from score_sde.training.step import View
from score_sde.typing import Array, Keys, sum_per_example

CODEBOOK, CRITIC = "codebook", "critic"
CLAMP = (-30.0, 20.0)
"""Of the encoder's log variance."""
NO_SAMPLES = (
    "latents of system.name='autoencoder' have no law to be drawn by, and decode from N(0, I) to noise: train a run of"
    " system.name='latent' with this one as frozen.autoencoder, and draw of that"
)
NO_BOUND = (
    "a codebook's latents have no density, so that there is no bound on the likelihood: use autoencoder.regular='kl'"
)


@dataclasses.dataclass(frozen=True)
class FirstStage(VAE):
    """|x - D(z)|_1 / e^s + s for every element, with next to no KL or a codebook, and from an update on a critic.

        reconstruction: sum |x - D(z)| / e^s + s + ln 2, which is -log of Laplace's density, s the decoder's
        regular:        kl_weight KL(q(z | x) || N(0, I)), or D times the codebook's loss (networks.vq)
        generator:      -w mean critic(D(z)), w = weight |grad reconstruction| / (|grad -critic(D(z))| + 1e-4)
        critic:         mean hinge(critic(x), critic(D(z))), of its own part alone

    with both gradients in the decoder's last layer, of every example alone (`adaptive_weight`), and the last two from
    update `start` on. quantizer: in the place of noise in the latents, and then there is no bound. Without a perceptual
    term, which asks for another network's weights. Source: Rombach et al. 2022 (arXiv 2112.10752), appendix G.
    """

    kl_weight: float = 1e-6
    quantizer: VectorQuantizer | None = None
    critic: nn.Module | None = None
    critic_weight: float = 0.5
    start: int = 0

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters, a function of the key [] and the architectures alone."""
        one, two, three = jax.random.split(key, 3)
        found = super().init(one, frozen)
        if self.quantizer is not None:
            found[CODEBOOK] = self.quantizer.init(two, jnp.zeros((1, *self.latent)))["params"]
        if self.critic is not None:
            found[CRITIC] = self.critic.init(three, jnp.zeros((1, *self.image_shape)))["params"]
        return found

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of every example [B] with its terms; that of the held-out has no critic."""
        law = self.encode(params, x0, backwards=True)
        zero, z = jnp.zeros((), x0.dtype), law[0]
        if self.quantizer is None:
            z, regular = at(law, self.noise(keys)), self.kl_weight * sum_per_example(kl(*law, zero, zero))
        else:
            regular = self.quantized(params, z)[1] * x0[0].size
        decoded = self.decode(params, z, backwards=True)
        reconstruction = -self.density(x0, decoded)
        terms = {"reconstruction": reconstruction, "regular": regular, "l1": jnp.abs(x0 - decoded[0]).mean(self._axes)}
        if self.critic is None or not training:
            return reconstruction + regular, terms
        own, fooled = self.judged(params, view, x0, z, decoded)
        return reconstruction + regular + own + fooled, {**terms, CRITIC: own, "generator": fooled}

    def judged(self, params: Params, view: View, x0: Array, z: Array, decoded: Gaussian) -> tuple[Array, Array]:
        """The critic's loss and the generator's term [B]."""
        still, on = jax.lax.stop_gradient, switched(view.step, self.start)
        logits = lambda params, x: self._logits(params[CRITIC], x).mean((1, 2))
        patches = hinge(self._logits(params[CRITIC], x0), self._logits(params[CRITIC], still(decoded[0])))
        fought = lambda x: -logits(still(params), x)
        slopes = [jax.grad(lambda x, f=f: f(x).sum())(still(decoded[0])) for f in (self._apart(x0, decoded), fought)]
        weight = adaptive_weight(*(self.in_last_layer(still(params), still(z), slope) for slope in slopes))
        return on * patches.mean((1, 2)), on * self.critic_weight * still(weight) * fought(decoded[0])

    def _apart(self, x0: Array, decoded: Gaussian) -> Any:
        """The reconstruction's loss [B] of other means than were decoded."""
        return lambda mean: -self.density(x0, (mean, jax.lax.stop_gradient(decoded[1])))

    def in_last_layer(self, params: Params, z: Array, slope: Array) -> Array:
        """The gradient in the decoder's last kernel [B, ...], of every example, by that in its mean [B, ...]."""
        decoder = params[DECODER]

        def inner(kernel: Array, z: Array, slope: Array) -> Array:
            mean = {**decoder["mean"], "kernel": kernel}
            return (self.decode({**params, DECODER: {**decoder, "mean": mean}}, z[None])[0][0] * slope).sum()

        return jax.vmap(jax.grad(inner), (None, 0, 0))(decoder["mean"]["kernel"], z, slope)

    def quantized(self, params: Params, z: Array) -> tuple[Array, Array]:
        """Latents [B, *latent] in whose place codes are, and the codebook's loss [B]."""
        assert self.quantizer is not None
        found: Any = self.quantizer.apply({"params": params[CODEBOOK]}, z)
        return found[0], found[1]

    def encode(self, params: Params, x: Array, backwards: bool = False) -> Gaussian:
        """Mean [B, *latent] and log variance of q(z | x), within CLAMP; of a codebook without noise."""
        mean, log_variance = super().encode(params, x, backwards)
        if self.quantizer is not None:
            return mean, jnp.full_like(log_variance, -jnp.inf)
        return mean, jnp.clip(log_variance, *CLAMP)

    def decode(self, params: Params, z: Array, backwards: bool = False) -> Gaussian:
        """Mean [B, ...] and s, e^s the scale of Laplace's density, of z [B, *latent] or of the codes nearest to it."""
        z = z if self.quantizer is None else self.quantized(params, z)[0]
        return super().decode(params, z, backwards)

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """None; raises UsageError."""
        raise UsageError(NO_SAMPLES)

    def bound(self, params: Params, keys: Keys, x0: Array, condition: Condition) -> tuple[Array, dict[str, Array]]:
        """-ELBO under N(0, I) of every example [B] in nats and its terms; UsageError for a codebook, which has none."""
        if self.quantizer is not None:
            raise UsageError(NO_BOUND)
        reconstruction, divergence = self.evidence(params, x0, self.noise(keys))
        terms = {"reconstruction": reconstruction, "kl": sum_per_example(divergence)}
        return reconstruction + terms["kl"], terms

    def log_ratio(self, params: Params, x0: Array, noise: Array) -> Array:
        """As VAE's, of Laplace's density; UsageError for a codebook, whose latents have none."""
        if self.quantizer is not None:
            raise UsageError(NO_BOUND)
        return super().log_ratio(params, x0, noise)

    def density(self, x: Array, decoded: Gaussian) -> Array:
        """log p(x | z) [B] in nats: Laplace's."""
        mean, s = decoded
        return -sum_per_example(jnp.abs(x - mean) * jnp.exp(-s) + s + math.log(2))

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(1, 1 + len(self.shape)))

    def _logits(self, params: Any, x: Array) -> Array:
        assert self.critic is not None
        network = computed(self.critic, {"convolution": self.platform.convolution(True)})
        return network.apply({"params": params}, self.image(x))  # pyright: ignore[reportReturnType]


PARTS = {"kl": (ENCODER, DECODER), "vq": (ENCODER, DECODER, CODEBOOK)}
"""By what keeps latents in their place; a critic is one more."""
