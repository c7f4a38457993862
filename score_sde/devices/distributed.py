"""A run of several processes: how they find one another, and what happens when one of them is lost."""

import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, NoReturn

import jax

from score_sde.devices.meeting import Hello, meet
from score_sde.errors import CheckpointError, UsageError

LOST_AFTER = 30.0
"""Seconds without a sign of life after which a process counts as lost."""

EXIT_LOST = 4

PATIENCE = 6 * 3600
"""Seconds that processes wait for a slower one to write or read; a dead one ends them all."""

_PULSE, _FAREWELL, _GONE = "score_sde/pulse", "score_sde/farewell", "score_sde/gone"
_INTERVAL = 2.0
_REMEDY = "start one on each host with the same --coordinator host:port and --num_processes, and --process_id 0, 1, ..."
_leaving = threading.Event()


def start(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, timeout: float = 300
) -> None:
    """Join `count` processes as number `index`, and watch over them from now on; UsageError where they do not meet.

    coordinator: host:port of process 0. All None where the cluster tells (TPU pods, Slurm, Kubernetes). timeout: in
    seconds, for all to come.

    Call it before anything else of jax. A process that shows no sign of life for LOST_AFTER seconds ends this one with
    EXIT_LOST: every collective operation would wait for it in vain. So does one that said `farewell`, within seconds.
    (The loss of process 0, which keeps the processes' books, jax itself mostly answers first, by an abort.)
    """
    began = time.monotonic()
    if coordinator is not None and count is not None and index is not None:
        meet(coordinator, Hello(index, count), timeout)
    # jax would take SIGTERM for itself from here on, and leave it unanswered.
    jax.config.update("jax_enable_preemption_service", False)
    left = timeout if coordinator is None else max(timeout - (time.monotonic() - began), LOST_AFTER)
    try:
        with _within(left, f"the processes have not met within {timeout:.0f} s: {_REMEDY}, or raise --connect_timeout"):
            jax.distributed.initialize(coordinator, count, index, initialization_timeout=int(left) + 60)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"the {count or ''} processes did not find one another ({reason}): {_REMEDY}") from None
    if owns_what_it_sees() and "JAX_LOCAL_DEVICE_IDS" not in os.environ:
        for name in ("jax_cuda_visible_devices", "jax_rocm_visible_devices"):
            jax.config.update(name, "all")
    if place().processes > 1:
        client, own, all_of_them = _client(), *place()
        watch = lambda: lost(*_watch(client, own, all_of_them), own, all_of_them)
        threading.Thread(target=watch, name="watch", daemon=True).start()


