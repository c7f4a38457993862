"""Checkpoints that survive a kill at any moment: Orbax writes them, a manifest finishes and verifies them.

A checkpoint <directory>/<step>/ is a state (a pytree of arrays, on one device or over a mesh of one or many processes)
and a small JSON object. It counts from the moment its manifest stands; docs/checkpoints.md tells what survives what.
"""

import contextlib
import logging
import os
import pathlib
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from score_sde.devices.distributed import PATIENCE, await_the_watch, together
from score_sde.errors import CheckpointError, UsageError, require
from score_sde.storage import manifest


def _quiet() -> None:
    """Whatever Orbax has to tell it also raises, and TensorStore's other writes fail after the first unheard."""
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())
    show = sys.unraisablehook
    sys.unraisablehook = lambda raised: None if str(raised.exc_value) == "Event loop is closed" else show(raised)


_quiet()


class Checkpoints:
    """The newest `keep` checkpoints of one run, and those of steps divisible by `keep_every` (0: none).

    Only `save` changes anything on the disk. Of several processes all make the same calls with the same arguments
    (but for each one's part of the state); process 0 decides, verifies, finishes and removes for all of them.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 3, keep_every: int = 0) -> None:
        self.directory, self.keep, self.keep_every = directory, keep, keep_every
        self._unsound: set[int] = set()
        self._cleaned = False
        self._background = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def latest_step(self) -> int | None:
        """The step of the newest finished checkpoint, None where there is none."""
        return together(lambda: max(self._finished(), default=None))

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints, oldest first."""
        return together(self._finished)

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Save asynchronously; returns when the state is copied. Saving a finished step again does nothing.

        Waits for the save before, and raises CheckpointError where that one failed, or this one at once. A process of
        several raises it alone: the others, which wait for its part, learn of it when it ends.
        """
        self._join()
        unique = together(lambda: self._begin(step))
        if unique is None:
            return
        # Barriers of Orbax are known by the step's name alone: two directories' would be taken for one another.
        processes = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=unique)
        writer = ocp.AsyncCheckpointer(_handler(), PATIENCE, multiprocessing_options=processes)
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
        try:
            writer.save(self._path(step).absolute(), args=items)
        except Exception as error:  # of too many types to list
            raise self._failure(step, error) from error
        self._pending = self._background.submit(self._finish, step, writer)

    def check(self) -> None:
        """Raise the CheckpointError of a save that has failed by now."""
        if self._pending is not None and self._pending.done():
            self._join()

    def restore(self, like: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """The state and the JSON object of the newest good checkpoint, or of a step.

        The state has the structure, shapes, dtypes and shardings of `like`, arrays or ShapeDtypeStructs; those without
        a sharding go to this process's first device. Unfinished and damaged checkpoints are passed over with a line on
        stderr. Raises UsageError where none is good, or the step asked for is not, or its arrays are not those of
        `like`.
        """
        state, meta, _ = self.restore_any([like], step)
        return state, meta

    def restore_any(self, likes: Sequence[Any], step: int | None = None) -> tuple[Any, dict[str, Any], int]:
        """As `restore`, of the first of several layouts whose arrays are named as the checkpoint's, and its number.

        Raises UsageError as `restore` does; where no layout fits, about the first.
        """
        while True:
            chosen = together(lambda: self._choose(step))
            try:
                return self._read(chosen, likes)
            except UsageError:
                raise
            except Exception as error:
                gone = not manifest.is_finished(self._path(chosen))
                if gone and step is None and jax.process_count() == 1:
                    continue  # the run that writes here has removed it meanwhile, for newer ones
                raise UsageError(
                    f"checkpoint {self._path(chosen)} cannot be read ({_reason(error)}): try again"
                ) from error

    def close(self) -> None:
        """Return when every save is on disk, the threads released; raises CheckpointError where one failed.

        Of several processes each answers for its own part, process 0 for the whole.
        """
        try:
            self._join()
        finally:
            self._background.shutdown()

    def _path(self, step: int) -> pathlib.Path:
        return self.directory / str(step)

    def _finished(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first, without those found damaged."""
        return [s for s, done in manifest.steps(self.directory).items() if done and s not in self._unsound]

    def _join(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _begin(self, step: int) -> str | None:
        """A name for this save and the place of its checkpoint free; None where that is finished."""
        if jax.process_index() > 0 or step in self._finished():
            return None
        try:
            if not self._cleaned:
                self.directory.mkdir(parents=True, exist_ok=True)
                manifest.remove_temporary(self.directory)
                self._cleaned = True
            manifest.remove(self._path(step))
            self._unsound.discard(step)
        except OSError as error:
            raise self._failure(step, error) from error
        return f"{step}-{time.time_ns()}"

    def _finish(self, step: int, writer: ocp.AsyncCheckpointer) -> None:
        """In the background: wait for Orbax, then finish the checkpoint, then remove old ones."""
        try:
            writer.close()
            if jax.process_index() == 0:
                manifest.write(self._path(step), step)
        except Exception as error:  # of too many types to list
            raise self._failure(step, error) from error
        try:
            if jax.process_index() == 0:
                self._remove_old(step)
        except (OSError, UsageError) as error:
            raise CheckpointError(
                f"old checkpoints in {self.directory} cannot be removed ({_reason(error)}): checkpoint {step} is"
                " intact; give this program leave to remove them, and start again"
            ) from error

    def _remove_old(self, step: int) -> None:
        """All but the newest `keep`, those of every `keep_every` steps, and what may still be wanted to look into."""
        sound = self._finished()
        newest = sound[-self.keep :]
        kept = {s for s in sound if self.keep_every and s % self.keep_every == 0}.union(newest, [step])
        for other, finished in manifest.steps(self.directory).items():
            if other not in kept and other < (newest[0] if finished else step):
                manifest.remove(self._path(other))

    def _failure(self, step: int, error: Exception) -> CheckpointError:
        """The exception to raise; what the failed save left is removed as far as possible."""
        await_the_watch(error)
        with contextlib.suppress(OSError, UsageError):  # another thread of the failed save may still be writing there
            if jax.process_index() == 0 and not manifest.is_finished(self._path(step)):
                manifest.remove(self._path(step))
                manifest.remove_temporary(self.directory, step)
        last = None
        with contextlib.suppress(OSError, UsageError):
            last = max(self._finished(), default=None)
        intact = "there is no earlier one" if last is None else f"the last good checkpoint {last} is intact"
        return CheckpointError(
            f"checkpoint {self._path(step)} cannot be written ({_reason(error)}): {intact}; free some space or mend"
            " the disk, and start again"
        )

    def _choose(self, step: int | None) -> int | None:
        """The step to restore, found sound."""
        if jax.process_index() > 0:
            return None
        return self._newest_sound() if step is None else self._this(step)

    def _this(self, step: int) -> int:
        there = manifest.steps(self.directory)
        finished = ", ".join(str(s) for s, done in there.items() if done) or "none"
        kind = "unfinished" if step in there else "missing"
        require(there.get(step), f"checkpoint {self._path(step)} is {kind}: choose from the finished ones, {finished}")
        try:
            manifest.verify(self._path(step), step)
        except manifest.Unsound as error:
            raise UsageError(f"checkpoint {self._path(step)} is damaged ({error}): choose another step") from None
        return step

    def _newest_sound(self) -> int:
        there = manifest.steps(self.directory)
        for step in (s for s, done in there.items() if not done):
            print(f"ignoring {self._path(step)}: unfinished, as a kill or a save under way leaves it", file=sys.stderr)
        damaged = []
        for step in sorted((s for s, done in there.items() if done), reverse=True):
            try:
                manifest.verify(self._path(step), step)
                return step
            except manifest.Unsound as error:
                if not manifest.is_finished(self._path(step)):
                    return self._newest_sound()  # removed meanwhile by the run that writes here
                print(f"ignoring {self._path(step)}, which is damaged: {error}", file=sys.stderr)
                damaged.append(f"{self._path(step)} ({error})")
                self._unsound.add(step)
        require(
            not damaged, f"every checkpoint is damaged, {'; '.join(damaged)}: restore one from a copy or train anew"
        )
        raise UsageError(f"no checkpoint in {self.directory}: train there first, or name the right --workdir")

    def _read(self, step: int, likes: Sequence[Any]) -> tuple[Any, dict[str, Any], int]:
        path = self._path(step).absolute()
        there = _saved(path)
        number = next((i for i, like in enumerate(likes) if there.keys() == _described(like).keys()), 0)
        like = likes[number]
        _check(self._path(step), there, like)
        # Named devices: without them Orbax wants back the very devices that the checkpoint was saved from.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def target(a: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=getattr(a, "sharding", None) or here)

        targets = jax.tree.map(target, like)
        state = ocp.args.PyTreeRestore(targets, ocp.checkpoint_utils.construct_restore_args(targets))
        with ocp.Checkpointer(_handler()) as reader:
            restored = reader.restore(path, args=ocp.args.Composite(state=state, meta=ocp.args.JsonRestore()))
        return restored["state"], restored["meta"], number


def _handler() -> ocp.CompositeCheckpointHandler:
    # Compressed, weights are 8 % smaller, and take three times as long and four times the processor's time to write.
    state = ocp.PyTreeCheckpointHandler(use_compression=False)
    return ocp.CompositeCheckpointHandler(state=state, meta=ocp.JsonCheckpointHandler())


def _saved(path: pathlib.Path) -> dict[str, str]:
    """What the arrays of a checkpoint's state are, as `_described` tells it."""
    with ocp.StandardCheckpointer() as reader:
        return _described(reader.metadata(path / "state").item_metadata.tree)


def _check(path: pathlib.Path, there: dict[str, str], like: Any) -> None:
    """UsageError naming the first array that is missing, unexpected, or of another shape or dtype than in `like`.

    Orbax itself would cast dtypes without a word.
    """
    here = _described(like)
    differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if not differing:
        return
    name = differing[0]
    saved = f"holds {name} {there[name]}" if name in there else f"has no {name}"
    wanted = f"asks for {name if name not in there else ''} {here[name]}" if name in here else "does not ask for it"
    raise UsageError(
        f"checkpoint {path} {saved} but the config {' '.join(wanted.split())} ({len(differing)} of"
        f" {len(there.keys() | here.keys())} arrays differ): use the config that it was trained with, or another"
        " --workdir"
    )


def _described(tree: Any) -> dict[str, str]:
    """{"params/Conv_0/kernel": "float32 [3,3,1,32]"} of a pytree of what has shape and dtype."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{np.dtype(a.dtype)} [{','.join(map(str, a.shape))}]"
        for path, a in leaves
    }


def _reason(error: BaseException) -> str:
    """Why, in a few words: what the operating system said, be it deep in a chain or in TensorStore's text."""
    chain: list[BaseException] = [error]
    for link in chain:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        if found := re.search(r"os_error_code='(\d+)'", str(link)):
            return os.strerror(int(found[1]))
        inner = [*getattr(link, "exceptions", ()), link.__cause__, link.__context__]
        chain += [e for e in inner if e is not None and e not in chain]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
