"""Waveforms of .wav files, by the standard library: windows of them as examples, their frames as what conditions."""

import pathlib
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from score_sde.data.account import Account
from score_sde.data.mel import Mel
from score_sde.data.sources import Dataset, Source
from score_sde.data.splits import split
from score_sde.errors import UsageError, require
from score_sde.names import FRAMES
from score_sde.progress import Progress


class Sound(NamedTuple):
    """What a .wav file's header says: samples of time, and of them in a second."""

    length: int
    rate: int


def decoded(content: bytes, width: int, channels: int) -> np.ndarray:
    """PCM of `width` bytes a sample, 1 to 4, as float32 [L] in [-1, 1): the mean of its channels."""
    if width == 1:  # unsigned, unlike the others
        x = (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    else:
        whole = np.zeros((len(content) // width, 4), np.uint8)
        whole[:, 4 - width :] = np.frombuffer(content, np.uint8).reshape(-1, width)
        x = (whole.reshape(-1).view("<i4") / 2.0**31).astype(np.float32)
    return x.reshape(-1, channels).mean(1, dtype=np.float32)


def header(path: pathlib.Path) -> Sound:
    """What its header says; UsageError for a file that is no PCM of 8, 16, 24 or 32 bits."""
    with _opened(path) as file:
        return Sound(file.getnframes(), file.getframerate())


def read(path: pathlib.Path, first: int = 0, count: int | None = None) -> np.ndarray:
    """Samples first .. first + count - 1 of a .wav file, all by default, float32 [L]; UsageError as `header`."""
    with _opened(path) as file:
        file.setpos(first)
        content = file.readframes(file.getnframes() - first if count is None else count)
        x = decoded(content, file.getsampwidth(), file.getnchannels())
    require(count in (None, len(x)), f"{path} ends before its header says: write it again, or leave it out")
    return x


def write(path: pathlib.Path, x: np.ndarray, rate: int) -> None:
    """Write x [L] or [L, C], in [-1, 1] or clipped there, as PCM of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if x.ndim == 1 else x.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(np.clip(np.nan_to_num(x), -1, 1) * 32767).astype("<i2").tobytes())


def _opened(path: pathlib.Path) -> wave.Wave_read:
    try:
        return wave.open(str(path), "rb")
    except (wave.Error, EOFError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read ({error or 'it is cut short'}): write it as PCM of 8, 16, 24 or 32 bits"
        ) from None


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of `length` samples one after the other, float32 [N, length]; of a file the rest is left out.

    counts: the windows of each file [files]. They do not overlap, so what is held out is not trained on.
    """

    files: tuple[pathlib.Path, ...]
    counts: np.ndarray
    length: int

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, length]."""
        return (len(self), self.length)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        ends = np.cumsum(self.counts)
        found = np.zeros((len(indices), self.length), np.float32)
        for row, index in enumerate(indices):
            file = int(np.searchsorted(ends, index, side="right"))
            number = int(index - (ends[file] - self.counts[file]))
            found[row] = read(self.files[file], number * self.length, self.length)
        return found


@dataclass(frozen=True, eq=False)
class Framed:
    """The frames of every one of these windows, float32 [N, T', bands], computed when they are needed."""

    windows: Source
    mel: Mel

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, T', bands]."""
        count, length = self.windows.shape
        return (count, length // self.mel.hop, self.mel.bands)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.mel(self.windows[indices])


def waves(path: str, length: int, rate: int, mel: Mel | None = None) -> Dataset:
    """The .wav files of a folder, or one file, as windows of `length` samples; with mel their frames condition them.

    Folders of names that say so (splits.py) are to train on and held out. Raises UsageError for a path without .wav
    files or with other ones of that name, another rate, and no window.
    """
    place = pathlib.Path(path).expanduser()
    require(place.exists(), f"data.path={path} does not exist: name a folder of .wav files, or one of them")
    found = split([p.name for p in place.iterdir() if p.is_dir()], f"data.path={path}") if place.is_dir() else None
    parts = [_files(place / name) for name in (found.train, found.held_out)] if found else [_files(place), ()]
    require(parts[0], f"data.path={path} holds no .wav file to train on: name a folder of them")
    train, held_out = (_windows(files, length, rate) for files in parts)
    require(
        len(train),
        f"data.length={length} is longer than every one of {len(parts[0])} files of data.path={path}: lower it",
    )
    own, other = ({FRAMES: Framed(part, mel)} if mel and len(part) else {} for part in (train, held_out))
    return Dataset(train, held_out, own, other, account=Account(found.held_out if found else "", {}))


def _files(place: pathlib.Path) -> tuple[pathlib.Path, ...]:
    found = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix.lower() == ".wav")
    return tuple(p for p in found if p.is_file() and not p.name.startswith("."))


def _windows(files: Sequence[pathlib.Path], length: int, rate: int) -> Windows:
    counts = []
    with Progress("looking at sounds", len(files), "files") as progress:
        for file in files:
            sound = header(file)
            require(
                rate in (0, sound.rate),
                f"{file} has {sound.rate} samples per second and data.rate={rate}: bring all files to one rate",
            )
            counts.append(sound.length // length)
            progress.update(1)
    return Windows(tuple(files), np.array(counts, np.int64), length)
