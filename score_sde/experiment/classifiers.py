"""Networks of logits by network.name, of system.name='classifier'."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.config import Config
from score_sde.config.fields import network_fields
from score_sde.data.spec import Spec
from score_sde.networks.adm_encoder import ADMEncoder
from score_sde.networks.wideresnet import WideResNet


def _classes(spec: Spec) -> int:
    return spec.labels.count if spec.labels else 0


def _wide_resnet(config: Config, spec: Spec) -> WideResNet:
    """Song et al.'s, by its own names of the fields."""
    c = config.network
    own = {"blocks_per_group": c.num_res_blocks, "widen_factor": c.widen_factor, "fourier_scale": c.fourier_scale}
    dtype = jnp.dtype(config.training.compute_dtype)
    return WideResNet(**own, embedding_features=c.nf, num_classes=_classes(spec), dtype=dtype)


def _adm_encoder(config: Config, spec: Spec) -> ADMEncoder:
    """Dhariwal & Nichol's."""
    own: dict[str, Any] = {field: config.network[field] for field in network_fields("adm_encoder")}
    centered = config.data.centered or spec.kind != "bytes"
    dtype = jnp.dtype(config.training.compute_dtype)
    return ADMEncoder(**own, out_channels=_classes(spec), centered=centered, dtype=dtype)


CLASSIFIERS: dict[str, Callable[[Config, Spec], nn.Module]] = {
    "wideresnet": _wide_resnet,
    "adm_encoder": _adm_encoder,
}
