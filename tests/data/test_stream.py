"""The stream is a function of (seed, position): however it is cut, whoever reads it."""

import numpy as np
import pytest

from score_sde.data.stream import Stream

N = 10
ORDER = [6, 1, 0, 5, 3, 8, 7, 9, 2, 4]
IMAGES = np.arange(N, dtype=np.uint8)[:, None, None, None]


def stream(seed: int = 0) -> Stream:
    return Stream(IMAGES, seed)


def flat(batch) -> tuple[np.ndarray, np.ndarray]:
    return batch.image.reshape(-1), batch.position.reshape(-1, 2)


@pytest.mark.parametrize("first", [0, 7, 2**32 - 5, 2**40 + 3])
@pytest.mark.parametrize("size, steps", [(24, 1), (1, 24), (4, 6), (6, 4), (12, 2)])
def test_any_cutting_gives_the_same_examples(first, size, steps):
    whole_image, whole_position = flat(stream().batches(first, 1, 24))
    batch = stream().batches(first, size, steps)
    assert batch.image.shape == (steps, size, 1, 1, 1)
    assert batch.position.shape == (steps, size, 2)
    image, position = flat(batch)
    np.testing.assert_array_equal(image, whole_image)
    np.testing.assert_array_equal(position, whole_position)
    parts = [flat(stream().batches(first + i, 3, 1))[0] for i in range(0, 24, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole_image)


@pytest.mark.parametrize("first", [0, 2**32 - 1, 2**40])
def test_positions_are_two_words(first):
    position = stream().batches(first, 3, 1).position[0].astype(object)
    np.testing.assert_array_equal(position[:, 0] * 2**32 + position[:, 1], [first, first + 1, first + 2])


@pytest.mark.parametrize("epoch", [0, 1, 2**32 // N + 1])
def test_an_epoch_is_a_permutation(epoch):
    image = IMAGES.ravel()[stream().indices(epoch * N, N)]
    np.testing.assert_array_equal(np.sort(image), IMAGES.ravel())


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(stream(seed).indices(epoch * N, N)) for seed in range(5) for epoch in range(20)]
    assert len(set(orders)) == 100


def test_an_epoch_may_end_inside_a_batch():
    image, _ = flat(stream().batches(0, 3 * N - 1, 1))
    for epoch in range(3):
        count = min(N, 3 * N - 1 - epoch * N)
        np.testing.assert_array_equal(image[epoch * N :][:count], stream().indices(epoch * N, N)[:count])


def test_orders_do_not_depend_on_what_was_read_before():
    one = stream()
    for first in (55, 3, 17, 3):
        np.testing.assert_array_equal(one.indices(first, 12), stream().indices(first, 12))


def test_the_order_is_frozen():
    """Runs are resumed years later: the order of numpy's MT19937 under a SeedSequence, written down once."""
    np.testing.assert_array_equal(stream(0).indices(0, N), ORDER)


def test_every_image_is_as_likely_at_every_place():
    """4,000 epochs: counts of 400 with a standard deviation of 19."""
    orders = np.stack([stream(1).indices(epoch * N, N) for epoch in range(4000)])
    counts = np.stack([(orders == image).sum(0) for image in range(N)])
    assert abs(counts - 400).max() < 5 * 19


def test_memory_mapped_images_are_copied_into_the_batch(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    batch = Stream(np.load(tmp_path / "a.npy", mmap_mode="r"), 0).batches(5, 4, 2)
    np.testing.assert_array_equal(batch.image, stream().batches(5, 4, 2).image)
    assert batch.image.dtype == np.uint8
