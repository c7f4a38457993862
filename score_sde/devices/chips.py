"""Accelerators that programs can be compiled for without one: their memory and rates, and the slices they come in."""

import re
from typing import Any, NamedTuple

from score_sde.errors import UsageError


class Chip(NamedTuple):
    """One chip. flops: peak of bfloat16 products [1/s]; memory [bytes]; bandwidth [bytes/s]; clock [Hz].

    cores: which the compiler counts as devices of their own. capability: of an NVIDIA GPU, with `card`, what XLA is
    told of it.
    """

    platform: str
    kind: str
    flops: float
    memory: float
    bandwidth: float
    clock: float
    capability: str | None = None
    card: dict[str, float] = {}  # noqa: RUF012
    options: dict[str, str] = {}  # noqa: RUF012


def _gpu(kind: str, memory: float, *rates: float, capability: str, **card: float) -> Chip:
    bandwidth, flops, clock = rates
    return Chip("cuda", kind, flops, memory, bandwidth, clock, capability, card)


_GIB = 2**30
_HOPPER: dict[str, Any] = {
    "capability": "9.0", "core_count": 132, "fpus_per_core": 128, "l2_cache_size": 50 * 2**20,
    "shared_memory_per_core": 228 * 2**10,
}  # fmt: skip

CHIPS: dict[str, Chip] = {
    "v4": Chip("tpu", "TPU v4", 275e12, 32 * _GIB, 1228e9, 1.05e9, options={"chip_config_name": "megacore"}),
    "v5e": Chip("tpu", "TPU v5 lite", 197e12, 16 * _GIB, 819e9, 1.5e9),
    "v5p": Chip("tpu", "TPU v5", 459e12, 95 * _GIB, 2765e9, 1.75e9),
    "v6e": Chip("tpu", "TPU v6 lite", 918e12, 32 * _GIB, 1640e9, 1.75e9),
    "a100": _gpu(
        "NVIDIA A100-SXM4-80GB", 85_198_045_184, 2039e9, 312e12, 1.41e9, capability="8.0",
        core_count=108, fpus_per_core=64, l2_cache_size=40 * 2**20, shared_memory_per_core=164 * 2**10,
    ),
    "h100": _gpu("NVIDIA H100 80GB HBM3", 84_929_347_584, 3352e9, 989e12, 1.98e9, **_HOPPER),
    "h200": _gpu("NVIDIA H200", 150_754_820_096, 4800e9, 989e12, 1.98e9, **_HOPPER),
}  # fmt: skip
"""Peaks, memory and bandwidth as published: Google's system architecture of Cloud TPU v4, v5e, v5p and v6e; NVIDIA's
data sheets of A100, H100 and H200 (SXM). Clocks of TPUs: the peak over 2 x the multipliers of a chip's matrix units
(8 x 128 x 128, 4 x, 8 x, and 4 x 256 x 256); of GPUs their boost."""


def chip(topology: str) -> Chip:
    """That of a topology such as v5e:4x4, h100 or cpu; UsageError for an unknown one."""
    if topology == "cpu":
        return Chip("cpu", "processor", 0, 0, 0, 0)
    name, _, shape = topology.partition(":")
    known = CHIPS.get(name)
    if known is None or bool(shape) != (known.platform == "tpu") or (shape and not re.fullmatch(r"\d+(x\d+)+", shape)):
        raise UsageError(
            f"parallel.topology={topology!r} is unknown: name a slice of TPUs, as"
            f" {', '.join(f'{n}:{_example(n)}' for n, c in CHIPS.items() if c.platform == 'tpu')}, a GPU,"
            f" {', '.join(n for n, c in CHIPS.items() if c.platform == 'cuda')}, or cpu"
        )
    return known


def _example(name: str) -> str:
    return "2x2x1" if name in ("v4", "v5p") else "4x4"
