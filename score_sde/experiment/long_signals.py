"""Signals longer than those trained on (sampling.length), drawn as overlapping windows of one."""

from score_sde.config import Config
from score_sde.data.spec import Spec
from score_sde.errors import require
from score_sde.guidance.windows import Windows
from score_sde.names import FRAMES


def windows(config: Config, spec: Spec) -> Windows | None:
    """The windows of sampling.length samples, None where it is 0; UsageError for a length that they do not make."""
    length = config.sampling.length
    if not length:
        return None
    size = spec.shape[0]
    require(
        len(spec.shape) == 1 or config.network.name == "wavegrad",
        f"sampling.length={length} is of waveforms, and one example has the shape {spec.shape}: leave it at 0",
    )
    require(
        size % 2 == 0 and length % (size // 2) == 0 and length >= size,
        f"sampling.length={length} is not made of windows of {size} that overlap by half: give a multiple of"
        f" {size // 2}, {size} or more",
    )
    require(
        not spec.frames or spec.frames[0] % 2 == 0,
        f"sampling.length={length} halves windows of {spec.frames and spec.frames[0]} frames: train on an even number",
    )
    return Windows(size, length)


def shape(config: Config, own: tuple[int, ...]) -> tuple[int, ...]:
    """Of one sample of a system whose examples have this shape."""
    return (config.sampling.length, *own[1:]) if config.sampling.length else own


def in_time(spec: Spec) -> dict[str, int]:
    """What of a condition changes along a waveform, and the samples of one entry of it."""
    return {FRAMES: spec.shape[0] // spec.frames[0]} if spec.frames else {}
