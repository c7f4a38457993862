"""A score network under a linear SDE: the system that Song et al. 2021 train, and the default one."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.data.captions import TextSpec
from score_sde.devices.platform import Platform, platform
from score_sde.guidance.classifier_free import with_null
from score_sde.names import FRAMES, MASK, PRESENT
from score_sde.networks.concatenating import Concatenating
from score_sde.networks.fourier import FourierFeatures
from score_sde.networks.generator import Generator
from score_sde.networks.presence import Presence
from score_sde.objectives.variational import Model
from score_sde.rng import Purpose, child, uniform
from score_sde.scores.parametrization import Parametrization
from score_sde.scores.subspace import Subspace, completed
from score_sde.sde import SDE
from score_sde.solvers.sampling import Samples
from score_sde.systems.base import Condition, Params
from score_sde.training.step import View
from score_sde.typing import Array, Keys, Network, ScoreFn

PART = "score"


@dataclasses.dataclass(frozen=True)
class Objective:
    """(keys [B], model, sde, x0 [B, ...], u [B], where x0 lies or None) -> the loss of every example [B].

    backwards: whether the score is differentiated in its parameters alone, by reverse mode, and never in x by forward
    mode, which convolutions for reverse mode and fused attention do not have.
    """

    loss: Callable[[Keys, Model, SDE, Array, Array, Subspace | None], Array]
    backwards: bool = True


@dataclasses.dataclass(frozen=True)
class Dropped:
    """Labels that become the null label, and texts of which nothing is there, with this probability in training.

    0: nothing is dropped.
    """

    probability: float
    null: int

    def __call__(self, keys: Keys, condition: Condition, text: bool = False) -> Condition:
        """The condition with every example's label and text kept or dropped, both at once, by its own key.

        text: whether there is one, of which condition["mask"] [B, L] says which rows are there.
        """
        if not self.probability or not {"label", *((MASK,) if text else ())} & set(condition):
            return condition
        dropped, found = uniform(child(keys, Purpose.CONDITION)) < self.probability, dict(condition)
        if "label" in found:
            found["label"] = jnp.where(dropped, self.null, found["label"])
        if text and MASK in found:
            found[MASK] = found[MASK].astype(bool) & ~dropped[:, None]
        return found


@dataclasses.dataclass(frozen=True)
class Score:
    """One part, "score": a network whose output the parametrization makes a score of.

    shape: of an example; image_shape: what the network is shown of it, one more axis for [H, W]. network: x, noise
    label, sigma, dropout keys [, condition] -> output. labelled: whether it is told labels. text: what it reads, None
    for nothing. shown: the shape of the picture that it is shown, condition["image"], () for none. space: where
    examples lie of which condition["present"] [B, *shape] are there, None where all always are. frames: the shape of
    condition["frames"], () for none. sampler: (system,
    params, keys, condition) -> Samples. platform: what training is compiled for.
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
    text: TextSpec | None = None
    shown: tuple[int, ...] = ()
    space: Callable[[Array], Subspace] | None = None
    frames: tuple[int, ...] = ()
    remat: str = "none"
    scan_blocks: bool = False
    platform: Platform = dataclasses.field(default_factory=platform)
    parts: tuple[str, ...] = (PART,)
    frozen: tuple[str, ...] = ()

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh network parameters, a function of the key and the architecture alone."""
        ones = jnp.ones((1,))
        condition = {"label": jnp.zeros(1, jnp.int32)} if self.labelled else {}
        shapes = self.text.shapes if self.text else {}
        condition |= {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in shapes.items()}
        if self.shown:
            condition |= {"image": jnp.zeros((1, *self.shown)), "level": jnp.zeros(1)}
        if self.space:
            condition |= {PRESENT: jnp.ones((1, *self.shape), bool)}
        condition |= {FRAMES: jnp.zeros((1, *self.frames))} if self.frames else {}
        options: dict[str, Any] = {"condition": condition} if condition else {}
        return {PART: self.network.init(key, jnp.zeros((1, *self.image_shape)), ones, ones, **options)["params"]}

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The objective on examples at quantiles u of the law of t; labels are dropped in training alone."""
        condition = self.with_dropped(keys, condition, training)
        execution = self.trained(self.objective.backwards)
        model = self.model(params, condition, self.dropout_keys(keys, training), **execution)
        return self.objective.loss(keys, model, self.sde(params), x0, u, self.subspace(condition)), {}

    def subspace(self, condition: Condition | None) -> Subspace | None:
        """Where examples of this condition lie; None for everywhere."""
        return self.space(condition[PRESENT]) if self.space and condition and PRESENT in condition else None

    def with_dropped(self, keys: Keys, condition: Condition, training: bool) -> Condition:
        """The condition of a loss, of which training drops labels and texts."""
        return self.dropped(keys, condition, self.text is not None) if training else condition

    def and_null(self, condition: Condition) -> Condition:
        """The condition of twice the batch: itself, and what it is without label and text."""
        return with_null(condition, self.dropped.null, self.text is not None)

    def trained(self, backwards: bool = True) -> dict[str, Any]:
        """How the network is computed in training (`apply`); backwards: as in Objective."""
        return {
            "convolution": self.platform.convolution(backwards),
            "fused_attention": self.platform.capability if backwards else None,
            "remat": self.remat,
            "scan_blocks": self.scan_blocks,
        }

    def dropout_keys(self, keys: Keys, training: bool) -> Keys | None:
        """The keys of dropout [B]; None where there is none."""
        return child(keys, Purpose.DROPOUT) if self.dropout and training else None

    def sde(self, params: Params | None = None) -> SDE:
        """The one SDE that it was made with."""
        return self.process

    def score(self, params: Params, condition: Condition | None = None, backwards: bool = False) -> ScoreFn:
        """The score function of given parameters, without dropout; of what is not there that of a Gaussian.

        backwards: in a form whose gradient in x is cheap by reverse mode and that has no forward mode, to rounding.
        """
        execution: dict[str, Any] = {"convolution": self.platform.convolution(backwards=True)} if backwards else {}
        model, space = self.model(params, condition, **execution), self.subspace(condition)
        own: ScoreFn = lambda x, t: model(x, t)[0]
        return own if space is None else completed(own, self.sde(params), space)

    def denoiser(
        self, params: Params, condition: Condition | None = None, dropout_keys: Keys | None = None, **execution: Any
    ) -> ScoreFn:
        """The denoiser (x [B, ...], t [] or [B]) -> E[x_0 | x_t = x], with the digits that the way by the score loses.

        execution: those of `apply`. The second half of the channels of a network that learns variances is left out.
        """
        apply = self.apply(params, condition, dropout_keys, **execution)
        if self.learned_variance:
            both = apply
            apply = lambda x, label, sigma: jnp.split(both(x, label, sigma), 2, axis=-1)[0]
        return self.parametrization.denoiser(apply, self.sde(params))

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """By the solver and grid that it was made with."""
        return self.finished(params, keys, condition, self.sampler(self, params, keys, condition))

    def finished(self, params: Params, keys: Keys, condition: Condition, samples: Samples) -> Samples:
        """What a solver's samples stand for: themselves, and 0 where nothing is."""
        space = self.subspace(condition)
        return samples if space is None else samples._replace(x=space.project(samples.x))

    def model(
        self, params: Params, condition: Condition | None = None, dropout_keys: Keys | None = None, **execution: Any
    ) -> Model:
        """The score and, where the network learns variances, their fraction (posterior.Learned): one evaluation.

        execution: those of `apply`.
        """
        apply = self.apply(params, condition, dropout_keys, **execution)
        if self.learned_variance:
            return self.parametrization.with_variance(apply, self.sde(params))
        score = self.parametrization(apply, self.sde(params))
        return lambda x, t: (score(x, t), None)

    def apply(
        self, params: Params, condition: Condition | None = None, dropout_keys: Keys | None = None, **execution: Any
    ) -> Network:
        """The network with parameters, condition and dropout keys bound; x [B, ...] of the data's own shape.

        execution: fields of how it is computed, which change values by rounding alone, where the network has them:
        convolution (without it in a form that has forward mode), fused_attention, remat, scan_blocks.
        """
        execution = {"convolution": self.platform.convolution()} | execution
        network = computed(self.network, execution)
        # A classifier may be told the label alone, or another run's network shown a picture.
        unknown = (() if self.labelled else ("label",)) + (() if self.shown else ("image", "level"))
        unknown += () if self.frames else (FRAMES,)
        told = {name: value for name, value in (condition or {}).items() if name not in unknown}
        options: dict[str, Any] = {"condition": told} if told else {}

        def call(x: Array, label: Array, sigma: Array) -> Array:
            return network.apply({"params": params[PART]}, x, label, sigma, dropout_keys, **options)  # pyright: ignore[reportReturnType]

        if self.image_shape == self.shape:
            return call
        return lambda x, label, sigma: call(x[..., None], label, sigma)[..., 0]


def computed(network: nn.Module, execution: dict[str, Any]) -> nn.Module:
    """The network with those fields of how it is computed that it has, or the one inside of it."""
    fields = {field.name for field in dataclasses.fields(network)}
    own = {name: value for name, value in execution.items() if name in fields}
    if isinstance(network, Concatenating | FourierFeatures | Generator | Presence):
        own["network"] = computed(network.network, execution)
    return network.clone(**own)
