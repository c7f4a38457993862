"""The frames that waveforms are conditioned on: those of the data, and those that `sampling.condition` names."""

import functools
import pathlib
from typing import Any

import numpy as np

from score_sde.config import Config
from score_sde.data import npz
from score_sde.data.mel import Mel
from score_sde.data.spec import Spec
from score_sde.data.waves import header, read
from score_sde.errors import UsageError, require
from score_sde.experiment import objects
from score_sde.names import FRAMES
from score_sde.rng import numbers


def described(shape: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """(T', M) of frames [N, T', M] of waveforms of this shape; UsageError for another one."""
    require(
        len(found) == 3 and found[1] > 0 and shape[0] % found[1] == 0,
        f"the frames have shape {tuple(found)}: give [N, T', M], T' frames that divide the {shape[0]} samples of an"
        " example",
    )
    return int(found[1]), int(found[2])


def of_samples(config: Config, spec: Spec, position: np.ndarray) -> dict[str, Any]:
    """The frames of samples at these positions (two words each) [B, 2], sample k those of number k in turn."""
    if not spec.frames:
        return {}
    rows = asked(config, spec)
    return {FRAMES: rows[(numbers(position) % np.uint64(len(rows))).astype(np.int64)]}


def asked(config: Config, spec: Spec) -> np.ndarray:
    """Frames float32 [K, T', M] of what `sampling.condition` names: an .npz file's, or a .wav file's parts in turn.

    T' is that of sampling.length samples. UsageError for a file that is missing or of another shape, and for none.
    """
    c, name = config.sampling, f"sampling.condition={config.sampling.condition!r}"
    length, bands = spec.frames
    length = length * (c.length or spec.shape[0]) // spec.shape[0]
    require(
        c.condition,
        "sampling.condition is empty, and nothing here makes frames: name a .wav file, or an .npz file with the array"
        f" {FRAMES} [K, {length}, {bands}]",
    )
    file = pathlib.Path(c.condition).expanduser()
    require(file.is_file(), f"{name} is no file: name a .wav file, or an .npz file with {FRAMES}")
    written = file.stat().st_mtime_ns
    if file.suffix.lower() != ".wav":
        return _of_arrays(file, written, name, length, bands)
    require(
        config.data.name == "waves",
        f"{name}, and frames of data.name={config.data.name!r} are not computed of waveforms: name an .npz file with"
        f" {FRAMES} [K, {length}, {bands}]",
    )
    return _of_sound(file, written, name, objects.mel(config.data), length)


@functools.lru_cache(maxsize=4)
def _of_arrays(file: pathlib.Path, written: int, name: str, length: int, bands: int) -> np.ndarray:
    try:
        found = npz.arrays(file.read_bytes(), FRAMES).get(FRAMES, np.zeros(0))
    except npz.UNREADABLE as error:
        raise UsageError(f"{name} cannot be read ({npz.reason(error)}): name an .npz file with {FRAMES}") from None
    require(
        found.ndim == 3 and len(found) > 0 and found.shape[1:] == (length, bands) and found.dtype.kind in "biuf",
        f"{name} has {FRAMES} of shape {found.shape}: the network reads numbers [K, {length}, {bands}]",
    )
    return found.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _of_sound(file: pathlib.Path, written: int, name: str, mel: Mel, length: int) -> np.ndarray:
    rate = header(file).rate
    require(rate == mel.rate, f"{name} has {rate} samples per second and data.rate={mel.rate}: bring it to that rate")
    found = mel(read(file))
    count = len(found) // length
    require(count, f"{name} makes {len(found)} frames, fewer than the {length} of a sample: name a longer one")
    return found[: count * length].reshape(count, length, -1)
