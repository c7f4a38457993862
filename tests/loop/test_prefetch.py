"""The prefetcher: the same items in the same order, its thread's errors, and no thread left behind."""

import threading
import time

import pytest

from score_sde.loop.prefetch import Prefetch


def alive() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_items_arrive_in_order_placed_by_another_thread():
    places = set()

    def place(x: int) -> int:
        places.add(threading.current_thread().name)
        return 10 * x

    with Prefetch(iter(range(50)), place) as ready:
        assert list(ready) == [10 * x for x in range(50)]
    assert places == {"prefetch"}
    assert alive() == 0


def test_at_most_depth_items_are_ahead():
    made = []
    with Prefetch(iter(range(50)), lambda x: made.append(x) or x, depth=3) as ready:
        next(ready)
        time.sleep(0.3)
        assert len(made) <= 1 + 3 + 1  # taken, waiting in line, in the thread's hand


def test_an_error_in_the_thread_is_raised_where_the_items_are_consumed():
    def items():
        yield 1
        raise OSError("the disk is gone")

    with Prefetch(items(), lambda x: x) as ready:
        assert next(ready) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            next(ready)
    assert alive() == 0


def test_leaving_early_ends_the_thread_and_closes_the_source():
    closed = []

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    with Prefetch(items(), lambda x: x) as ready:
        next(ready)
    assert alive() == 0
    assert closed == [True]


def test_waiting_is_counted_but_for_the_first_item():
    def items():
        for i in range(2):
            time.sleep(0.2)
            yield i

    with Prefetch(items(), lambda x: x) as ready:
        next(ready)
        assert ready.waited == 0
        next(ready)
        assert ready.waited > 0.1
