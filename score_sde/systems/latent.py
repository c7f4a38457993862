"""Diffusion of latents, of an autoencoder that is frozen (Rombach et al. 2022) or trained with it (LSGM)."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from score_sde.errors import UsageError
from score_sde.networks.mlp import Gaussian
from score_sde.objectives.cross_entropy import cross_entropy
from score_sde.objectives.denoising import LikelihoodTimes, likelihood, perturb
from score_sde.objectives.elbo import kl_weight
from score_sde.objectives.variational import Model, prior_term
from score_sde.rng import Purpose, child, normal, uniform
from score_sde.scores.mixed import Mixed
from score_sde.scores.parametrization import Parametrization
from score_sde.solvers.sampling import Samples
from score_sde.systems.autoencoder import at
from score_sde.systems.base import Condition, Params
from score_sde.systems.first_stage import NO_BOUND, FirstStage
from score_sde.systems.score import PART, Score
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn, expand, sum_per_example

AUTOENCODER, BORROWED = "autoencoder", "frozen.autoencoder"
"""The part of another run, and its name among the parameters that samples and bounds are given."""
MIXING = "mixing"
LEFT_OUT = -15.0
"""The largest logit at first by which the network has no share of the prior's noise, and gets none."""


class Autoencoder(Protocol):
    """Gaussian latents of examples and examples of latents, of parameters {"encoder": tree, "decoder": tree}."""

    @property
    def latent(self) -> tuple[int, ...]:
        """The shape of z."""
        ...

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters of a key []."""
        ...

    def encode(self, params: Params, x: Array, backwards: bool = False) -> Gaussian:
        """Mean [B, *latent] and log variance of q(z | x)."""
        ...

    def decode(self, params: Params, z: Array, backwards: bool = False) -> Gaussian:
        """Mean [B, ...] and log variance of p(x | z)."""
        ...

    def density(self, x: Array, decoded: Gaussian) -> Array:
        """log p(x | z) of every example [B] in nats, of what z was decoded to."""
        ...


@dataclasses.dataclass(frozen=True)
class Latent(Score):
    """A score of z / scale, z ~ q(z | x) by the encoder of a frozen autoencoder.

    Whatever a score system does, this one does in the latent space, whose shape is `shape`: objective, solvers, grids
    and labels are the same. Encoding is part of every update, so that each meets new z.

        -log p(x) <= E_q[-log p(x | z) + log q(z | x)] + CE(q(z | x), p(z))        reconstruction + entropy + prior

    with the prior's cross entropy by denoising from t_min on (`cross_entropy`) and KL(q(z_T | z) || N(0, prior_std^2)),
    so that figures at another t_min are other figures. scale: one number, of many examples, by which latents have the
    standard deviation 1. noisy: whether samples have the decoder's noise, else they are its means. parts_decoded: in
    how many parts, one after the other, a batch of samples is decoded. coder: the autoencoder's parameters, for a call
    whose own have none by the name BORROWED. Source: Rombach et al. 2022 (arXiv 2112.10752).
    """

    autoencoder: Autoencoder = dataclasses.field(kw_only=True)
    t_min: float = dataclasses.field(kw_only=True)
    scale: float = 1.0
    parts_decoded: Callable[[], int] = lambda: 1
    noisy: Callable[[], bool] = lambda: False
    coder: Params = dataclasses.field(default_factory=dict, compare=False, repr=False)
    frozen: tuple[str, ...] = (AUTOENCODER,)
    discrete: bool = False

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The score's objective on latents of the examples, at quantiles u of the law of t."""
        mean, log_variance = self.autoencoder.encode(view.frozen[AUTOENCODER], x0)
        z = self.drawn(keys, mean, log_variance) / self.scale
        return super().losses(params, view, keys, z, condition, u, training)

    def drawn(self, keys: Keys, mean: Array, log_variance: Array) -> Array:
        """z [B, *shape] ~ N(mean, variance), by each example's own key."""
        return at((mean, log_variance), normal(child(keys, Purpose.LATENT), self.shape, mean.dtype))

    def bound(self, params: Params, keys: Keys, x0: Array, condition: Condition) -> tuple[Array, dict[str, Array]]:
        """-ELBO of every example [B] in nats, a bound on -log p(x0) up to t_min, and its terms."""
        (_, log_variance), z, reconstruction = self.coded(params, keys, x0)
        t, ratio = LikelihoodTimes(self.t_min)(self.process, uniform(child(keys, Purpose.TIME)))
        eps = normal(child(keys, Purpose.NOISE), self.shape, z.dtype)
        prior, _ = self.prior_at(params, z / self.scale, condition, t, ratio, eps)
        return self.summed(reconstruction, log_variance, prior + z[0].size * math.log(self.scale))

    def coded(self, params: Params, keys: Keys, x0: Array) -> tuple[Gaussian, Array, Array]:
        """q(z | x0), a draw z [B, *shape] of it, and -log p(x0 | z) [B] in nats.

        Raises UsageError for a codebook, whose latents have no density.
        """
        if isinstance(self.autoencoder, FirstStage) and self.autoencoder.quantizer is not None:
            raise UsageError(NO_BOUND)
        coder = self.coder_of(params)
        law = self.autoencoder.encode(coder, x0)
        z = self.drawn(keys, *law)
        return law, z, -self.autoencoder.density(x0, self.autoencoder.decode(coder, z))

    def summed(self, reconstruction: Array, log_variance: Array, prior: Array) -> tuple[Array, dict[str, Array]]:
        """-ELBO [B] and its terms; entropy is that of q with a minus, E log q(z | x)."""
        whole = jnp.broadcast_to(log_variance, (len(prior), *self.shape))
        entropy = -0.5 * sum_per_example(1 + math.log(2 * math.pi) + whole)
        terms = {"reconstruction": reconstruction, "entropy": entropy, "prior": prior}
        return reconstruction + entropy + prior, terms

    def prior_at(
        self,
        params: Params,
        z: Array,
        condition: Condition,
        t: Array,
        ratio: Array,
        eps: Array,
        factor: Array | None = None,
        **execution: Any,
    ) -> tuple[Array, Array]:
        """The cross entropy [B] of z [B, *shape] by the noise eps at t [B], and |eps - eps_hat|^2 [B].

        ratio [B]: of the law of t (denoising.Times). factor [B]: of gradients in z. execution: of `model`.
        """
        z_t, sigma = perturb(self.process, z, t, eps)
        shown = z_t if factor is None else scaled_gradient(z_t, factor)
        score = self.model(params, condition, **execution)(shown, t)[0]
        squares = sum_per_example((sigma * score + eps) ** 2)
        entropy = cross_entropy(self.process, t, ratio, squares, t_min=self.t_min, dimension=z[0].size)
        return entropy + prior_term(self.process, z), squares

    def finished(self, params: Params, keys: Keys, condition: Condition, samples: Samples) -> Samples:
        """Examples of latents that a solver draws: the decoder's means, or draws of p(x | z)."""
        coder, z = self.coder_of(params), self.scale * samples.x
        if not self.noisy():
            return samples._replace(x=self.by_parts(lambda z: self.autoencoder.decode(coder, z)[0], z))

        def drawn(z: Array, keys: Keys) -> Array:
            law = self.autoencoder.decode(coder, z)
            return at(law, normal(child(keys, Purpose.LATENT), law[0].shape[1:]))

        return samples._replace(x=self.by_parts(drawn, z, keys))

    def by_parts(self, decode: Callable[..., Array], *batches: Array) -> Array:
        """What `decode` makes of arrays [B, ...], part by part, each of every such-and-such example."""
        count, size = self.parts_decoded(), len(batches[0])
        if count == 1:
            return decode(*batches)
        if size % count:
            raise UsageError(
                f"sampling.decode_parts={count} do not divide a batch of {size} latents: choose a divisor, or 1"
            )
        apart = lambda a: jnp.swapaxes(a.reshape(size // count, count, *a.shape[1:]), 0, 1)
        x = jnp.swapaxes(jax.lax.map(lambda part: decode(*part), tuple(map(apart, batches))), 0, 1)
        return x.reshape(size, *x.shape[2:])

    def coder_of(self, params: Params) -> Params:
        """The autoencoder's parameters: among these, or constants."""
        return params.get(BORROWED, self.coder)


@dataclasses.dataclass(frozen=True)
class Joint(Latent):
    """Encoder, decoder and score prior trained together (LSGM), the prior's noise mixed with a standard normal's.

    The loss is -ELBO of Latent with a scale of 1. Its gradient is in encoder and decoder; the prior, by the same z_t
    and in the same pass, descends on |eps - eps_hat|^2 / 2 of uniform weight in t instead, on which networks train
    better. While `view.step` is below prior_updates encoder and decoder have no gradient, and optimizers that start
    then (`Optimizer`): with the weights of a trained VAE at first these are the three stages of the paper. In training
    entropy and prior have the weight of objectives.elbo by warmup and warmup_after.

    parts: "encoder" and "decoder" as in VAE, "score", and "mixing", the logit of `Mixed` for every channel, which is
    `mixing` at first: at LEFT_OUT or less the prior is N(0, I) for good, and no gradient reaches logit or network.
    Source: Vahdat et al. 2021 (arXiv 2106.05931).
    """

    mixing: float = -6.0
    warmup: int = 0
    warmup_after: int = 0
    prior_updates: int = 0
    parts: tuple[str, ...] = ("encoder", "decoder", PART, MIXING)
    frozen: tuple[str, ...] = ()

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters, a function of the key [] and the architectures alone."""
        one, other = jax.random.split(key)
        logit = jnp.full(self.shape[-1:], self.mixing)
        return {**self.autoencoder.init(one, {}), **super().init(other, {}), MIXING: {"logit": logit}}

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """-ELBO of every example [B] in nats with its terms, and in training the gradients of both kinds of parts."""
        held, still = view.step < self.prior_updates, jax.lax.stop_gradient
        coder = {part: params[part] for part in ("encoder", "decoder")}
        coder = jax.tree.map(lambda p: jnp.where(held, still(p), p), coder) if self.prior_updates else coder
        mean, log_variance = self.autoencoder.encode(coder, x0, backwards=True)
        z = self.drawn(keys, mean, log_variance)
        reconstruction = -self.autoencoder.density(x0, self.autoencoder.decode(coder, z, backwards=True))
        condition = self.with_dropped(keys, condition, training)
        warm = kl_weight(view.step, self.warmup, self.warmup_after)
        t, ratio = LikelihoodTimes(self.t_min)(self.process, u)
        eps = normal(child(keys, Purpose.NOISE), self.shape, z.dtype)
        # The prior descends on |eps - eps_hat|^2 / 2, and encoder and decoder on so many times that, by its gradient.
        factor = warm * (self.process.T - self.t_min) * likelihood(self.process, t)
        execution = {"dropout_keys": self.dropout_keys(keys, training), **self.trained()}
        prior, squares = self.prior_at(params, z, condition, t, ratio, eps, factor, **execution)
        loss, terms = self.summed(reconstruction, log_variance, prior)
        if not training:
            return loss, terms
        latents = terms["entropy"] + prior_term(self.process, z)
        descended = reconstruction + warm * latents + 0.5 * ratio * squares
        return still(loss) + descended - still(descended), terms

    def model(
        self, params: Params, condition: Condition | None = None, dropout_keys: Keys | None = None, **execution: Any
    ) -> Model:
        """As a score system's, mixed by these parameters."""
        return Score.model(self._mixed(params), params, condition, dropout_keys, **execution)

    def denoiser(
        self, params: Params, condition: Condition | None = None, dropout_keys: Keys | None = None, **execution: Any
    ) -> ScoreFn:
        """As a score system's, mixed by these parameters."""
        return Score.denoiser(self._mixed(params), params, condition, dropout_keys, **execution)

    def _mixed(self, params: Params) -> Score:
        logit = params[MIXING]["logit"]
        if self.mixing <= LEFT_OUT:
            logit = jnp.full_like(logit, -jnp.inf)
        return dataclasses.replace(self, parametrization=Parametrization(Mixed(logit), self.parametrization.label))

    def coder_of(self, params: Params) -> Params:
        """Its own."""
        return params


@jax.custom_vjp
def scaled_gradient(x: Array, factor: Array) -> Array:
    """x [B, ...], through which gradients pass times a factor [B]."""
    return x


def _forward(x: Array, factor: Array) -> tuple[Array, Array]:
    return x, factor


def _backward(factor: Array, slope: Array) -> tuple[Array, Array]:
    return expand(factor, slope) * slope, jnp.zeros_like(factor)


scaled_gradient.defvjp(_forward, _backward)
