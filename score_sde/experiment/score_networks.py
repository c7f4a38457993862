"""The networks that `network.name` stands for, of a config and what is known of its data."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.config import Config
from score_sde.config.fields import WAVEGRAD, ZERO_NULL, network_fields
from score_sde.data import nonleaking
from score_sde.data.spec import Spec
from score_sde.experiment.classifiers import CLASSIFIERS
from score_sde.networks.adm import ADM, dhariwal
from score_sde.networks.ddpm import ddpm
from score_sde.networks.edm2 import EDM2
from score_sde.networks.egnn import EGNN
from score_sde.networks.ncsnpp import NCSNpp
from score_sde.networks.ncsnv2 import NCSNv2
from score_sde.networks.perceptron import Perceptron
from score_sde.networks.text import Text
from score_sde.networks.transformer import Transformer
from score_sde.networks.wavegrad import WaveGrad


def _network_fields(config: Config, spec: Spec) -> dict[str, Any]:
    """The arguments that every network takes, and those of its own."""
    own = {field: config.network[field] for field in network_fields(config.network.name)}
    reading = [own.pop(name, None) for name in ("text_resolutions", "text_width", "text_layers", "text_heads")]
    dropout, labels = own.pop("label_dropout", 0.0), spec.labels
    if labels is not None:
        row = own.get("null_label", "row") == "row" and config.network.name not in ZERO_NULL
        own["label_rows"] = labels.count + (dropout > 0 and row)
    if spec.text is not None:
        own["text"] = Text(reading[0], len(spec.text.words), *reading[1:])
    centered = config.data.centered or spec.kind != "bytes"
    return {**own, "centered": centered, "dtype": jnp.dtype(config.training.compute_dtype)}


def _u_net_fields(config: Config, spec: Spec) -> dict[str, Any]:
    """Those of a U-Net, which has twice the image's channels where it also learns variances."""
    twice = 2 * spec.shape[-1] if config.parametrization.learned_variance else None
    return {**_network_fields(config, spec), "out_channels": twice}


def _wavegrad(config: Config) -> WaveGrad:
    """WaveGrad's network, which reads fields of its own alone."""
    own = {name: config.network[name] for name in WAVEGRAD}
    return WaveGrad(**own, dtype=jnp.dtype(config.training.compute_dtype))


def _transformer(config: Config, spec: Spec) -> Transformer:
    """Of the data's tokens."""
    c, alphabet = config.network, spec.alphabet
    assert alphabet is not None  # validation refuses it for other data
    return Transformer(
        vocabulary=alphabet.size,
        nf=c.nf,
        num_res_blocks=c.num_res_blocks,
        heads=c.nf // c.head_channels,
        dropout=c.dropout,
        conditional=c.conditional,
        remat=config.training.remat,
        dtype=jnp.dtype(config.training.compute_dtype),
    )


def _egnn(config: Config, spec: Spec) -> EGNN:
    """Of the data's point sets."""
    assert spec.points is not None  # validation refuses it for other data
    own = {field: config.network[field] for field in network_fields("egnn")}
    return EGNN(spec.points.dimension, **own, dtype=jnp.dtype(config.training.compute_dtype))


NETWORKS: dict[str, Callable[[Config, Spec], nn.Module]] = {
    "ncsnpp": lambda c, s: NCSNpp(**_u_net_fields(c, s), augment_dim=nonleaking.LABELS if c.data.augmentation else 0),
    "ddpm": lambda c, s: ddpm(**_u_net_fields(c, s)),
    "adm": lambda c, s: ADM(**_u_net_fields(c, s)),
    "dhariwal": lambda c, s: dhariwal(
        **_u_net_fields(c, s), augment_dim=nonleaking.LABELS if c.data.augmentation else 0
    ),
    "edm2": lambda c, s: EDM2(**_u_net_fields(c, s)),
    "ncsnv2_64": lambda c, s: NCSNv2(64, **_network_fields(c, s)),
    "ncsnv2_128": lambda c, s: NCSNv2(128, **_network_fields(c, s)),
    "ncsnv2_256": lambda c, s: NCSNv2(256, **_network_fields(c, s)),
    "perceptron": lambda c, s: Perceptron(tuple(c.network.hidden), jnp.dtype(c.training.compute_dtype)),
    "wavegrad": lambda c, s: _wavegrad(c),
    "transformer": _transformer,
    "egnn": _egnn,
    "ncsn": lambda c, s: NCSNv2(64, num_classes=c.sde.num_scales, **_network_fields(c, s)),
    **CLASSIFIERS,
}
