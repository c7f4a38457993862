"""Captions of pictures: their words as tokens, and the files beside pictures that they stand in."""

import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from score_sde.data.sources import Dataset, Source, chosen, gather
from score_sde.errors import UsageError, require
from score_sde.names import EMBEDDINGS, MASK, TOKENS

CAPTION = "caption"
LINES, TABLE = "captions.txt", "captions.json"
KEPT = 1000
"""Captions of training examples that a run remembers, of which samples take theirs where none is asked for."""


def split(caption: str) -> list[str]:
    """The words of a caption in lower case, without what stands between them."""
    return re.findall(r"\w+(?:['’-]\w+)*", caption.lower())


@dataclass(frozen=True)
class TextSpec:
    """What a network reads of every example: up to `length` words of a vocabulary, or rows of `width` numbers.

    words: token i is words[i], in the order of the alphabet; () for embeddings. captions: some of those trained on.
    """

    length: int
    words: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    width: int = 0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "TextSpec":
        """The inverse of dataclasses.asdict, of what JSON keeps."""
        return cls(value["length"], tuple(value["words"]), tuple(value["captions"]), value["width"])

    @property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of one example's condition, by name."""
        tokens, rows = ((self.length,), "int32"), ((self.length, self.width), "float32")
        return ({EMBEDDINGS: rows} if self.width else {TOKENS: tokens}) | {MASK: ((self.length,), "bool")}

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def encode(self, captions: Iterable[str], where: str = "") -> dict[str, np.ndarray]:
        """Tokens int32 [N, length] and which are there, bool [N, length], of captions.

        where: what they are called in an error, which an unknown word is, with the known ones most like it, and a
        caption of too many words; without it such words are left out.
        """
        rows = [[self._known(word, where) for word in split(str(caption))] for caption in captions]
        tokens, mask = np.zeros((len(rows), self.length), np.int32), np.zeros((len(rows), self.length), bool)
        for i, row in enumerate(rows):
            known = [token for token in row if token is not None]
            require(
                len(known) <= self.length or not where,
                f"{where} has a caption of {len(known)} words, and the longest that was trained on has {self.length}:"
                " shorten it",
            )
            found = known[: self.length]
            tokens[i, : len(found)], mask[i, : len(found)] = found, True
        return {TOKENS: tokens, MASK: mask}

    def _known(self, word: str, where: str) -> int | None:
        if word not in self._numbers and where:
            near = difflib.get_close_matches(word, self.words, 3, 0.5)
            others = near or [*self.words[:12], *(["..."] if len(self.words) > 12 else [])]
            require(
                False,
                f"{where} has the word {word!r}, which no caption of the training data has: "
                + ("did you mean " if near else "it knows ")
                + ", ".join(others),
            )
        return self._numbers.get(word)

    def decode(self, condition: Mapping[str, np.ndarray]) -> np.ndarray:
        """Captions [N] of one width, of tokens and mask [N, length]."""
        lines = [
            " ".join(self.words[token] for token in row[there])
            for row, there in zip(np.asarray(condition[TOKENS]), np.asarray(condition[MASK]), strict=True)
        ]
        return np.array(lines, f"<U{max(1, self.length * (1 + max(map(len, self.words))))}")

    def of_sources(self, given: Mapping[str, Source]) -> dict[str, Any]:
        """The condition of examples, one entry for each, of what the data have of them by name."""
        every = lambda source: gather(source, np.arange(len(source)))
        if not self.width:
            return self.encode(every(given[CAPTION]))
        rows = given[EMBEDDINGS]
        there = every(given[MASK]) != 0 if MASK in given else np.ones(rows.shape[:2], bool)
        return {EMBEDDINGS: rows, MASK: there}


def described(dataset: Dataset, conditions: Sequence[str]) -> TextSpec | None:
    """What there is to read, where that conditions: words and length of the captions, or the embeddings' shape."""
    if EMBEDDINGS in conditions:
        shape = dataset.condition[EMBEDDINGS].shape
        require(
            len(shape) == 3,
            f"the embeddings have shape {tuple(shape)}: give [N, L, E], L rows of E numbers to every example",
        )
        return TextSpec(int(shape[1]), width=int(shape[2]))
    if CAPTION not in conditions:
        return None
    own, held_out = (
        [str(c) for c in gather(found[CAPTION], np.arange(len(found[CAPTION])))] if CAPTION in found else []
        for found in (dataset.condition, dataset.held_out_condition)
    )
    words = sorted({word for caption in own for word in split(caption)})
    require(words, "the captions to train on have no word: give every picture one, or leave data.condition empty")
    length = max(len(split(caption)) for caption in (*own, *held_out))
    return TextSpec(length, tuple(words), tuple(own[i] for i in chosen(len(own), KEPT)))


def unknown(dataset: Dataset, text: TextSpec) -> set[str]:
    """The words of held-out captions that are in none to train on."""
    source = dataset.held_out_condition.get(CAPTION, np.zeros(0, str))
    return {word for c in gather(source, np.arange(len(source))) for word in split(str(c))} - set(text.words)


def is_file(name: str) -> bool:
    """Whether a path is that of a file of captions."""
    return name.rpartition("/")[2] in (LINES, TABLE)


def from_files(
    path: str, names: tuple[str, ...], tables: Mapping[str, bytes], root: str, base: str
) -> np.ndarray | None:
    """The captions [N] of the pictures of these names, by captions.json or captions.txt of their folder; None without.

    root: of one part of a split, whose captions.json may also lie at the base that is common to all. Raises UsageError
    for a file that is not understood, and one that does not have a caption for every picture.
    """
    for place in (root, base):
        if place + TABLE in tables:
            return _from_table(path, names, tables[place + TABLE], place)
    if root + LINES not in tables:
        return None
    lines = tables[root + LINES].decode("utf-8", "replace").splitlines()
    require(
        len(lines) == len(names),
        f"{path}: {root}{LINES} has {len(lines)} lines for {len(names)} pictures: give a line to each, in the order of"
        f" their names, or write {TABLE}",
    )
    return np.array(lines)


def _from_table(path: str, names: tuple[str, ...], content: bytes, root: str) -> np.ndarray:
    try:
        table = {root + str(name).replace("\\", "/"): caption for name, caption in dict(json.loads(content)).items()}
    except (ValueError, TypeError, RecursionError):
        raise UsageError(f"{path}: {root}{TABLE} is not understood: write {{file: caption}}") from None
    for name in names:
        require(
            type(table.get(name)) is str,
            f"{path}: {root}{TABLE} gives {name} the caption {table.get(name)!r}: give every picture a text",
        )
    return np.array([table[name] for name in names])
