"""What `system.name` stands for: every system of a config's objects."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.config import Config
from score_sde.config.fields import POINT_NETS
from score_sde.config.latent_checks import coder_config
from score_sde.config.spaces import image_shape
from score_sde.data.spec import Spec
from score_sde.devices.platform import platform
from score_sde.errors import require
from score_sde.experiment import degrading, editing, objects
from score_sde.experiment.autoencoders import AUTOENCODERS, hierarchy
from score_sde.experiment.consistency import consistency
from score_sde.experiment.latents import latent
from score_sde.experiment.teaching import check_alike, check_drawing, check_steps, fields_of, read, taught
from score_sde.experiment.variational import vdm
from score_sde.networks import Critic, Generator, PatchCritic, Presence, VectorQuantizer
from score_sde.networks.concatenating import Concatenating
from score_sde.scores import parametrization
from score_sde.scores.subspace import Subspace, centred, elements
from score_sde.sde.chain import long_step_betas, vp_chain
from score_sde.solvers.sampling import Samples
from score_sde.systems import (
    VAE,
    VDM,
    Adversarial,
    Classifier,
    Consistency,
    Distilled,
    FirstStage,
    Hierarchical,
    Joint,
    Latent,
    Masked,
    Reflow,
    Score,
    System,
)
from score_sde.systems.first_stage import CRITIC, PARTS
from score_sde.systems.score import Dropped
from score_sde.typing import Array

WHOLE = ("perceptron", "mlp", *POINT_NETS)
"""Networks that are shown examples as they are."""


def score_system(config: Config, spec: Spec, sampler: Callable[..., Samples], frozen: Mapping[str, Any]) -> Score:
    """The system that trains a score network, without a part of any other run."""
    del frozen
    prediction = objects.PREDICTIONS[config.parametrization.prediction](config)
    labels = spec.labels
    return Score(
        shape=spec.shape,
        image_shape=shown_shape(config, spec),
        process=objects.SDES[config.sde.name](config.sde),
        network=showing(config, spec),
        parametrization=parametrization.Parametrization(
            prediction, objects.LABELS[config.parametrization.label](config)
        ),
        objective=objects.objective(config),
        sampler=sampler,
        dropout=config.network.dropout > 0,
        learned_variance=config.parametrization.learned_variance,
        dropped=Dropped(config.network.label_dropout, labels.count if labels else 0),
        labelled=labels is not None,
        text=spec.text,
        shown=spec.beside.shape if spec.beside else degrading.shown(config, spec.shape),
        space=space_of(spec),
        frames=spec.frames,
        remat=config.training.remat,
        scan_blocks=config.training.scan_blocks,
        platform=platform(config.parallel.topology),
    )


def shown_shape(config: Config, spec: Spec) -> tuple[int, ...]:
    """What the network is shown of an example: an axis of channels too, unless it is one of vectors or of points."""
    return spec.shape if config.network.name in WHOLE else image_shape(spec.shape, spec.rank)


def space_of(spec: Spec) -> Callable[[Array], Subspace] | None:
    """Where examples lie of which some elements are there; None for everywhere."""
    if spec.points is not None:
        return functools.partial(centred, dimension=spec.points.dimension)
    return elements if spec.missing else None


def showing(config: Config, spec: Spec) -> nn.Module:
    """The config's network of x and of what it is shown beside: a picture, a field, which elements are there."""
    network: Any = objects.NETWORKS[config.network.name](config, spec)
    if spec.points is not None:
        return network  # which is told by itself
    if spec.missing or spec.beside:
        network = network.clone(out_channels=network.out_channels or shown_shape(config, spec)[-1])
    network = degrading.showing(config, spec.shape, network)
    network = Concatenating(network) if spec.beside else network
    return Presence(network) if spec.missing else network


