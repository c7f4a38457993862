"""--mode forecast: memory, time and communication of a config's programs on devices that are not there."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from score_sde.cli.modes import aligned, say
from score_sde.config import Config, flatten
from score_sde.devices.chips import chip
from score_sde.devices.platform import platform
from score_sde.experiment import forecasting
from score_sde.experiment.forecasting import Forecast, gib
from score_sde.storage.workdir import Workdir, versions, write_json

HEADING = ("topology", "program", "GiB a chip", "of", "fits", "TFLOP", "ms", "at least", "of peak", "MB exchanged",
           "operations", "compiled in")  # fmt: skip


def forecast(config: Config, workdir: Workdir) -> int:
    """Every program on every topology of `parallel.topology`, in a table and in forecast/<topology>.json."""
    rows: list[tuple[str, ...]] = []
    for topology in config.parallel.topology.split(","):
        chip(topology)
    for topology in config.parallel.topology.split(","):
        one = config.copy_and_resolve_references()
        one.parallel.topology = topology
        with _without_cache():
            rows += _on(one, workdir)
    say(aligned([HEADING, *rows]))
    return 0


@contextmanager
def _without_cache() -> Iterator[None]:
    """What is compiled without its devices is written to jax's cache and cannot be read from it, with a warning."""
    before = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def _on(config: Config, workdir: Workdir) -> list[tuple[str, ...]]:
    """The rows of one topology, whose file is written."""
    topology = config.parallel.topology
    found, rows = list[Forecast](), list[tuple[str, ...]]()
    say(f"compiling for {topology}, which takes minutes for a large network ...", file=sys.stderr)
    for one in forecasting.forecasts(config):
        ended = f"refused, which needs {gib(one.memory.total)} GiB," if one.refused else "compiled"
        say(f"{topology}: {one.program} {ended} in {one.compile_seconds:.0f} s", file=sys.stderr)
        found.append(one)
        rows.append(row(topology, one))
    tried: list[dict[str, Any]] = []
    if found[0].fits is False:
        for changes, one in forecasting.remedy(config):
            words = " ".join(f"--config.{name}={value}" for name, value in changes.items())
            say(f"{topology}: {words}: {gib(one.memory.total)} GiB{', which fits' if one.fits else ''}")
            tried.append({"changes": changes, **as_json(one, topology)})
    place = workdir.path / "forecast" / f"{topology.replace(':', '-')}.json"
    facts = {"topology": topology, "chip": chip(topology)._asdict(), "config": flatten(config)}
    programs = [as_json(one, topology) for one in found]
    write_json(place, {**facts, "programs": programs, "tried": tried, "versions": versions()})
    say(f"{place} written")
    if platform(topology).name == "cuda":
        say(
            f"{topology}: cuDNN is not asked here: its workspace is in no figure, its attention in no program, and"
            " there is no time but the least"
        )
    return rows


def as_json(one: Forecast, topology: str) -> dict[str, Any]:
    """All that is known, bytes and seconds."""
    return {
        **dataclasses.asdict(one),
        "memory": {**one.memory._asdict(), "total": one.memory.total},
        "collectives": {kind: found._asdict() for kind, found in one.collectives.items()},
        "utilisation": one.utilisation(chip(topology).flops),
    }


def row(topology: str, one: Forecast) -> tuple[str, ...]:
    """A line of the table."""
    target = chip(topology)
    shown = lambda value, scale, digits: "" if value is None else f"{value * scale:.{digits}f}"
    exchanged = sum(size for _, size in one.collectives.values())
    return (
        topology,
        one.program,
        gib(one.memory.total),
        gib(target.memory) if target.memory else "",
        {True: "yes", False: "no", None: ""}[one.fits],
        f"{one.flops / 1e12:.3g}",
        shown(one.seconds, 1e3, 2),
        shown(one.at_least, 1e3, 2),
        shown(one.utilisation(target.flops), 100, 1) + ("%" if one.seconds else ""),
        "" if one.refused else f"{exchanged / 1e6:.1f}",
        "" if one.refused else f"{one.kernels:,}",
        f"{one.compile_seconds:.0f} s",
    )
