"""Captions: their words and tokens, where they are found, what is refused; and pictures of two digits."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from score_sde.data.arrays import array_file
from score_sde.data.captions import TextSpec, described, split, unknown
from score_sde.data.digit_pairs import NAMES, caption, digit_pairs
from score_sde.data.folder import folder
from score_sde.data.identity import difference, digest
from score_sde.data.sources import Dataset, digits
from score_sde.data.spec import Spec
from score_sde.errors import UsageError

WORDS = ("a", "cat", "dog", "on", "roof", "the")
TEXT = TextSpec(4, WORDS, ("a cat",))
X = np.zeros((3, 4, 4, 1), np.uint8)


def test_words_are_what_stands_between_signs():
    assert split("A cat's roof, the well-known (2nd) one!") == ["a", "cat's", "roof", "the", "well-known", "2nd", "one"]
    assert split(" . ") == []


def test_tokens_there_and_back():
    found = TEXT.encode(["The cat on roof", "", "Dog."], "here")
    assert found["tokens"].dtype == np.int32 and found["tokens"].tolist() == [[5, 1, 3, 4], [0] * 4, [2, 0, 0, 0]]
    assert found["mask"].tolist() == [[True] * 4, [False] * 4, [True, False, False, False]]
    assert TEXT.decode(found).tolist() == ["the cat on roof", "", "dog"]
    assert TEXT.decode({n: v[:1] for n, v in found.items()}).dtype == TEXT.decode(found).dtype  # whatever is in a batch
    assert {n: (v.shape[1:], v.dtype.name) for n, v in found.items()} == TEXT.shapes


def test_unknown_words_are_refused_with_the_nearest_known():
    with pytest.raises(UsageError, match=r"here has the word 'rooftop', which no caption .* has: did you mean roof$"):
        TEXT.encode(["a cat on rooftop"], "here")
    with pytest.raises(UsageError, match=r"the word 'xylophone', .*: it knows a, cat, dog, on, roof, the$"):
        TEXT.encode(["xylophone"], "here")
    with pytest.raises(UsageError, match="here has a caption of 5 words, and the longest that was trained on has 4"):
        TEXT.encode(["a a a a a"], "here")
    assert TEXT.encode(["a mouse on the cat"])["tokens"].tolist() == [[0, 3, 5, 1]]  # of held-out examples


def test_the_vocabulary_is_of_the_training_split():
    own, held_out = np.array(["a cat", "the dog on a roof", "a"]), np.array(["a mouse sees the cat on a roof"])
    data = Dataset(X, X[:1], {"caption": own}, {"caption": held_out})
    text = described(data, ("caption",))
    assert text == TextSpec(8, WORDS, tuple(own)) and unknown(data, text) == {"mouse", "sees"}
    assert described(data, ()) is None
    spec = Spec((4, 4, 1), text=text)
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert "text" not in Spec((4, 4, 1)).to_json()
    with pytest.raises(UsageError, match="the captions to train on have no word"):
        described(Dataset(X, X[:0], {"caption": np.array(["", "", "?"])}), ("caption",))


def test_captions_are_part_of_what_data_are_known_by():
    data = Dataset(X, X[:0], {"caption": np.array(["a", "b", "c"])})
    other = data._replace(condition={"caption": np.array(["a", "b", "d"])})
    assert difference(digest(data), digest(data), ("caption",)) is None
    assert difference(digest(data), digest(other), ("caption",)) == "the training examples' captions have other values"


def test_captions_and_embeddings_in_an_npz_file(tmp_path):
    rows, mask = np.ones((3, 2, 5), np.float32), np.array([[1, 1], [1, 0], [0, 0]], bool)
    path = str(tmp_path / "a.npz")
    np.savez(path, train=X, test=X[:1], captions=["a cat", "dog", ""], test_caption=["a"], embeddings=rows,
             test_embeddings=rows[:1], mask=mask, test_mask=mask[:1])  # fmt: skip
    found = array_file(path, ("caption",))
    assert found.condition["caption"].tolist() == ["a cat", "dog", ""]
    assert found.held_out_condition["caption"].tolist() == ["a"]
    found = array_file(path, ("embeddings",))
    text = described(found, ("embeddings",))
    assert text == TextSpec(2, width=5)
    told = text.of_sources(found.condition)
    np.testing.assert_array_equal(told["mask"], mask)
    np.testing.assert_array_equal(told["embeddings"], rows)
    np.savez(path, train=X, caption=[0, 1, 2])
    with pytest.raises(
        UsageError, match=r"a\.npz:caption has shape \(3,\) and dtype int64: save captions as np\.array"
    ):
        array_file(path, ("caption",))
    np.savez(path, train=X)
    with pytest.raises(UsageError, match=r"asks for 'caption' and .* has no array caption or captions beside"):
        array_file(path, ("caption",))


def pictures(path, names):
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path / name)
    return str(path)


def test_a_line_for_every_picture_of_a_folder(tmp_path):
    path = pictures(tmp_path, ["b.png", "a.png"])
    (tmp_path / "captions.txt").write_text("first\nsecond one\n")
    found = folder(path, ("caption",))
    assert found.captions is not None and found.captions.tolist() == ["first", "second one"]
    assert folder(path).captions is None and not found.account.passed_over
    (tmp_path / "captions.txt").write_text("first\n")
    with pytest.raises(UsageError, match=r"captions\.txt has 1 lines for 2 pictures"):
        folder(path, ("caption",))


@pytest.mark.parametrize("place", ["", "train/"])
def test_a_table_beside_a_folder(tmp_path, place):
    path = pictures(tmp_path, ["train/a.png", "train/b.png", "test/c.png"])
    table = {"train/a.png": "one", "train/b.png": "two", "test/c.png": "three"}
    if place:
        table = {"a.png": "one", "b.png": "two"}
        (tmp_path / "test" / "captions.txt").write_text("three")
    (tmp_path / place / "captions.json").write_text(json.dumps(table))
    found = folder(path, ("caption",))
    assert (found.captions.tolist(), found.held_out_captions.tolist()) == (["one", "two"], ["three"])
    (tmp_path / place / "captions.json").write_text(json.dumps({**table, next(iter(table)): 3}))
    with pytest.raises(UsageError, match=r"gives train/a\.png the caption 3: give every picture a text"):
        folder(path, ("caption",))
    (tmp_path / place / "captions.json").write_text("[]3")
    with pytest.raises(UsageError, match=r"captions\.json is not understood: write \{file: caption\}"):
        folder(path, ("caption",))


def test_pairs_of_digits():
    data, single = digit_pairs(), digits()
    assert data.train.shape == (6000, 8, 16, 1) and data.held_out.shape == (500, 8, 16, 1)
    pairs = [{(k // 10, k % 10) for k in c["label"].tolist()} for c in (data.condition, data.held_out_condition)]
    assert (len(pairs[0]), len(pairs[1]), len(pairs[0] & pairs[1])) == (80, 20, 0)
    for digit in range(10):
        assert [sum(pair[side] == digit for pair in pairs[1]) for side in (0, 1)] == [2, 2]
    for part, told, own, labels in (
        (data.train, data.condition, single.train, single.condition["label"]),
        (data.held_out, data.held_out_condition, single.held_out, single.held_out_condition["label"]),
    ):
        number = {image.tobytes(): label for image, label in zip(own, labels.tolist())}
        for i in range(0, len(part), 97):
            left, right = (number[np.ascontiguousarray(half).tobytes()] for half in (part[i, :, :8], part[i, :, 8:]))
            assert told["label"][i] == 10 * left + right and told["caption"][i] == caption(left, right)
    text = described(data, ("caption",))
    assert text is not None and dataclasses.replace(text, captions=()) == TextSpec(
        4, tuple(sorted((*NAMES, "left", "of")))
    )
    assert all(np.array_equal(a, b) for a, b in zip(data[:2], digit_pairs()[:2]))
