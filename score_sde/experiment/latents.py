"""Systems of latents: in the space of another run's autoencoder, by the scale of its latents, or of their own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from score_sde.config import Config
from score_sde.config.architecture import check_latent_network
from score_sde.data.sources import Dataset, gather
from score_sde.data.spec import Spec
from score_sde.errors import require
from score_sde.experiment import objects
from score_sde.experiment.frozen import Frozen
from score_sde.experiment.resolving import check_same, load_data
from score_sde.experiment.teaching import fields_of
from score_sde.rng import Purpose, child, example_keys, normal, root_key, words
from score_sde.solvers import RK45
from score_sde.systems import VAE, FlowBound, Joint, Latent, Score
from score_sde.systems.autoencoder import at
from score_sde.systems.latent import AUTOENCODER
from score_sde.typing import Array

AT_ONCE = 128
"""Examples encoded at once for the scale."""


def latent(
    config: Config, spec: Spec, scores: Callable[[Spec], Score], coder: VAE | None, frozen: Mapping[str, Frozen]
) -> Latent | Joint:
    """The system: of `coder`'s latents, trained with it, or without one of frozen.autoencoder's.

    scores: the score system of examples that are described.
    """
    given = frozen.get(AUTOENCODER)
    require(
        (coder is None) or given is None, "frozen.autoencoder is not asked for by latent.joint=True: leave it empty"
    )
    require(
        coder is not None or given is not None,
        "frozen.autoencoder is empty, and the system asks for it: name a run of system.name='vae' or 'autoencoder', as"
        " <run>[@step], or set latent.joint=True",
    )
    autoencoder = coder or given.experiment.system  # pyright: ignore[reportOptionalMemberAccess]
    shape = tuple(autoencoder.latent)
    check_latent_network(config, shape)
    score = scores(dataclasses.replace(spec, shape=shape, kind="real"))
    common: dict[str, Any] = {
        **{name: value for name, value in fields_of(score).items() if name != "parts"},
        "autoencoder": autoencoder,
        "t_min": config.training.t_min,
        "parts_decoded": lambda: config.sampling.decode_parts,
    }
    if coder is not None:
        own: dict[str, Any] = {name: config.latent[name] for name in ("mixing", "prior_updates")}
        own["noisy"] = lambda: config.sampling.decoder_noise
        return Joint(**common, **own, **{name: config.vae[name] for name in ("warmup", "warmup_after")})
    assert given is not None
    return Latent(**common, scale=given.record.scale or 1.0, coder=given.params)


def by_flow(config: Config, system: Latent) -> FlowBound:
    """The system's bound with the prior by the ODE, of the section `likelihood`."""
    c = config.likelihood
    return FlowBound(system, objects.DIVERGENCES[c.divergence](c), RK45(c.rtol, c.atol, per_sample=True))


def scaled(
    config: Config, spec: Spec, given: Frozen, recorded: Mapping[str, Any] | None, data: Dataset | None
) -> tuple[Frozen, Dataset | None]:
    """The autoencoder with the scale of its latents in its record, and the data where they are read.

    The scale is that of the run's record, or else is taken of latent.scale_images examples to train on, a fixed choice.
    Raises UsageError for a run that is no autoencoder, or sees other data.
    """
    field, other = f"frozen.autoencoder={given.record.run}", given.experiment
    require(
        isinstance(other.system, VAE),
        f"{field} is a run of system.name={other.config.system.name!r}, which has no encoder and decoder: name one of"
        " system.name='vae' or 'autoencoder'",
    )
    there, here = other.config.data.uniform_dequantization, config.data.uniform_dequantization
    require(
        there == here,
        f"{field} was trained with data.uniform_dequantization={there}, and this run has {here}: give it that",
    )
    if recorded is not None and "scale" in recorded:
        return given._replace(record=given.record._replace(scale=recorded["scale"])), data
    if data is None:
        data = load_data(config)
        check_same(config, spec, data)
    scale = latents_std(config, spec, given, data)
    return given._replace(record=given.record._replace(scale=scale)), data


def latents_std(config: Config, spec: Spec, given: Frozen, data: Dataset) -> float:
    """The standard deviation of all elements of so many examples' latents, each one draw of q(z | x)."""
    system, kind = given.experiment.system, objects.KINDS[spec.kind](config.data, spec)

    @jax.jit
    def encode(params: Any, stored: Array, position: Array) -> Array:
        keys = example_keys(root_key(0), position)
        law = system.encode(params, kind.encode(keys, stored, training=False))
        return at(law, normal(child(keys, Purpose.LATENT), system.latent))

    count = min(config.latent.scale_images, len(data.train))
    chosen = np.arange(count) * len(data.train) // count
    parts = [chosen[first : first + AT_ONCE] for first in range(0, count, AT_ONCE)]
    z = [np.asarray(encode(given.params, gather(data.train, part), words(part)), np.float64) for part in parts]
    scale = float(np.concatenate(z).std())
    require(
        np.isfinite(scale) and scale > 0,
        f"frozen.autoencoder={given.record.run} has latents of standard deviation {scale}: train it anew",
    )
    return scale
