"""--mode export: a run's parameters as a file of another program."""

from typing import Any

from score_sde.config import Config, nearest
from score_sde.errors import require
from score_sde.storage.workdir import Workdir

FORMATS = ("safetensors", "diffusers", "jax")
"""The words of --format; experiment/exporting.py has their writers."""
FLAGS = ("format", "output")


def check(mode: str, given: dict[str, Any]) -> None:
    """UsageError for flags of an export that do not go with the mode, or a format that is none."""
    if mode != "export":
        for name in FLAGS:
            require(given[name] is None, f"--{name}={given[name]} does not go with --mode={mode}: add --mode=export")
        return
    require(given["format"], f"--format is missing: choose from {', '.join(FORMATS)}")
    require(given["format"] in FORMATS, f"--format={given['format']} is unknown: {nearest(given['format'], FORMATS)}")
    require(given["output"] != "", "--output= is empty: name a file or directory, or leave it out for one in the run")


def export(config: Config, workdir: Workdir, format: str, output: str | None, overwrite: bool) -> int:
    """Write the newest checkpoint's parameters as `format` says, and tell where; returns the exit code."""
    from score_sde.experiment.building import build
    from score_sde.experiment.exporting import export_checkpoint

    done = export_checkpoint(build(config, workdir.record()), workdir, format, output or "", overwrite)
    print(f"exported to {done}")
    return 0
