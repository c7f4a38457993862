"""What programs are compiled for: the kind of backend, and what of a GPU decides which kernels there are."""

import functools
from typing import NamedTuple

import jax

from score_sde.devices.chips import chip


class Platform(NamedTuple):
    """name: cpu, cuda, rocm or tpu. capability: the compute capability of an NVIDIA GPU at hand, such as "9.0"."""

    name: str
    capability: str | None = None

    def convolution(self, backwards: bool = False) -> str:
        """The form of convolutions that it is fastest with; on CPU by whether reverse mode is all there is."""
        return {"cpu": "backwards" if backwards else "native", "tpu": "depthwise"}.get(self.name, "native")


def platform(topology: str = "") -> Platform:
    """That of the devices of a topology (`chips.chip`), or of those at hand; UsageError for an unknown one.

    A topology's has no capability: what goes by it, cuDNN's attention, asks the card at hand as soon as it is traced.
    """
    return Platform(chip(topology).platform) if topology else _here()


@functools.cache
def _here() -> Platform:
    """That of the default backend's first device."""
    device = jax.local_devices()[0]
    if device.platform != "gpu":
        return Platform(device.platform)
    cuda = "cuda" in device.client.platform_version
    return Platform("cuda", device.compute_capability) if cuda else Platform("rocm")
