"""The captions that `sampling.caption` asks for, as the network reads them."""

import pathlib
import re
import zlib

import numpy as np

from score_sde.data import npz
from score_sde.data.captions import TextSpec
from score_sde.errors import UsageError, require
from score_sde.names import EMBEDDINGS, MASK


def asked_texts(asked: str, text: TextSpec) -> dict[str, np.ndarray]:
    """The conditions [K, ...] of one caption, or of a file: a caption a line, or an .npz file of embeddings and mask.

    Raises UsageError for a file that is missing or empty or of another shape, an unknown word, a caption too long.
    """
    where, file = f"sampling.caption={asked!r}", pathlib.Path(asked).expanduser()
    if text.width:
        return _rows(where, file, text)
    if not is_file(asked):
        require(
            re.search(r"\s", asked) or ("/" not in asked and not file.suffix),
            f"{where} is no file: name one with a caption a line, or write the caption itself",
        )
        return text.encode([asked], where)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} cannot be read ({error}): name a text file with a caption a line") from None
    require(lines, f"{where} is empty: write a caption a line")
    return text.encode(lines, where)


def is_file(asked: str) -> bool:
    """Whether it names a file that is there."""
    try:
        return pathlib.Path(asked).expanduser().is_file()
    except OSError:  # too long for a name
        return False


def word(asked: str) -> str:
    """What a folder's name says of it: the caption's beginning, or the file's name, and which it is."""
    content = pathlib.Path(asked).expanduser().read_bytes() if is_file(asked) else asked.encode()
    name = pathlib.PurePath(asked).stem if is_file(asked) else "_".join(asked.lower().split())
    kept = "".join(c if c.isalnum() or c == "_" else "" for c in name)[:40]
    return f"{kept}_{zlib.crc32(content):08x}" if is_file(asked) or kept != name else kept


def _rows(where: str, file: pathlib.Path, text: TextSpec) -> dict[str, np.ndarray]:
    try:
        found = npz.arrays(file.read_bytes(), EMBEDDINGS, MASK)
    except npz.UNREADABLE as error:
        raise UsageError(f"{where} cannot be read ({npz.reason(error)}): name an .npz file with {EMBEDDINGS}") from None
    for name, array in found.items():
        require(array.dtype.kind in "biuf", f"{where} has {name} of dtype {array.dtype}: give it real numbers")
    rows = found.get(EMBEDDINGS, np.zeros(0))
    require(
        rows.ndim == 3 and len(rows) > 0 and rows.shape[1:] == (text.length, text.width),
        f"{where} has {EMBEDDINGS} of shape {rows.shape}: the network reads [K, {text.length}, {text.width}]",
    )
    mask = found.get(MASK, np.ones(rows.shape[:2]))
    require(mask.shape == rows.shape[:2], f"{where} has a {MASK} of shape {mask.shape}: give it {rows.shape[:2]}")
    return {EMBEDDINGS: rows.astype(np.float32), MASK: mask != 0}
