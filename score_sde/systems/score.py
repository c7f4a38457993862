"""A score network under a linear SDE: the system that Song et al. 2021 train, and the default one."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.devices.platform import Platform, platform
from score_sde.objectives.variational import Model
from score_sde.rng import Purpose, child, uniform
from score_sde.scores.parametrization import Parametrization
from score_sde.sde import SDE
from score_sde.solvers.sampling import Samples
from score_sde.systems.base import Condition, Params
from score_sde.training.step import View
from score_sde.typing import Array, Keys, Network, ScoreFn

PART = "score"


@dataclasses.dataclass(frozen=True)
class Objective:
    """(keys [B], model, sde, x0 [B, ...], u [B]) -> the loss of every example [B].

    backwards: whether the score is differentiated in its parameters alone, by reverse mode, and never in x by forward
    mode, which convolutions for reverse mode and fused attention do not have.
    """

    loss: Callable[[Keys, Model, SDE, Array, Array], Array]
    backwards: bool = True


@dataclasses.dataclass(frozen=True)
class Dropped:
    """Labels that become the null label with this probability in training; 0 for no null label."""

    probability: float
    null: int

    def __call__(self, keys: Keys, condition: Condition) -> Condition:
        """The condition with every example's label kept or dropped by its own key."""
        if not self.probability or "label" not in condition:
            return condition
        dropped = uniform(child(keys, Purpose.CONDITION)) < self.probability
        return {**condition, "label": jnp.where(dropped, self.null, condition["label"])}


@dataclasses.dataclass(frozen=True)
class Score:
    """One part, "score": a network whose output the parametrization makes a score of.

    shape: of an example; image_shape: what the network is shown of it, one more axis for [H, W]. network: x, noise
    label, sigma, dropout keys [, condition] -> output. sampler: (system, params, keys, condition) -> Samples. platform:
    what training is compiled for.
    """

    shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    process: SDE
    network: nn.Module
    parametrization: Parametrization
    objective: Objective
    sampler: Callable[["Score", Params, Keys, Condition], Samples]
    dropout: bool = False
    learned_variance: bool = False
    dropped: Dropped = Dropped(0.0, 0)
    labelled: bool = False
    remat: str = "none"
    scan_blocks: bool = False
    platform: Platform = dataclasses.field(default_factory=platform)
    parts: tuple[str, ...] = (PART,)
    frozen: tuple[str, ...] = ()

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh network parameters, a function of the key and the architecture alone."""
        ones = jnp.ones((1,))
        options: dict[str, Any] = {"condition": {"label": jnp.zeros(1, jnp.int32)}} if self.labelled else {}
        return {PART: self.network.init(key, jnp.zeros((1, *self.image_shape)), ones, ones, **options)["params"]}

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The objective on examples at quantiles u of the law of t; labels are dropped in training alone."""
        backwards = self.objective.backwards
        execution = {
            "convolution": self.platform.convolution(backwards),
            "fused_attention": self.platform.capability if backwards else None,
            "remat": self.remat,
            "scan_blocks": self.scan_blocks,
        }
        dropout_keys = child(keys, Purpose.DROPOUT) if self.dropout and training else None
        condition = self.dropped(keys, condition) if training else condition
        model = self.model(params, condition, dropout_keys, **execution)
        return self.objective.loss(keys, model, self.process, x0, u), {}

    def sde(self, params: Params | None = None) -> SDE:
        """The one SDE that it was made with."""
        return self.process

    def score(self, params: Params, condition: Condition | None = None, backwards: bool = False) -> ScoreFn:
        """The score function of given parameters, without dropout.

        backwards: in a form whose gradient in x is cheap by reverse mode and that has no forward mode, to rounding.
        """
        execution: dict[str, Any] = {"convolution": self.platform.convolution(backwards=True)} if backwards else {}
        model = self.model(params, condition, **execution)
        return lambda x, t: model(x, t)[0]

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """By the solver and grid that it was made with."""
        return self.sampler(self, params, keys, condition)

    def model(
        self, params: Params, condition: Condition | None = None, dropout_keys: Keys | None = None, **execution: Any
    ) -> Model:
        """The score and, where the network learns variances, their fraction (posterior.Learned): one evaluation.

        execution: those of `apply`.
        """
        apply = self.apply(params, condition, dropout_keys, **execution)
        if self.learned_variance:
            return self.parametrization.with_variance(apply, self.process)
        score = self.parametrization(apply, self.process)
        return lambda x, t: (score(x, t), None)

    def apply(
        self, params: Params, condition: Condition | None = None, dropout_keys: Keys | None = None, **execution: Any
    ) -> Network:
        """The network with parameters, condition and dropout keys bound; x [B, ...] of the data's own shape.

        execution: fields of how it is computed, which change values by rounding alone, where the network has them:
        convolution (without it in a form that has forward mode), fused_attention, remat, scan_blocks.
        """
        execution = {"convolution": self.platform.convolution()} | execution
        fields = {field.name for field in dataclasses.fields(self.network)}
        network = self.network.clone(**{name: value for name, value in execution.items() if name in fields})
        told = {
            n: v for n, v in (condition or {}).items() if self.labelled or n != "label"
        }  # a classifier may be, alone
        options: dict[str, Any] = {"condition": told} if told else {}

        def call(x: Array, label: Array, sigma: Array) -> Array:
            return network.apply({"params": params[PART]}, x, label, sigma, dropout_keys, **options)  # pyright: ignore[reportReturnType]

        if self.image_shape == self.shape:
            return call
        return lambda x, label, sigma: call(x[..., None], label, sigma)[..., 0]
