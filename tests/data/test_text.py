"""Texts by their bytes: windows that do not overlap what is held out, the alphabet, what is refused."""

import numpy as np
import pytest

from score_sde.data.identity import digest
from score_sde.data.sources import Dataset
from score_sde.data.spec import Spec
from score_sde.data.text import Alphabet, Windows, alphabet_of, text_file
from score_sde.errors import UsageError


def test_windows_of_a_text_and_its_end_held_out(tmp_path):
    content = bytes(np.random.default_rng(0).integers(65, 91, 203, "uint8"))
    (tmp_path / "a.txt").write_bytes(content)
    data = text_file(str(tmp_path / "a.txt"), 10, 4)
    assert data.train.shape == (203 - 40 - 9, 10) and data.held_out.shape == (4, 10)
    table = np.array(data.bytes)
    whole = lambda x: bytes(table[x].astype("uint8").ravel())
    assert whole(data.train[np.array([0])]) == content[:10] and whole(data.train[np.array([153])]) == content[153:163]
    assert whole(data.held_out[np.arange(4)]) == content[163:]
    assert data.train[np.arange(3)].dtype == np.int32 and list(data.bytes) == sorted(set(content))
    assert text_file(str(tmp_path / "a.txt"), 203, 0).train.shape == (1, 203)


def test_what_a_run_knows_its_text_by_is_all_of_it(tmp_path):
    """One byte in ten thousand tells, whichever windows are looked at."""
    x = np.random.default_rng(0).integers(0, 9, 10_000).astype(np.int32)
    other = x.copy()
    other[5000] = (other[5000] + 1) % 9
    facts = [digest(Dataset(Windows(y, 8), Windows(y[:8], 8))) for y in (x, x.copy(), other)]
    assert facts[0] == facts[1] and facts[0]["train"]["crc32"] != facts[2]["train"]["crc32"]


def test_tokens_are_texts_again():
    alphabet = Alphabet(3, (10, 195, 169))
    assert alphabet.texts(np.array([[1, 2], [2, 0]])) == ["é", "\ufffd\n"]
    assert Alphabet(3).texts(np.zeros((1, 2), int)) is None
    spec = Spec((2,), "tokens", alphabet=alphabet)
    assert Spec.from_json(spec.to_json()) == spec and "alphabet" not in Spec((2,), "tokens").to_json()


def test_bytes_that_no_training_text_has_are_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abab" * 5 + b"cdab")
    notes = text_file(str(tmp_path / "a.txt"), 4, 1).account.notes
    assert len(notes) == 1 and "2 byte values of the held-out part" in notes[0] and "b'c', b'd'" in notes[0]


@pytest.mark.parametrize(
    ("content", "held_out", "words"),
    [
        (None, 0, "is not a file: name a text"),
        (b"", 0, "is empty: name a text of data.length=8 bytes or more"),
        (b"seven b", 0, r"has 7 bytes, and data.length=8 with data.held_out=0 windows of it take 8 or more"),
        (b"x" * 23, 2, r"has 23 bytes, and data.length=8 with data.held_out=2 windows of it take 24 or more"),
    ],
)
def test_files_that_are_no_text(content, held_out, words, tmp_path):
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        text_file(str(path), 8, held_out)


def test_the_tokens_of_arrays():
    train, held_out = np.array([[0, 1]], np.int32), np.array([[4, 1]], np.int32)
    assert alphabet_of(Dataset(train, held_out)) == Alphabet(5)
    assert alphabet_of(Dataset(train, held_out[:0])) == Alphabet(2)
    with pytest.raises(UsageError, match="the data have the token -1: number tokens 0, 1"):
        alphabet_of(Dataset(train - 1, held_out))
