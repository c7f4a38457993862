"""What the benchmarks share: flags, the config they make, clocks, the matmul rate, machine facts, table and JSON.

Importing this module imports no jax: a bad flag or config is answered at once, with exit code 2.
"""

import argparse
import ast
import datetime
import os
import pathlib
import platform
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from score_sde.config import Config, choices, load, require_field, wrong_type
from score_sde.config.validation import validate
from score_sde.errors import UsageError, require
from score_sde.storage.workdir import versions, write_json

if TYPE_CHECKING:
    from score_sde.experiment import Experiment

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMAGES = 1024
"""Random training images made, at most; the stream repeats them."""

SIZES: dict[str, dict[str, Any]] = {
    "cifar10": {
        "data.image_size": 32,
        "data.num_channels": 3,
        "data.random_flip": True,
        "sde.name": "vp",
        "parametrization.prediction": "noise",
        "parametrization.label": "time",
        "network.nf": 128,
        "network.ch_mult": (1, 2, 2, 2),
        "network.num_res_blocks": 4,
        "network.attn_resolutions": (16,),
        "network.dropout": 0.1,
        "network.fir": True,
        "network.fir_kernel": (1, 3, 3, 1),
        "network.resblock_type": "biggan",
        "network.progressive": "none",
        "network.progressive_input": "residual",
        "network.progressive_combine": "sum",
        "network.embedding_type": "positional",
        "network.scale_by_sigma": False,
    },
}
"""Published sizes; cifar10 is Song et al. 2021's NCSN++ (VP, continuous)."""

Row = dict[str, Any]


class Timed(NamedTuple):
    """A call's result, waited for, and the seconds that it took."""

    value: Any
    seconds: float


class Program(NamedTuple):
    """A compiled program, and what tracing (with lowering) and XLA's compilation took."""

    call: Any
    trace_s: float
    compile_s: float


def parser(description: str | None) -> argparse.ArgumentParser:
    """The flags that both benchmarks have."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument("--config", default="configs/digits.py", help="a Python file with get_config() (%(default)s)")
    p.add_argument("--size", choices=SIZES, help="replace the config's image and network by published sizes")
    p.add_argument("--batch", type=int, help="images per step, or samples per batch (the config's)")
    p.add_argument("--dtype", choices=choices("training.compute_dtype"), help="compute dtype (the config's)")
    p.add_argument("--repeats", type=int, default=5, help="timed runs of each program (%(default)s)")
    p.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="any field; repeatable")
    p.add_argument("--json", type=pathlib.Path, help="write the figures here")
    p.add_argument("--overwrite", action="store_true", help="replace an existing --json file")
    return p


def make_config(arguments: argparse.Namespace, fields: dict[str, Any]) -> Config:
    """The file's config, changed by --size, by the fields that are not None and by --set, in this order; validated.

    Its images are replaced by random ones (see `build`), so no data need be there. Raises UsageError.
    """
    require(arguments.repeats >= 1, f"--repeats {arguments.repeats} must be at least 1")
    check_json(arguments)
    changes = SIZES.get(arguments.size, {}) | {"training.compute_dtype": arguments.dtype} | fields
    changes = {name: value for name, value in changes.items() if value is not None}
    changes |= dict(map(_assignment, arguments.set))
    config = load(arguments.config)
    for name, value in (changes | {"data.name": "array", "data.path": "random images"}).items():
        require_field(name, prefix="")
        section, _, field = name.rpartition(".")
        parent: Any = config[section] if section else config
        try:
            parent[field] = value
        except TypeError:
            raise UsageError(wrong_type(name, value)) from None
    validate(config)
    return config


def check_json(arguments: argparse.Namespace) -> None:
    """UsageError where --json names a file that is there, without --overwrite."""
    taken = arguments.json is not None and arguments.json.exists() and not arguments.overwrite
    require(not taken, f"--json {arguments.json} exists: name another file or add --overwrite")


def _assignment(text: str) -> tuple[str, Any]:
    """The name and value of section.field=value; what is no Python literal is a string."""
    name, equals, value = text.partition("=")
    require(equals, f"--set {text} has no value: write --set section.field=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def build(config: Config) -> "Experiment":
    """The config's experiment over random uint8 images, with the persistent compilation cache off."""
    import jax
    import numpy as np

    from score_sde import experiment

    jax.config.update("jax_enable_compilation_cache", False)
    shape = (IMAGES, config.data.image_size, config.data.image_size, config.data.num_channels)
    with tempfile.TemporaryDirectory() as folder:
        config.data.path = f"{folder}/images.npz"
        labels: dict[str, Any] = {"label": np.arange(IMAGES) % 10} if "label" in config.data.condition else {}
        np.savez(config.data.path, images=np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8), **labels)
        built = experiment.build(config)
        _ = built.data  # read while they are there
    config.data.path = "random images"
    return built