def classifier_system(config: Config, spec: Spec, sampler: Any, frozen: Mapping[str, Any]) -> Classifier:
    """The system that trains a classifier of noisy examples."""
    del sampler, frozen
    return Classifier(
        shape=spec.shape,
        image_shape=shown_shape(config, spec),
        process=objects.SDES[config.sde.name](config.sde),
        network=objects.NETWORKS[config.network.name](config, spec),
        label=objects.LABELS[config.parametrization.label](config),
        times=objects.TIMES[config.training.times](config),
        platform=platform(config.parallel.topology),
    )


def distilled_system(
    config: Config, spec: Spec, sampler: Callable[..., Samples], frozen: Mapping[str, Any]
) -> Distilled:
    """The system of one phase of progressive distillation."""
    steps = config.distillation.steps
    require(
        len(steps) == 1,
        f"distillation.steps={steps} are phases, one run each: --mode train of the command line makes all of them; here"
        " give one number, and the run before as frozen.teacher",
    )
    own = score_system(config, spec, sampler, frozen)
    if given := read("distilled", frozen):
        check_alike(config, given, ("sde", "network", "parametrization", "degradation"))
        check_steps(steps[0], config.distillation.rho, given)
    return Distilled(
        **fields_of(own),
        teacher=taught(config, given),
        num_steps=steps[0],
        rho=config.distillation.rho,
        weighting=objects.WEIGHTINGS[config.training.weighting](config),
        reduction=objects.reduction(config),
    )


def adversarial_system(config: Config, spec: Spec, sampler: Any, frozen: Mapping[str, Any]) -> Adversarial:
    """The system that trains a generator of long denoising steps against a critic of them."""
    del sampler, frozen
    c, dtype = config.adversarial, jnp.dtype(config.training.compute_dtype)
    require(
        not c.tanh or spec.kind == "bytes",
        f"adversarial.tanh=True is for data in [-1, 1], and these are {spec.kind}: set it to False",
    )
    network = objects.NETWORKS[config.network.name](config, spec)
    return Adversarial(
        shape=spec.shape,
        image_shape=shown_shape(config, spec),
        process=vp_chain(long_step_betas(c.steps, config.sde.beta_min, config.sde.beta_max)),
        generator=Generator(network, c.latent_width, c.latent_layers, c.tanh),
        critic=Critic(c.critic_nf, c.critic_ch_mult, c.critic_embedding, dtype),
        latent=c.latent,
        penalty=c.r1,
        penalty_every=c.r1_every,
        rescaled=c.r1_rescaled,
        dropout=config.network.dropout > 0,
        remat=config.training.remat,
        scan_blocks=config.training.scan_blocks,
        platform=platform(config.parallel.topology),
    )


def reflow_system(config: Config, spec: Spec, sampler: Callable[..., Samples], frozen: Mapping[str, Any]) -> Reflow:
    """The system of a score network that is trained on its teacher's pairs."""
    own = score_system(config, spec, sampler, frozen)
    if given := read("reflow", frozen):
        check_drawing(spec, given)
        taught(config, given)
    return Reflow(
        **fields_of(own),
        times=objects.TIMES[config.training.times](config),
        weighting=objects.WEIGHTINGS[config.training.weighting](config),
        reduction=objects.reduction(config),
    )


def consistency_system(
    config: Config, spec: Spec, sampler: Callable[..., Samples], frozen: Mapping[str, Any]
) -> Consistency:
    """The system that trains a consistency model."""
    return consistency(config, score_system(config, spec, sampler, frozen), frozen)


def latent_system(
    config: Config, spec: Spec, sampler: Callable[..., Samples], frozen: Mapping[str, Any]
) -> Latent | Joint:
    """The system of a score of latents: a frozen autoencoder's, or its own."""
    coder = vae_system(coder_config(config), spec, sampler, {}) if config.latent.joint else None
    own = lambda spec: score_system(config, spec, sampler, frozen)
    return latent(config, spec, own, coder, frozen)