@contextmanager
def _within(seconds: float, otherwise: str) -> Iterator[None]:
    """End this process with 2 and a sentence where the block takes longer: jax would do it by an abort, or never."""

    def give_up() -> None:
        print(f"score-sde: {otherwise}", file=sys.stderr)
        end_now(2)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def owns_what_it_sees(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Slurm gave this process its GPUs alone: it is the only one on its node, or sees a single GPU.

    Under Slurm jax takes the one GPU that has the process's number on its node, and would leave the others idle.
    """
    alone = re.fullmatch(r"1(\(x\d+\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return alone is not None or re.fullmatch(r"[^,]+", environment.get("CUDA_VISIBLE_DEVICES", "")) is not None


def lost(index: int, why: str, own: int, count: int) -> None:
    """End this process at once, without waiting for the lost one as an orderly end would.

    It asks jax nothing, which may be at its own end by now.
    """
    print(
        f"score-sde: process {index} of {count} {why}, so process {own} ends too; the same commands resume from the"
        " last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_LOST)


class Pulse:
    """When each process was last heard of: a counter that each keeps raising in the coordinator's store."""

    def __init__(self, count: int, now: float) -> None:
        self._seen: dict[int, tuple[str, float]] = dict.fromkeys(range(count), ("", now))

    def silent(self, counters: Mapping[int, str], now: float) -> int | None:
        """The first process whose counter has stood still for LOST_AFTER seconds, given all counters of now."""
        for index, (value, since) in self._seen.items():
            found = counters.get(index, value)
            if found != value:
                self._seen[index] = (found, now)
            elif now - since > LOST_AFTER:
                return index
        return None


def _watch(client: Any, own: int, count: int) -> tuple[int, str]:
    """Raise our own counter and look at the others', until one stands still or has ended: its process, and why."""
    beats, pulse = 0, Pulse(count, time.monotonic())
    read = lambda folder: {int(key.rsplit("/", 1)[-1]): value for key, value in client.key_value_dir_get(folder)}
    while True:
        beats += 1
        counters, farewells = {own: str(beats)}, {}
        try:
            client.key_value_set(f"{_PULSE}/{own}", str(beats), allow_overwrite=True)
            counters |= read(_PULSE)
            farewells = read(_FAREWELL)
        except Exception:  # of jax's kinds, and others while a process ends
            pass  # process 0, which keeps the store, does not answer: then nobody but this process is heard of
        ended, silent = min(farewells, default=None), pulse.silent(counters, time.monotonic())
        if ended is not None:
            time.sleep(_INTERVAL)  # where all fail alike, each tells its own failure
        if _leaving.is_set():
            time.sleep(LOST_AFTER)
        elif ended is not None:
            return ended, f"has ended ({farewells[ended]})"
        elif silent is not None:
            return silent, f"is lost (no sign of life for {LOST_AFTER:.0f} s)"
        time.sleep(_INTERVAL)


def farewell(reason: str) -> None:
    """Tell the other processes that this one ends by itself, and why: so they end now, and can say it too."""
    _leaving.set()
    client = _client()
    if client is None:
        return
    try:
        client.key_value_set(f"{_FAREWELL}/{place().process}", reason, allow_overwrite=True)
    except Exception:  # of jax's kinds: nobody is left to be told
        return
    if place().process == 0:
        _wait_for_others(client, 3 * _INTERVAL)  # the store ends with this process


def _wait_for_others(client: Any, seconds: float) -> None:
    """Until the others have said farewell too, as where all fail alike, or have had the time to hear of it."""
    until = time.monotonic() + seconds
    with suppress(Exception):  # of jax's kinds
        while time.monotonic() < until and len(client.key_value_dir_get(_FAREWELL)) < place().processes:
            time.sleep(0.1)
        time.sleep(0.5)


def leave(code: int) -> NoReturn:
    """End this process of several with the exit code once all have come to their ends, process 0 as the last one.

    At once, and without jax's own end: there the store, which ends with process 0, may do so under a slower process,
    which jax then aborts.
    """
    client, index, count = _client(), *place()
    try:
        client.wait_at_barrier(_GONE, 1000 * PATIENCE)
        _leaving.set()
        if index > 0:
            client.key_value_set(f"{_GONE}/{index}", "")
        else:
            for other in range(1, count):
                client.blocking_key_value_get(f"{_GONE}/{other}", int(1000 * LOST_AFTER))
            time.sleep(_INTERVAL)
    except Exception:  # of jax's kinds: another one was lost on its way out, when nothing is left to be done
        pass
    end_now(code)


def end_now(code: int) -> NoReturn:
    """End this process with the exit code, its output written, without the ends of the libraries it uses."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_exchanges = itertools.count()


def exchange(value: Any) -> list[Any]:
    """What each process gives, a small JSON value, in their order; all call it equally often, and wait for the slowest.

    It asks nothing of the devices.
    """
    client, own, count = _client(), *place()
    if count == 1:
        return [value]
    number = next(_exchanges)
    key = lambda n, process: f"score_sde/exchange/{n}/{process}"
    client.key_value_set(key(number, own), json.dumps(value))
    values = [json.loads(client.blocking_key_value_get(key(number, i), 1000 * PATIENCE)) for i in range(count)]
    if number:  # all have come here, so all have read what was said before
        client.key_value_delete(key(number - 1, own))
    return values


def together(act: Callable[[], Any]) -> Any:
    """What `act` returns on process 0, a small JSON value; where it raises on any process, it raises on all.

    Every process calls it, and waits here for the slowest.
    """
    if place().processes == 1:
        return act()
    outcome: dict[str, Any] = {}
    raised = None
    try:
        value = act()
        outcome["value"] = value if place().process == 0 else None
    except (UsageError, CheckpointError) as error:
        outcome[type(error).__name__], raised = str(error), error
    outcomes = exchange(outcome)
    if raised is not None:
        raise raised
    for process, other in enumerate(outcomes):
        for kind in (UsageError, CheckpointError):
            if kind.__name__ in other:
                raise kind(f"{other[kind.__name__]} (process {process})")
    return outcomes[0]["value"]


def await_the_watch(error: Exception) -> None:
    """Where the error may come from another process's end, wait until that one counts as lost, which ends this one."""
    words = ("gloo", "nccl", "connection", "unavailable", "heartbeat")
    if place().processes > 1 and any(word in str(error).lower() for word in words):
        time.sleep(LOST_AFTER + 5)


class Place(NamedTuple):
    """Which process this is, and of how many."""

    process: int
    processes: int


def place() -> Place:
    """Where this process stands among those of the run, known before there are devices; (0, 1) for one alone."""
    from jax._src.distributed import global_state

    return Place(global_state.process_id, global_state.num_processes)


def _client() -> Any:
    """The connection to process 0's key-value store; jax has no public name for it."""
    from jax._src.distributed import global_state

    return global_state.client
