"""The objects of variational diffusion: its schedule, its decoder and what its network is shown."""

from typing import Any

import flax.linen as nn

from score_sde.config import Config
from score_sde.data.spec import Spec
from score_sde.experiment.teaching import fields_of
from score_sde.networks import FourierFeatures, Gamma
from score_sde.objectives.variational import Categorical, gaussian_decoder
from score_sde.sde import Learned
from score_sde.systems import VDM, Score
from score_sde.systems.vdm import SCHEDULE


def vdm(config: Config, spec: Spec, own: Score) -> VDM:
    """The system around a score system of the same config."""
    c, discrete = config.vdm, spec.kind == "bytes"
    low = -1.0 if config.data.centered else 0.0
    fields: dict[str, Any] = fields_of(own)
    fields["network"] = _shown(config, spec, own.network)
    fields["process"] = Learned({}, Gamma(c.gamma_min, c.gamma_max, fixed=True))
    if c.learned != "none":
        fields["parts"] = (*own.parts, SCHEDULE)
    return VDM(
        **fields,
        schedule=SCHEDULES[c.learned](config),
        decoder=Categorical(low) if discrete else gaussian_decoder,
        discrete=discrete,
        num_scales=c.num_scales,
    )


def _shown(config: Config, spec: Spec, network: nn.Module) -> nn.Module:
    """The network, which is shown the Fourier features that the config names."""
    if not config.vdm.fourier:
        return network
    channels = spec.shape[-1] if len(spec.shape) == 3 else 1
    return FourierFeatures(network.clone(out_channels=channels), tuple(config.vdm.fourier))  # pyright: ignore


SCHEDULES = {
    "none": lambda c: None,
    "ends": lambda c: Gamma(c.vdm.gamma_min, c.vdm.gamma_max),
    "all": lambda c: Gamma(c.vdm.gamma_min, c.vdm.gamma_max, features=c.vdm.features),
}
"""By vdm.learned."""
