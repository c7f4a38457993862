"""The stream is a function of (seed, position): however it is cut, whoever reads it."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from score_sde.data.folder import zip_file
from score_sde.data.pictures import Format, Pictures
from score_sde.data.stream import Stream
from score_sde.errors import UsageError
from tests.data.making import Broken, Shades, random_images, write, zipped

N = 10
ORDER = [6, 1, 0, 5, 3, 8, 7, 9, 2, 4]
IMAGES = np.arange(N, dtype=np.uint8)[:, None, None, None]


def stream(seed: int = 0) -> Stream:
    return Stream(IMAGES, seed)


def flat(batch) -> tuple[np.ndarray, np.ndarray]:
    return batch.x.reshape(-1), batch.position.reshape(-1, 2)


@pytest.mark.parametrize("first", [0, 7, 2**32 - 5, 2**40 + 3])
@pytest.mark.parametrize("size, steps", [(24, 1), (1, 24), (4, 6), (6, 4), (12, 2)])
def test_any_cutting_gives_the_same_examples(first, size, steps):
    whole_image, whole_position = flat(stream().batches(first, 1, 24))
    batch = stream().batches(first, size, steps)
    assert batch.x.shape == (steps, size, 1, 1, 1)
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
    np.testing.assert_array_equal(batch.x, stream().batches(5, 4, 2).x)
    assert batch.x.dtype == np.uint8


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("first", [0, 2**32 - 5])
def test_the_rows_of_all_processes_are_the_batch(processes, first):
    whole = stream().batches(first, 8, 3)
    count = 8 // processes
    parts = [stream().batches(first, 8, 3, slice(i * count, (i + 1) * count)) for i in range(processes)]
    assert all(part.x.shape == (3, count, 1, 1, 1) and part.position.shape == (3, count, 2) for part in parts)
    np.testing.assert_array_equal(np.concatenate([part.x for part in parts], 1), whole.x)
    np.testing.assert_array_equal(np.concatenate([part.position for part in parts], 1), whole.position)
    assert len(np.unique(np.concatenate([part.position.reshape(-1, 2) for part in parts]), axis=0)) == 24


SCHEDULE = [(3, 4, 2), (11, 4, 1), (12, 6, 3), (30, 2, 5), (2**33, 4, 2)]
"""Calls of several sizes, one beginning where another did not end."""


@pytest.mark.parametrize("images", [IMAGES, Shades(N)], ids=["array", "source"])
@pytest.mark.parametrize("rows", [None, slice(1, 3)])
def test_calls_are_batches(images, rows):
    calls = list(Stream(images, 5).calls(iter(SCHEDULE), rows))
    assert len(calls) == len(SCHEDULE)
    for call, batch in zip(SCHEDULE, calls):
        expected = Stream(images, 5).batches(*call, rows)
        np.testing.assert_array_equal(batch.x, expected.x)
        np.testing.assert_array_equal(batch.position, expected.position)


def test_without_workers_a_call_is_read_when_it_is_asked_for():
    asked = []
    calls = stream().calls(asked.append(call) or call for call in SCHEDULE)
    next(calls)
    assert asked == SCHEDULE[:1]


def test_workers_give_the_same_bits_and_end(tmp_path):
    """Pictures in a zip file, one process's rows of calls of several sizes; left early, nothing is left behind.

    Signals that a terminal or a cluster sends to all end no worker: the second may not even have begun.
    """
    path = zipped(write(tmp_path / "set", random_images(N)), tmp_path / "a.zip")
    one = Stream(Pictures(zip_file(str(path)).train, Format(8, 3)), 5)
    calls = one.calls(SCHEDULE, slice(1, 3), workers=2)
    for call, batch in zip(SCHEDULE[:-1], calls):
        expected = one.batches(*call, slice(1, 3))
        np.testing.assert_array_equal(batch.x, expected.x)
        np.testing.assert_array_equal(batch.position, expected.position)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGTERM)
            os.kill(worker.pid, signal.SIGINT)
    assert len(multiprocessing.active_children()) == 2
    start = time.monotonic()
    calls.close()
    assert time.monotonic() - start < 10  # grain kills after 25 s what does not end when asked to
    assert multiprocessing.active_children() == []


def test_what_fails_in_a_worker_is_said_as_it_is_without():
    for workers in (0, 1):
        with pytest.raises(UsageError, match="image 3 cannot be decoded"):
            next(Stream(Broken(N), 0).calls(SCHEDULE, workers=workers))
    assert multiprocessing.active_children() == []


def test_arrays_and_empty_schedules_need_no_workers():
    calls = stream().calls(SCHEDULE, workers=2)
    next(calls)
    assert multiprocessing.active_children() == []
    assert list(Stream(Shades(N), 0).calls([], workers=2)) == []


PROGRAM = """
if __name__ == "__main__":  # what stands above it, every worker imports too
    import os, signal, sys
    from score_sde.data.stream import Stream
    from tests.data.making import Shades

    calls = Stream(Shades(10), 0).calls([(0, 4, 1)] * 6, workers=2)
    print(next(calls).x.shape, flush=True)
    if sys.argv[1] == "killed":
        import multiprocessing
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGKILL)
    calls.close()
    print(len(list(Stream(Shades(10), 0).calls([(0, 4, 1)] * 3, workers=1))))
"""


def test_a_program_with_workers_ends_in_silence(tmp_path):
    """No leaked shared memory, no exception at exit, whether it has read everything or not."""
    finished = _run(tmp_path, "well")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "(1, 4, 2, 2, 1)\n3\n", "")


def test_workers_end_with_a_program_that_is_killed(tmp_path):
    """The program's output is a pipe that its workers hold too: it ends when the last of them has."""
    finished = _run(tmp_path, "killed")
    pids = finished.stdout.split("\n")[1].split()
    assert len(pids) == 2
    assert not [pid for pid in pids if pathlib.Path(f"/proc/{pid}/cmdline").exists() and _is_python(pid)]


def _is_python(pid: str) -> bool:
    return "spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()


def _run(tmp_path, how: str) -> subprocess.CompletedProcess:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = str(pathlib.Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, str(program), how]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
