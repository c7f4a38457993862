"""Denoising diffusion GANs: a generator that draws each of a few long steps, against a critic of such steps."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.devices.platform import Platform, platform
from score_sde.errors import UsageError
from score_sde.objectives.adversarial import vanilla
from score_sde.rng import Purpose, child, normal
from score_sde.scores.posterior import posterior_sample
from score_sde.sde import SDE, noised, transition
from score_sde.sde.chain import VPChain
from score_sde.solvers.sampling import Samples
from score_sde.systems.base import Condition, Params
from score_sde.systems.score import computed
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn, Time, expand, sum_per_example

GENERATOR, CRITIC = "generator", "critic"
NO_SCORE = (
    "a denoising diffusion GAN has no score, so it has no likelihood and takes no guidance: choose a run of"
    " system.name='score' for these"
)

Critic = Callable[[Array, Array, Array], Array]
"""(x_s, x_t [B, ...], noise label [B]) -> logits [B]."""


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """Two parts: a generator of x_0 given x_t and a latent z, and a critic of (x_s, x_t), over a chain of few steps N.

    t = k / N with k = 1 .. N evenly, s = (k - 1) / N, x_s and x_t of one path of the chain, x_s' ~ q(x_s | x_t, x_0')
    with x_0' = G(x_t, k - 1, z). With f = softplus, D the logits, and no part in the other's gradient, the loss is

        critic: f(-D(x_s, x_t, k - 1)) + f(D(x_s', x_t, k - 1)) + gamma / 2 |grad_{x_s} D(x_s, x_t, k - 1)|^2,
        generator: f(-D(x_s', x_t, k - 1)).

    As q(x_s | x_t, x_0) is exact, so is the chain where the generator draws from p(x_0 | x_t): then D is 0, the
    critic's loss 2 ln 2 and the generator's ln 2, which is what they stay near; neither falls. The penalty is of every
    `penalty_every`-th update alone, times that number if it is `rescaled` (Karras et al. 2020), as published not.

    shape: of an example; image_shape: what the networks are shown of it. generator: x, noise label, None, dropout keys,
    {"latent": z [B, latent]} -> x_0. critic: x_s, x_t, noise label -> logits. Both players see the same draws and move
    at once; the published code draws anew for the generator, behind the critic's update. Source: Xiao et al. 2021
    (arXiv 2112.07804), sections 3 and 4.
    """

    shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    process: VPChain
    generator: nn.Module
    critic: nn.Module
    latent: int
    penalty: float = 0.05
    penalty_every: int = 15
    rescaled: bool = False
    dropout: bool = False
    remat: str = "none"
    scan_blocks: bool = False
    platform: Platform = dataclasses.field(default_factory=platform)
    parts: tuple[str, ...] = (GENERATOR, CRITIC)
    frozen: tuple[str, ...] = ()

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters of both, a function of the key [] and the architectures alone."""
        one, other = jax.random.split(key)
        x, label = jnp.zeros((1, *self.image_shape)), jnp.zeros(1)
        z = jnp.ones((1, self.latent))
        generator = self.generator.init(one, x, label, None, condition={"latent": z})
        return {GENERATOR: generator["params"], CRITIC: self.critic.init(other, x, x, label)["params"]}

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """Both losses of every example [B] at the step that its quantile u falls on; r1 is the penalty as it is added.

        accuracy: the share of x_s and x_s' that the critic tells right. Held-out examples have no penalty.
        """
        k = 1 + jnp.floor(u * self.process.num_scales)
        noise = child(keys, Purpose.NOISE)
        z_s, z_t, z_fake = (normal(child(noise, i), self.shape, x0.dtype) for i in range(3))
        x_s, x_t = pair(self.process, x0, *self._ends(k), z_s, z_t)
        dropout_keys = child(keys, Purpose.DROPOUT) if self.dropout and training else None
        step = self.step(params, dropout_keys, backwards=True)
        fake = step(x_t, k, normal(child(noise, 3), (self.latent,)), z_fake)
        return self.judged(params, view, x_s, fake, x_t, k, training)

    def judged(
        self, params: Params, view: View, real: Array, fake: Array, x_t: Array, k: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """`losses` of the x_s [B, ...] of the data and of the generator, which lead from x_t back by the step k [B]."""
        critic, still = self.logits(params), jax.lax.stop_gradient
        high, low = critic(real, x_t, k), critic(still(fake), x_t, k)
        fooled = jax.nn.softplus(-self.logits(still(params))(fake, x_t, k))
        fought = 2 * vanilla(high, low)
        penalty = self._penalty(critic, real, x_t, k, view) if training else jnp.zeros_like(high)
        accuracy = ((high > 0).astype(high.dtype) + (low < 0)) / 2
        terms = {CRITIC: fought, GENERATOR: fooled, "r1": penalty, "accuracy": accuracy}
        return fought + fooled + penalty, terms

    def sde(self, params: Params | None = None) -> SDE:
        """The chain that it was made with."""
        return self.process

    def score(self, params: Params, condition: Condition | None = None) -> ScoreFn:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """The chain from the prior on: N draws of x_0 by the generator, each with one of q(x_s | x_t, x_0)."""
        step, own = self.step(params), child(keys, Purpose.STEPS)

        def back(x: Array, k: Array) -> tuple[Array, None]:
            now = child(own, k.astype(jnp.int32))
            z, noise = normal(child(now, 0), (self.latent,)), normal(child(now, 1), self.shape)
            return step(x, jnp.broadcast_to(k, len(x)), z, noise), None

        x = self.process.prior_sample(child(keys, Purpose.PRIOR), self.shape)
        x, _ = jax.lax.scan(back, x, jnp.arange(self.process.num_scales, 0, -1, dtype=x.dtype))
        return Samples(x, jnp.int32(self.process.num_scales))

    def step(
        self, params: Params, dropout_keys: Keys | None = None, backwards: bool = False
    ) -> Callable[[Array, Array, Array, Array], Array]:
        """(x_t [B, ...], k [B], z [B, latent], standard normals [B, ...]) -> x_s ~ q(x_s | x_t, G(x_t, k - 1, z)).

        backwards: in a form that reverse mode suits and that has no forward mode, to rounding.
        """
        network = computed(self.generator, self._execution(backwards))

        def step(x: Array, k: Array, z: Array, noise: Array) -> Array:
            given = (self._image(x), k - 1, None, dropout_keys)
            x0 = network.apply({"params": params[GENERATOR]}, *given, condition={"latent": z})
            return posterior_sample(self.process, x, x0.reshape(x.shape), *self._ends(k), noise)  # pyright: ignore

        return step

    def logits(self, params: Params) -> Critic:
        """The critic (x_s, x_t [B, ...], k [B]) -> logits [B], in a form that reverse mode suits."""
        network = computed(self.critic, self._execution(backwards=True))
        return lambda x_s, x_t, k: network.apply(  # pyright: ignore[reportReturnType]
            {"params": params[CRITIC]}, self._image(x_s), self._image(x_t), k - 1
        )

    def _penalty(self, critic: Critic, x_s: Array, x_t: Array, k: Array, view: View) -> Array:
        """gamma / 2 |grad D|^2 of every example [B]; 0 in the updates that leave it out, which do not compute it."""
        strength = self.penalty / 2 * (self.penalty_every if self.rescaled else 1)

        def measured() -> Array:
            slope = jax.grad(lambda x: critic(x, x_t, k).sum())(x_s)
            return strength * sum_per_example(slope**2)

        if not self.penalty:
            return jnp.zeros(len(x_s), x_s.dtype)
        return jax.lax.cond(view.step % self.penalty_every == 0, measured, lambda: jnp.zeros(len(x_s), x_s.dtype))

    def _ends(self, k: Array) -> tuple[Array, Array]:
        """The times s and t of the steps k, shape of k."""
        return (k - 1) / self.process.num_scales, k / self.process.num_scales

    def _image(self, x: Array) -> Array:
        return x.reshape(-1, *self.image_shape)

    def _execution(self, backwards: bool) -> dict[str, Any]:
        return {
            "convolution": self.platform.convolution(backwards),
            "fused_attention": self.platform.capability if backwards else None,
            "remat": self.remat if backwards else "none",
            "scan_blocks": self.scan_blocks,
        }


def pair(sde: SDE, x0: Array, s: Time, t: Time, z_s: Array, z: Array) -> tuple[Array, Array]:
    """x_s = alpha_s x_0 + sigma_s z_s and x_t = a x_s + b z of one path, s < t [] or [B]; shapes of x_0."""
    x_s, (a, b) = noised(sde, x0, s, z_s), transition(sde, s, t)
    return x_s, expand(a, x0) * x_s + expand(b, x0) * z
