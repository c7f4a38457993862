"""A classifier of noisy examples at every noise level, whose gradient guides a score (Song et al. 2021, appendix I)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.devices.platform import Platform, platform
from score_sde.errors import UsageError
from score_sde.objectives.denoising import Times, draw, perturb
from score_sde.scores.parametrization import Label
from score_sde.sde import SDE
from score_sde.solvers.sampling import Samples
from score_sde.systems.base import Condition, Params
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn

PART = "classifier"
NO_SCORE = (
    "a classifier has no score, so nothing is drawn by it alone and it has no likelihood: name its run as"
    " frozen.classifier of a run of system.name='score', with guidance.classifier_scale"
)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """One part, "classifier": a network of logits, trained by E CE(logits(alpha x_0 + sigma z, t), y).

    t is drawn as for a score, without weights (Dhariwal & Nichol 2021, section 4 and their code). shape: of an example;
    image_shape: what the network is shown of it. network: x [B, H, W, C], noise label [B] -> logits [B, K]. label: what
    it is told of the noise. At no noise level is E log p_t(y | x_t) below -H(y) for the best of them.
    """

    shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    process: SDE
    network: nn.Module
    label: Label
    times: Times
    platform: Platform = dataclasses.field(default_factory=platform)
    parts: tuple[str, ...] = (PART,)
    frozen: tuple[str, ...] = ()

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh network parameters, a function of the key [] and the architecture alone."""
        return {PART: self.network.init(key, jnp.zeros((1, *self.image_shape)), jnp.ones((1,)))["params"]}

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The cross-entropy of every example [B] in nats at quantiles u [B] of t's law; whether it was right [B]."""
        t, _, z = draw(keys, self.process, x0, self.times, u)
        x, _ = perturb(self.process, x0, t, z)
        logits, label = self.logits(params)(x, t), condition["label"]
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], axis=-1)[:, 0]
        right = (jnp.argmax(logits, axis=-1) == label).astype(loss.dtype)
        return loss, {"accuracy": right, "accuracy_by_t": right}

    def sde(self, params: Params | None = None) -> SDE:
        """The one SDE that it was made with."""
        return self.process

    def logits(self, params: Params, backwards: bool = True) -> Callable[[Array, Array], Array]:
        """(x [B, ...] noisy, t [] or [B]) -> logits [B, K] float32.

        backwards: in a form that reverse mode suits and that has no forward mode, to rounding.
        """
        fields: dict[str, Any] = {"convolution": self.platform.convolution(backwards)}
        network = self.network.clone(**{n: v for n, v in fields.items() if hasattr(self.network, n)})

        def logits(x: Array, t: Array) -> Array:
            label = jnp.broadcast_to(self.label(self.process, jnp.asarray(t)), (len(x),))
            return network.apply({"params": params[PART]}, x.reshape(-1, *self.image_shape), label)  # pyright: ignore[reportReturnType]

        return logits

    def score(self, params: Params, condition: Condition | None = None) -> ScoreFn:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """None; raises UsageError."""
        raise UsageError(NO_SCORE)
