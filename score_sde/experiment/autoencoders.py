"""Encoders and decoders that a config's network and its variances stand for."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.config import Config
from score_sde.networks import MLP, Decoder, Encoder

Shape = tuple[int, ...]


def _dense(config: Config, latent: Shape, shape: Shape) -> tuple[nn.Module, nn.Module]:
    common: dict[str, Any] = {"hidden": config.network.hidden, "dtype": jnp.dtype(config.training.compute_dtype)}
    c = config.vae
    return MLP(latent, variance=c.encoder_variance, **common), MLP(shape, variance=c.decoder_variance, **common)


def _convolutional(config: Config, latent: Shape, shape: Shape) -> tuple[nn.Module, nn.Module]:
    common = {name: config.network[name] for name in ("nf", "ch_mult", "num_res_blocks")}
    common["dtype"], c = jnp.dtype(config.training.compute_dtype), config.vae
    return Encoder(latent, variance=c.encoder_variance, **common), Decoder(shape, variance=c.decoder_variance, **common)


def hierarchy(
    config: Config, latents: tuple[Shape, ...], shape: Shape
) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """The encoders and the decoders of levels, of which the lowest decoder alone has config.vae's variance of x."""
    wide: dict[str, Any] = {"hidden": config.network.hidden, "dtype": jnp.dtype(config.training.compute_dtype)}
    c = config.vae
    below = zip((shape, *latents), (c.decoder_variance, *(c.encoder_variance for _ in latents)))
    encoders = tuple(MLP(latent, variance=c.encoder_variance, **wide) for latent in latents)
    return encoders, tuple(MLP(s, variance=v, **wide) for (s, v), _ in zip(below, latents))


AUTOENCODERS: dict[str, Callable[[Config, Shape, Shape], tuple[nn.Module, nn.Module]]] = {
    "mlp": _dense,
    "convolutional": _convolutional,
}
"""By network.name: (config, shape of z, shape of x) -> the encoder and the decoder."""