def vae_system(config: Config, spec: Spec, sampler: Any, frozen: Mapping[str, Any]) -> VAE:
    """The system of a variational autoencoder."""
    del sampler, frozen
    shown, latent = coded_shape(config, spec), tuple(config.vae.latent)
    encoder, decoder = AUTOENCODERS[config.network.name](config, latent, shown)
    return VAE(spec.shape, shown, latent, encoder, decoder, editing.decoded, **coded(config))


def autoencoder_system(config: Config, spec: Spec, sampler: Any, frozen: Mapping[str, Any]) -> FirstStage:
    """The system of an autoencoder for latent diffusion."""
    vae, c = vae_system(config, spec, sampler, frozen), config.autoencoder
    dtype, critic = jnp.dtype(config.training.compute_dtype), c.critic_weight > 0
    return FirstStage(
        **{field.name: getattr(vae, field.name) for field in dataclasses.fields(vae) if field.name != "parts"},
        kl_weight=c.kl_weight,
        quantizer=VectorQuantizer(c.codes, c.beta) if c.regular == "vq" else None,
        critic=PatchCritic(c.critic_nf, c.critic_levels, dtype) if critic else None,
        critic_weight=c.critic_weight,
        start=c.critic_start,
        parts=(*PARTS[c.regular], *((CRITIC,) if critic else ())),
    )


def hierarchical_system(config: Config, spec: Spec, sampler: Any, frozen: Mapping[str, Any]) -> Hierarchical:
    """The system of a hierarchical variational autoencoder."""
    del sampler, frozen
    shown, latents = coded_shape(config, spec), tuple((size,) for size in config.hierarchical.latents)
    encoders, decoders = hierarchy(config, latents, shown)
    balanced = config.hierarchical.balanced
    return Hierarchical(spec.shape, shown, latents, encoders, decoders, balanced, **coded(config))


def coded_shape(config: Config, spec: Spec) -> tuple[int, ...]:
    """What encoders are shown of an example; UsageError for bytes without noise below their resolution."""
    require(
        spec.kind != "bytes" or config.data.uniform_dequantization,
        f"data.uniform_dequantization={config.data.uniform_dequantization} leaves bytes as they are, which have no"
        " density: a variance would fall to 0 and the likelihood have no bound; set it to True",
    )
    return shown_shape(config, spec)


def coded(config: Config) -> dict[str, Any]:
    """The fields that autoencoders share."""
    own: dict[str, Any] = {name: config.vae[name] for name in ("warmup", "warmup_after", "free_bits")}
    noisy = lambda: config.sampling.decoder_noise
    return {**own, "noisy": noisy, "platform": platform(config.parallel.topology)}


def masked_system(config: Config, spec: Spec, sampler: Any, frozen: Mapping[str, Any]) -> Masked:
    """The system of masked tokens."""
    del sampler, frozen
    assert spec.alphabet is not None  # validation refuses it for other data
    return Masked(
        shape=spec.shape,
        vocabulary=spec.alphabet.size,
        network=objects.NETWORKS[config.network.name](config, spec),
        schedule=objects.MASKING[config.masked.schedule](),
        steps=lambda: config.sampling.num_steps,
        t_min=config.training.t_min,
        num_scales=config.masked.num_scales,
        dropout=config.network.dropout > 0,
    )


def vdm_system(config: Config, spec: Spec, sampler: Callable[..., Samples], frozen: Mapping[str, Any]) -> VDM:
    """The system of a score network and its noise schedule."""
    return vdm(config, spec, score_system(config, spec, sampler, frozen))


SYSTEMS: dict[str, Callable[..., System]] = {
    "score": score_system,
    "classifier": classifier_system,
    "distilled": distilled_system,
    "reflow": reflow_system,
    "adversarial": adversarial_system,
    "consistency": consistency_system,
    "vae": vae_system,
    "latent": latent_system,
    "autoencoder": autoencoder_system,
    "hierarchical": hierarchical_system,
    "vdm": vdm_system,
    "masked": masked_system,
}
