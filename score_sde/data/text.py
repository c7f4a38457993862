"""A text by its bytes as data: windows of it as tokens, the alphabet that says which byte a token is."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from score_sde.data.account import Account
from score_sde.data.sources import Dataset, Source, gather
from score_sde.errors import UsageError, require


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """Tokens 0 .. size - 1; those of a text stand for bytes, in their order, others for nothing else, ()."""

    size: int
    bytes: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Alphabet":
        """The inverse of dataclasses.asdict, of what JSON keeps."""
        return cls(value["size"], tuple(value["bytes"]))

    def texts(self, x: np.ndarray) -> list[str] | None:
        """Tokens [N, ...] as N texts, what is no UTF-8 replaced by U+FFFD; None where they stand for no bytes."""
        if not self.bytes:
            return None
        table = np.array(self.bytes, np.uint8)
        return [table[row].tobytes().decode("utf-8", "replace") for row in np.asarray(x).reshape(len(x), -1)]


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Windows int32 [N, length] of a sequence of tokens [n], beginning `stride` apart from the first on."""

    sequence: np.ndarray
    length: int
    stride: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, length] of all of them."""
        return max(0, (len(self.sequence) - self.length) // self.stride + 1), self.length

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.sequence[self.stride * np.asarray(indices)[:, None] + np.arange(self.length)]


def text_file(path: str, length: int, held_out: int) -> Dataset:
    """The bytes of a file in windows of `length`: to train on at every start, and the last `held_out` side by side.

    No byte is in both parts. A token is the number of its byte among those that occur. UsageError for a file that is
    missing, empty or too short.
    """
    file = pathlib.Path(path).expanduser()
    require(file.is_file(), f"data.path={path} is not a file: name a text, of any encoding, as its bytes are the data")
    try:
        content = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise UsageError(f"data.path={path} cannot be read ({error.strerror}): choose another file") from None
    require(len(content) > 0, f"data.path={path} is empty: name a text of data.length={length} bytes or more")
    kept = len(content) - held_out * length
    require(
        kept >= length,
        f"data.path={path} has {len(content):,} bytes, and data.length={length} with data.held_out={held_out} windows"
        f" of it take {(held_out + 1) * length:,} or more: lower one of them, or name a longer text",
    )
    values, sequence = np.unique(content, return_inverse=True)
    sequence = sequence.astype(np.int32)
    train, rest = Windows(sequence[:kept], length), Windows(sequence[kept:], length, length)
    account = Account("the end of the text", notes=_notes(path, sequence[:kept], sequence[kept:], values))
    return Dataset(train, rest, account=account, bytes=tuple(values.tolist()))


def _notes(path: str, train: np.ndarray, held_out: np.ndarray, values: np.ndarray) -> tuple[str, ...]:
    """Of bytes that are held out and never seen in training."""
    unknown = np.setdiff1d(held_out, train)
    if not len(unknown):
        return ()
    some = ", ".join(repr(bytes([values[k]])) for k in unknown[:3])
    return (f"{len(unknown)} byte values of the held-out part of {path} are in no text to train on, such as {some}",)


def alphabet_of(data: Dataset) -> Alphabet:
    """That of a text, or of arrays as many tokens as the largest of either split says; UsageError for one below 0."""
    if data.bytes:
        return Alphabet(len(data.bytes), data.bytes)
    parts = [_extremes(part) for part in (data.train, data.held_out) if len(part)]
    least, most = min(low for low, _ in parts), max(high for _, high in parts)
    require(least >= 0, f"the data have the token {least}: number tokens 0, 1, ...")
    return Alphabet(most + 1)


def _extremes(source: Source, rows: int = 2**16) -> tuple[int, int]:
    """The least and the largest number."""
    chunks = [gather(source, np.arange(i, min(i + rows, len(source)))) for i in range(0, len(source), rows)]
    return min(int(x.min()) for x in chunks), max(int(x.max()) for x in chunks)
