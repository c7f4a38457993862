"""Grids, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from score_sde.storage.images import grid, save_grid


def test_three_grey_images_in_two_columns():
    images = np.arange(1, 13, dtype=np.uint8).reshape(3, 2, 2, 1)
    expected = [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 2, 0, 5, 6, 0],
        [0, 3, 4, 0, 7, 8, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 9, 10, 0, 0, 0, 0],
        [0, 11, 12, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    picture = grid(images, columns=2, padding=1, min_side=2)
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), expected)


def test_colours():
    images = np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8)
    picture = grid(images, padding=1, min_side=1)
    assert picture.mode == "RGB"
    expected = np.zeros((3, 4, 3), np.uint8)
    expected[1, 1], expected[1, 2] = (1, 2, 3), (4, 5, 6)
    np.testing.assert_array_equal(np.asarray(picture), expected)


def test_enlargement_by_a_whole_factor():
    picture = grid(np.array([[[[1], [2]]]], np.uint8), padding=0, min_side=3)
    np.testing.assert_array_equal(np.asarray(picture), [[1, 1, 1, 2, 2, 2]] * 3)


@pytest.mark.parametrize("side, factor", [(8, 6), (28, 2), (32, 2), (64, 1), (256, 1)])
def test_small_images_are_shown_at_about_48_pixels(side, factor):
    assert grid(np.zeros((1, side, side, 1), np.uint8), padding=0).size == (side * factor, side * factor)


@pytest.mark.parametrize(
    "count, columns, rows", [(1, 1, 1), (3, 1, 3), (4, 2, 2), (5, 2, 3), (64, 8, 8), (100, 10, 10)]
)
def test_a_grid_is_about_square(count, columns, rows):
    assert grid(np.zeros((count, 48, 48, 1), np.uint8), padding=0).size == (48 * columns, 48 * rows)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB"), (5, "RGB")])
def test_other_numbers_of_channels(channels, mode):
    images = np.arange(channels, dtype=np.uint8).reshape(1, 1, 1, channels)
    picture = grid(images, padding=0, min_side=1)
    assert picture.mode == mode
    np.testing.assert_array_equal(np.asarray(picture).ravel(), np.arange(1 if mode == "L" else 3))


def test_a_saved_grid_is_the_grid_and_leaves_nothing_else(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    path = tmp_path / "samples" / "a.png"
    for _ in range(2):  # the second overwrites the first
        save_grid(path, images)
        assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(grid(images)))
