"""What else samples are written as beside samples.npz, by what they are: sounds, frames of atoms, texts."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from score_sde.data import waves, xyz
from score_sde.data.text import Alphabet
from score_sde.storage.curves import of_rank
from score_sde.storage.files import whole
from score_sde.storage.scatter import scatter
from score_sde.storage.texts import save_texts

SOUNDS = 100
"""At most so many waveforms become .wav files."""
FRAMES, TEXTS = "samples.xyz", "samples.txt"

Rows = Callable[[np.ndarray], np.ndarray]
"""Numbers [n] -> the samples [n, ...] of these numbers."""


class Form(NamedTuple):
    """Files of samples: their names, and (folder, rows) -> what is to be said of them, once they are written whole."""

    names: tuple[str, ...]
    write: Callable[[pathlib.Path, Rows], str]


def forms(settings: dict[str, Any], alphabet: Alphabet | None) -> tuple[Form, ...]:
    """Those of samples of these settings (`SampleFolder`); alphabet: of tokens, which are a text where it has bytes."""
    count, found = settings["sampling"]["num_samples"], []
    if "rate" in settings:
        names = tuple(f"{number:03d}.wav" for number in range(min(SOUNDS, count)))
        found.append(Form(names, functools.partial(_sounds, names, settings["rate"])))
    if elements := settings.get("points", {}).get("elements"):
        found.append(Form((FRAMES,), functools.partial(_frames, tuple(elements), count)))
    if alphabet is not None and alphabet.bytes:
        found.append(Form((TEXTS,), functools.partial(_texts, alphabet, count)))
    return tuple(found)


def pictured(settings: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Samples [N, ...] of these settings as a grid shows them."""
    if "points" in settings:
        return scatter(x, settings["points"]["dimension"])
    return of_rank(x, settings["rank"]) if "rank" in settings else x


def _sounds(names: tuple[str, ...], rate: int, folder: pathlib.Path, rows: Rows) -> str:
    for name, x in zip(names, rows(np.arange(len(names))), strict=True):
        with whole(folder / name) as unfinished:
            waves.write(unfinished, x, rate)
    return f"; {names[0]} to {names[-1]} sound"


def _frames(elements: tuple[str, ...], count: int, folder: pathlib.Path, rows: Rows) -> str:
    with whole(folder / FRAMES) as unfinished:
        unfinished.write_text(xyz.text(rows(np.arange(count)), elements))
    return f"; {FRAMES}"


def _texts(alphabet: Alphabet, count: int, folder: pathlib.Path, rows: Rows) -> str:
    save_texts(folder / TEXTS, alphabet.texts(rows(np.arange(count))) or [])
    return f"; {TEXTS}"
