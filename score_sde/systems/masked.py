"""Masked discrete diffusion of tokens: a network that names masked tokens by those that are there. It has no SDE."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.errors import UsageError
from score_sde.names import GIVEN
from score_sde.objectives import masked
from score_sde.objectives.masked import Schedule
from score_sde.rng import Purpose, child, uniform
from score_sde.sde import SDE
from score_sde.solvers.sampling import Samples
from score_sde.systems.base import Condition, Params
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn, expand

PART = "denoiser"
NO_SCORE = "system.name='masked' has no score: tokens have no density, ask it for its bound"


@dataclasses.dataclass(frozen=True)
class Masked:
    """One part, "denoiser": p(x_0_i | x_t) for every masked token of x_t, as if they were independent given x_t.

        -log p(x_0) <= E_t w(t) sum over masked i of -log p(x_0_i | x_t),      w as objectives.masked.times has it.

    With exact conditionals it is an equality in the mean over the data, under every schedule: by the chain rule in any
    order. Samples begin with masks alone, and a step from t to s unmasks each with probability (m(t) - m(s)) / m(t).
    One that unmasks several at once draws them independently, so more steps are nearer the law.

    shape: of an example, any, seen as a sequence of L. vocabulary: V tokens 0 .. V - 1, the mask is V. network: (x [B,
    L], label 999 m(t) [B], sigma None, dropout keys) -> logits [B, L, V]. steps: of samples. t_min, num_scales: as of
    objectives.masked.times. Source: Sahoo et al. 2024 (arXiv 2406.07524).
    """

    shape: tuple[int, ...]
    vocabulary: int
    network: nn.Module
    schedule: Schedule = masked.loglinear()  # noqa: RUF009
    steps: Callable[[], int] = lambda: 64
    t_min: float = 1e-5
    num_scales: int = 0
    dropout: bool = False
    discrete: bool = True
    parts: tuple[str, ...] = (PART,)
    frozen: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """L, tokens of an example."""
        return math.prod(self.shape)

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters of the network, a function of the key [] and the architecture alone."""
        x = jnp.zeros((1, self.length), jnp.int32)
        return {PART: self.network.init(key, x, jnp.ones(1)).get("params", {})}

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The bound in nats per token of every example [B] at the quantile u [B] of its time; no terms."""
        dropout_keys = child(keys, Purpose.DROPOUT) if self.dropout and training else None
        return self.nats(params, keys, x0, u, dropout_keys) / self.length, {}

    def bound(self, params: Params, keys: Keys, x0: Array, condition: Condition) -> tuple[Array, dict[str, Array]]:
        """The bound on -log P(x0) of every example [B] in nats, of one draw of t and masks by its own key; no terms."""
        return self.nats(params, keys, x0, uniform(child(keys, Purpose.TIME))), {}

    def nats(self, params: Params, keys: Keys, x0: Array, u: Array, dropout_keys: Keys | None = None) -> Array:
        """The bound's estimate [B] at quantiles u [B] of time, the masks drawn by the keys [B]."""
        t, weight = masked.times(self.schedule, u, self.t_min, self.num_scales)
        draws = uniform(child(keys, Purpose.NOISE), (self.length,))
        return weight * self.nats_at(params, x0, draws < expand(self.schedule.masked(t), draws), t, dropout_keys)

    def nats_at(self, params: Params, x0: Array, hidden: Array, t: Array, dropout_keys: Keys | None = None) -> Array:
        """-log p(x_0_i | x_t) [B] in nats, summed over the hidden tokens, bool [B, L], of x0 [B, ...] at t [B]."""
        x0 = x0.reshape(-1, self.length)
        x = masked.mask(x0, hidden, self.vocabulary)
        return masked.cross_entropy(self.denoised(params, x, t, dropout_keys), x0)

    def denoised(self, params: Params, x: Array, t: Array, dropout_keys: Keys | None = None) -> Array:
        """log p(x_0_i | x_t) [B, L, V] of x_t [B, L] at t [B], float32."""
        label = 999 * self.schedule.masked(t)
        logits = self.network.apply({"params": params[PART]}, x, label, None, dropout_keys)
        return masked.denoised(logits, x)  # pyright: ignore[reportArgumentType]

    def sde(self, params: Params | None = None) -> SDE:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)

    def score(self, params: Params, condition: Condition | None = None) -> ScoreFn:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """Tokens int32 [B, ...] in `steps` even steps from t = 1 to 0, the last of which leaves no mask.

        condition: perhaps tokens that are given and stay, {"given": int32 [B, L]}, masks in all other places.
        """
        count, step_keys = self.steps(), child(keys, Purpose.STEPS)
        x = jnp.full((len(keys), self.length), self.vocabulary, jnp.int32)

        def step(x: Array, i: Array) -> tuple[Array, None]:
            t, s = ((count - j) / count for j in (i, i + 1))
            log_p = self.denoised(params, x, jnp.full(len(x), t, jnp.float32))
            return self.unmasked(child(step_keys, i), x, log_p, masked.unmasking(self.schedule, t, s)), None

        x, _ = jax.lax.scan(step, condition.get(GIVEN, x), jnp.arange(count))
        return Samples(x.reshape(-1, *self.shape), jnp.int32(count))

    def unmasked(self, keys: Keys, x: Array, log_p: Array, probability: Array) -> Array:
        """x_s [B, L] of x_t, whose every mask becomes a token of log_p [B, L, V] with this probability [].

        With Gumbel noise of few bits, jax's default, tokens of probabilities near 1e-7 and below would have others.
        """
        categorical = lambda key, log_p: jax.random.categorical(key, log_p, mode="high")
        drawn = jax.vmap(categorical)(child(keys, 0), log_p).astype(x.dtype)  # of what is there, itself
        return jnp.where(uniform(child(keys, 1), (self.length,)) < probability, drawn, x)
