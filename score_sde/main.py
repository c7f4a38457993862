"""The command line: flags, modes and exit codes. Nothing heavy is imported before the config is validated."""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from score_sde.config import default, flatten, nearest, validate
from score_sde.errors import UsageError, require

MODES = ("train", "sample")

HELP = """\
usage: python launch.py --config configs/digits.py [--workdir runs/digits] [--mode train|sample] [--overwrite]
                        [--config.<section>.<field>=value ...]

  --config     a Python file with get_config(), such as configs/digits.py
  --workdir    where the run lives; runs/<config name> if not given
  --mode       train (default): train, or resume what is in workdir, then draw samples
               sample: draw sampling.num_samples samples from the newest checkpoint
  --overwrite  with --mode sample: replace samples of the same name drawn with other settings

exit codes: 0 done, 2 bad usage or config, 3 training stopped on a loss that is not finite,
            130 or 143 stopped by SIGINT or SIGTERM after a checkpoint was written

fields and their defaults:
"""


class Arguments(NamedTuple):
    """The parsed command line."""

    config: ConfigDict
    workdir: pathlib.Path
    mode: str
    overwrite: bool


def console() -> None:
    """Entry point of the `score-sde` script."""
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    if any(a in ("--help", "-help", "-h") for a in argv[1:]):
        print(HELP + "\n".join(f"  --config.{name}={value!r}" for name, value in flatten(default()).items()))
        return 0
    try:
        arguments = parse(argv)
        validate(arguments.config)
        return _run(arguments)
    except UsageError as error:
        print(f"score-sde: {error}", file=sys.stderr)
        return 2


def parse(argv: Sequence[str]) -> Arguments:
    """Parse flags and load the config file; UsageError for anything that does not fit."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "config file", flag_values=values, sys_argv=list(argv))
    flags.DEFINE_string("workdir", None, "run directory", flag_values=values)
    flags.DEFINE_string("mode", "train", "what to do", flag_values=values)
    flags.DEFINE_bool("overwrite", False, "replace samples", flag_values=values)
    require(
        any(a.split("=")[0] in ("--config", "-config") for a in argv[1:]),
        "--config is missing: name a config file, such as --config configs/digits.py",
    )
    rest = _parse_flags(values, argv)
    require(len(rest) == 1, f"{rest[1:]} is not understood: arguments are --flags, see --help")
    mode = values["mode"].value
    require(mode in MODES, f"--mode {mode} is unknown: {nearest(mode, MODES)}")
    overwrite = values["overwrite"].value
    require(
        mode == "sample" or not overwrite, "--overwrite goes with --mode sample: to train anew, choose another --workdir"
    )
    config = values["config"].value
    require(isinstance(config, ConfigDict), f"the config file returned a {type(config).__name__}, not a ConfigDict")
    name = pathlib.Path(str(config_flags.get_config_filename(values["config"]))).stem
    return Arguments(config, pathlib.Path(values["workdir"].value or f"runs/{name}"), mode, overwrite)


def _parse_flags(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """absl's parsing with every complaint turned into a UsageError."""
    try:
        return values(list(argv), known_only=False)
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        if name.startswith("config."):
            fields = [f"config.{field}" for field in flatten(default())]
            raise UsageError(f"--{name} is not a config field: {nearest(name, fields)}") from None
        raise UsageError(f"--{name} is unknown: {nearest(name, ('config', 'workdir', 'mode', 'overwrite'))}") from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(_one_line(error)) from None


def _one_line(error: BaseException) -> str:
    """The last line of a message, where the reason stands in the multi-line ones of config files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _run(arguments: Arguments) -> int:
    """Check the workdir, then import jax and do the work."""
    from score_sde.workdir import Workdir

    workdir = Workdir(arguments.workdir)
    if arguments.mode == "train":
        workdir.check(arguments.config)
    else:
        require(workdir.config.exists(), f"--workdir {workdir.path} holds no run: train first, or name the right one")
        workdir.check(arguments.config)
    from score_sde import modes

    modes.start_jax()
    actions: dict[str, Any] = {"train": modes.train, "sample": modes.sample}
    return actions[arguments.mode](arguments.config, workdir, arguments.overwrite)
