"""Samples that are texts, in one file to be read."""

import pathlib
from collections.abc import Sequence

from score_sde.storage.files import whole


def written(texts: Sequence[str]) -> str:
    """All of them, each below a line with its number."""
    return "".join(f"--- {i}\n{text}\n" for i, text in enumerate(texts))


def save_texts(path: pathlib.Path, texts: Sequence[str]) -> None:
    """Write them, whole or not at all."""
    with whole(path) as unfinished:
        unfinished.write_text(written(texts), encoding="utf-8")