def training_program(experiment: "Experiment") -> Any:
    """(state, frozen parts, batches [K, ...]) -> (state, metrics): what training compiles, on one device; jitted."""
    import jax

    from score_sde.networks.remat import compiler_options
    from score_sde.training.step import make_train_step

    update = make_train_step(experiment.loss, experiment.optimizers, experiment.averages)
    return jax.jit(update, donate_argnums=0, compiler_options=compiler_options(experiment.platform.name))


def timed(call: Callable[[], Any]) -> Timed:
    """Run, wait for the result, look at the clock."""
    import jax

    start = time.perf_counter()
    value = jax.block_until_ready(call())
    return Timed(value, time.perf_counter() - start)


def compile_program(jitted: Any, *arguments: Any) -> Program:
    """Trace and compile a jitted function for its arguments, each by its own clock."""
    lowered = timed(lambda: jitted.lower(*arguments))
    compiled = timed(lambda: lowered.value.compile())
    return Program(compiled.value, lowered.seconds, compiled.seconds)


def matmul_rate(dtype: str, repeats: int = 5) -> float:
    """FLOP/s of square matrix products (2048 on CPU, 8192 elsewhere), two chained per run; the best run."""
    import jax

    n = 2048 if jax.default_backend() == "cpu" else 8192
    a = (jax.random.normal(jax.random.key(0), (n, n)) / n**0.5).astype(dtype)
    product = jax.jit(lambda x: x @ a @ a)
    timed(lambda: product(a))
    return 2 * 2 * n**3 / min(timed(lambda: product(a)).seconds for _ in range(repeats))


def milliseconds(seconds: Sequence[float]) -> tuple[float, float]:
    """Minimum and median, in ms."""
    return 1e3 * min(seconds), 1e3 * statistics.median(seconds)


def peak_memory() -> Row:
    """Peak MB of this process so far, and of the device where it keeps count (None elsewhere)."""
    import jax

    unit = 1 if sys.platform == "darwin" else 1024
    device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "host_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6,
        "device_peak_mb": None if device is None else device / 1e6,
    }


def report(
    title: str, script: str, argv: Sequence[str], config: Config, rows: list[Row], json: Any, **more: list[Row]
) -> None:
    """Print the table and, where `json` names a file, write everything needed to read it later; no path, no host.

    more: further tables by their names.
    """
    record = {
        "benchmark": title,
        "command": shlex.join(["python", f"benchmarks/{pathlib.Path(script).name}", *map(_without_path, argv)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "config": config.to_dict(),
        "rows": rows,
        **more,
    }
    print(f"{title} on {', '.join(str(v) for v in record['machine'].values())}")
    for table in (rows, *more.values()):
        print(_table(table))
    if json is not None:
        write_json(json, record)


def _without_path(argument: str) -> str:
    """An argument with an absolute path made relative to the repository, or cut to its name outside it."""
    flag, equals, value = argument.rpartition("=")
    path = pathlib.Path(value)
    if not path.is_absolute():
        return argument
    return flag + equals + (str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name)


def machine() -> Row:
    import jax

    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }


def _table(rows: list[Row]) -> str:
    """Rows of the same keys as right-aligned columns."""
    cells = [list(rows[0]), *([_text(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths)) for line in cells)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return "-" if value is None else str(value)
