"""Arrays made block by block: what was written is whole, and any damage costs its block alone."""

import json

import numpy as np
import pytest

from score_sde.storage.blocks import Blocks

ROWS = {"x": ((2, 3), "<f4"), "label": ((), "<i4")}
COUNT, SIZE = 10, 4
RANDOM = np.random.default_rng(0)
ARRAYS = {"x": RANDOM.normal(size=(COUNT, 2, 3)).astype("<f4"), "label": np.arange(COUNT, dtype="<i4")}


def blocks(folder, size: int = SIZE, **settings) -> Blocks:
    return Blocks(folder, ROWS, COUNT, size, {"seed": 0, **settings})


def part(first: int) -> dict[str, np.ndarray]:
    return {name: array[first : first + SIZE] for name, array in ARRAYS.items()}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pairs"
    made = blocks(place)
    assert made.lacking() == [0, 4, 8]
    for first in (8, 0, 4):
        made.write(first, part(first))
    return place


def test_what_was_written_is_whole(folder):
    again = blocks(folder, size=3)  # begun with another size, which stays
    assert again.size == SIZE and again.lacking() == []
    for name, array in again.arrays().items():
        assert isinstance(array, np.memmap)
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_any_damage_costs_its_block_and_is_mended(folder):
    content = (folder / "x.npy").read_bytes()
    rows = len(content) - ARRAYS["x"].nbytes
    for place in RANDOM.integers(len(content), size=40).tolist():
        flipped = bytes([content[place] ^ (1 << int(RANDOM.integers(8)))])
        (folder / "x.npy").write_bytes(content[:place] + flipped + content[place + 1 :])
        lost = blocks(folder).lacking()
        assert lost == [(place - rows) // 24 // SIZE * SIZE] if place >= rows else lost == [0, 4, 8]
        for first in lost:
            blocks(folder).write(first, part(first))
        assert blocks(folder).lacking() == []
        np.testing.assert_array_equal(blocks(folder).arrays()["x"], ARRAYS["x"])
        (folder / "x.npy").write_bytes(content)


def test_what_is_cut_missing_or_not_sealed_is_made_again(folder):
    content = (folder / "label.npy").read_bytes()
    for damage in (content[:-1], content[:20], b""):
        (folder / "label.npy").write_bytes(damage)
        assert blocks(folder).lacking() == [0, 4, 8]
    (folder / "label.npy").unlink()
    assert blocks(folder).lacking() == [0, 4, 8]
    (folder / "label.npy").write_bytes(content)
    sealed = json.loads((folder / "blocks.json").read_text())
    (folder / "blocks.json").write_text(json.dumps(sealed | {"blocks": {}}))  # its own digest is another now
    assert blocks(folder).lacking() == [0, 4, 8]


def test_blocks_of_other_settings_count_for_nothing(folder):
    other = blocks(folder, seed=1)
    assert other.lacking() == [0, 4, 8]
    other.write(4, part(4))
    assert blocks(folder, seed=1).lacking() == [0, 8] and blocks(folder).lacking() == [0, 4, 8]
