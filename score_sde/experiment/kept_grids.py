"""The optimised grids of a run, kept: a pilot run is made once for the weights and settings that it depends on.

<workdir>/grids/<solver>-<steps>-<digest>.json holds the times, those settings and the SHA-256 of the weights, and its
own SHA-256. It is written whole, and whoever makes it anew writes the same: nobody waits for a lock.
"""

import hashlib
import json
import pathlib
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from score_sde.devices.distributed import together
from score_sde.experiment.frozen import checksum
from score_sde.storage.files import whole
from score_sde.storage.seals import decode, encode
from score_sde.systems.base import Params


class KeptGrids:
    """The grids of one folder. Every process of a run calls it; the first one reads and writes."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def __call__(self, params: Params, settings: dict[str, Any], find: Callable[[], Any]) -> np.ndarray:
        """The times [N + 1] for these weights and settings of JSON: those that are kept, or what `find` returns.

        A file that is damaged, or of other settings, is named on stderr and written again. Raises OSError.
        """
        known = json.loads(json.dumps({"settings": settings, "weights": checksum(params)}))
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{settings['solver']}-{settings['num_steps']}-{digest[:16]}.json"
        first = jax.process_index() == 0
        times = together(lambda: _read(path, known) if first else None)
        if times is None:
            times = np.asarray(find(), np.float32).tolist()
            together(lambda: _write(path, {**known, "times": times}) if first else None)
        return np.asarray(times, np.float32)


def _read(path: pathlib.Path, known: dict[str, Any]) -> list[float] | None:
    if not path.exists():
        return None
    found = decode(path.read_bytes())
    if found is None or {name: found.get(name) for name in known} != known:
        fault = "is damaged" if found is None else "is of other settings"
        print(f"{path} {fault}: it is made again", file=sys.stderr)
        return None
    return found["times"]


def _write(path: pathlib.Path, content: dict[str, Any]) -> None:
    with suppress(FileNotFoundError), whole(path) as unfinished:  # gone: another program has put the same in place
        unfinished.write_bytes(encode(content))
