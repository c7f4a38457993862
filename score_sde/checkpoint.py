"""Orbax behind four calls: save, restore, latest step, close. A checkpoint is a state and a small JSON object."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from score_sde.errors import UsageError


class Checkpoints:
    """The checkpoints <directory>/<step>/ of one run, the newest `keep` of them."""

    def __init__(self, directory: pathlib.Path, keep: int = 3) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)
        self.directory = directory

    def latest_step(self) -> int | None:
        """The step of the newest finished checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Save asynchronously; the directory <step> appears when it is whole. Saving a step twice does nothing."""
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        self._manager.save(step, args=items)

    def restore(self, like: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """The state (structure, shapes and dtypes like `like`) and the JSON object of a step, the newest by default.

        Raises UsageError where there is no checkpoint.
        """
        step = self.latest_step() if step is None else step
        if step is None:
            raise UsageError(f"no checkpoint in {self.directory}: train there first, or name the right --workdir")
        # Named devices: without them Orbax wants back the very device that the checkpoint was saved from.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        return restored["state"], restored["meta"]

    def close(self) -> None:
        """Return when every save is on disk, the threads released."""
        self._manager.close()
