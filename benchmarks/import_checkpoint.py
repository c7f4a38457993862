"""Times the import of an official checkpoint: a synthetic file of full size, imported by a process of its own.

    python benchmarks/import_checkpoint.py --size cifar10 --json out.json
    python benchmarks/import_checkpoint.py --config configs/digits.py --kinds jax

One row per kind of file (jax: Flax's msgpack; torch: a .pth, written without PyTorch), each with parameters, average
and both of Adam's moments, random numbers in the shapes of the config's network:
  parameters, file_mb    size of the network and of the file
  seconds                the whole process: start of Python, import of jax, reading, checking, writing
  read_s, import_s       of these, reading and checking alone; and that with writing our checkpoint
  peak_mb                peak memory of that process
Exit codes: 0 done, 2 bad usage or config.
"""

import argparse
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.config import Config
from score_sde.errors import UsageError, require

KINDS = ("jax", "torch")


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of files (both)")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # what a process of its own does: task, kind, folder
    arguments = parser.parse_args(argv[1:])
    try:
        config = common.make_config(arguments, {})
    except UsageError as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        return 2
    if arguments.step:
        task, kind, folder = arguments.step
        {"write": write, "import": import_}[task](config, kind, pathlib.Path(folder))
        return 0
    rows = [measure(argv, kind) for kind in arguments.kinds]
    common.report("import of a checkpoint", argv[0], argv[1:], config, rows, arguments.json)
    return 0


def measure(argv: Sequence[str], kind: str) -> common.Row:
    """Write a file, import it, both in processes of their own: this one stays small, as peaks are inherited."""
    with tempfile.TemporaryDirectory() as folder:
        _run([*argv, "--step", "write", kind, folder])
        size = sum(f.stat().st_size for f in pathlib.Path(folder).iterdir())
        seconds, peak = _run([*argv, "--step", "import", kind, folder])
        facts = json.loads(pathlib.Path(folder, "facts.json").read_text())
    row = {"kind": kind, "parameters": facts["parameters"], "file_mb": size / 1e6, "seconds": seconds}
    return {**row, "read_s": facts["read_s"], "import_s": facts["import_s"], "peak_mb": peak}


def _run(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak MB of a process; UsageError where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    require(process.returncode == 0, f"{command} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * unit / 1e6


def import_(config: Config, kind: str, folder: pathlib.Path) -> None:
    """Import the file into a run beside it, and leave the figures in facts.json."""
    from score_sde.experiment import importing
    from score_sde.storage.workdir import Workdir

    experiment = common.build(config)
    read, reading = importing._read, []

    def timed_read(*arguments: Any) -> Any:
        start = time.perf_counter()
        foreign = read(*arguments)
        reading.append(time.perf_counter() - start)
        return foreign

    importing._read = timed_read
    start = time.perf_counter()
    imported = importing.import_checkpoint(
        experiment, folder / f"checkpoint_1{'.pth' * (kind == 'torch')}", Workdir(folder / "run")
    )
    seconds = time.perf_counter() - start
    facts = {"parameters": imported.parameters, "read_s": reading[0], "import_s": seconds}
    (folder / "facts.json").write_text(json.dumps(facts))


def write(config: Config, kind: str, folder: pathlib.Path) -> None:
    """A synthetic checkpoint of the config's network."""
    from score_sde.adapters.layout import replay
    from score_sde.systems.score import PART

    experiment = common.build(config)
    layout, params = replay(lambda: experiment.abstract_params()[PART])
    if kind == "jax":
        _write_jax(params, folder / "checkpoint_1")
    else:
        _write_torch(params, layout, folder / "checkpoint_1.pth")


def _random(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _write_jax(params: Any, path: pathlib.Path) -> None:
    """Flax 0.3.1's file: GroupNorm's parameters have shape (1, 1, 1, C)."""
    import jax
    from flax import serialization

    def leaf(key: Any, shape: Any) -> np.ndarray:
        old = "GroupNorm" in jax.tree_util.keystr(key)
        return _random((1, 1, 1, *shape.shape) if old else shape.shape)

    target = jax.tree_util.tree_map_with_path(leaf, params)
    moments = jax.tree.map(lambda a: {"grad_ema": a, "grad_sq_ema": a * a}, target)
    state = {"step": np.int32(7), "param_states": moments}
    saved = {"step": np.int32(7), "lr": 2e-4, "model_state": {}, "ema_rate": 0.999, "rng": np.zeros(2, np.uint32)}
    saved |= {"optimizer": {"target": target, "state": state}, "params_ema": target}
    path.write_bytes(serialization.msgpack_serialize(saved))


def _write_torch(params: Any, layout: Any, path: pathlib.Path) -> None:
    """What torch.save writes: a zip archive of a pickle that names PyTorch's functions, and of the storages."""
    from score_sde.adapters.foreign import flat
    from score_sde.adapters.score_sde_torch import names

    leaves, model = flat(params), {}
    for name, place in names(layout).items():
        shape = leaves[place].shape
        if name.endswith("weight"):
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        model[name] = _random(shape)
    trained = [name for name in model if not names(layout)[name].startswith("Gaussian")]
    state = {
        i: {"step": 7, "exp_avg": -a, "exp_avg_sq": a * a} for i, (n, a) in enumerate(model.items()) if n in trained
    }
    saved = {
        "optimizer": {"state": state, "param_groups": [{"params": list(range(len(model)))}]},
        "model": {f"module.{name}": value for name, value in model.items()},
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": [model[name].copy() for name in trained]},
        "step": 7,
    }
    stand_in = _stand_in()
    with zipfile.ZipFile(path, "w") as archive:
        storages: list[Any] = []

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj: Any) -> Any:
                return obj.pid if isinstance(obj, _Storage) else None

            def reducer_override(self, obj: Any) -> Any:
                if not isinstance(obj, np.ndarray):
                    return NotImplemented
                storages.append(obj)
                pid = ("storage", stand_in.FloatStorage, str(len(storages) - 1), "cpu", obj.size)
                strides = tuple(s // 4 for s in obj.strides)
                return stand_in._rebuild_tensor_v2, (_Storage(pid), 0, obj.shape, strides, False, {})

        buffer = io.BytesIO()
        Pickler(buffer, 2).dump(saved)
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for i, storage in enumerate(storages):
            archive.writestr(f"archive/data/{i}", storage.tobytes())


class _Storage:
    """Stands for a storage in the pickle."""

    def __init__(self, pid: Any) -> None:
        self.pid = pid


def _stand_in() -> Any:
    """A module of the two names that the pickle needs, under PyTorch's."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    sys.modules |= {"torch": torch, "torch._utils": utils}
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})  # pyright: ignore[reportAttributeAccessIssue]

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = torch._rebuild_tensor_v2 = _rebuild_tensor_v2  # pyright: ignore[reportAttributeAccessIssue]
    return torch


if __name__ == "__main__":
    sys.exit(main(sys.argv))
