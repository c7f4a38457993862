"""The command line: flags, modes and exit codes. Nothing heavy is imported before the config is validated."""

import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from score_sde.config import Config, default, flatten, load, nearest, one_line, require_field, validate, wrong_type
from score_sde.errors import UsageError, require

MODES = ("train", "sample")
FLAGS = ("config", "workdir", "mode", "overwrite")

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

    config: Config
    workdir: pathlib.Path
    mode: str
    overwrite: bool


def console() -> None:
    """Entry point of the `score-sde` script."""
    sys.path.insert(0, "")  # as under `python launch.py`, where config files may import one another
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
    except KeyboardInterrupt:
        return 130
    except UsageError as error:
        print(f"score-sde: {error}", file=sys.stderr)
        return 2


def parse(argv: Sequence[str]) -> Arguments:
    """Parse flags and load the config file; UsageError for anything that does not fit."""
    own = flags.FlagValues()
    for name, value in (("config", None), ("workdir", None), ("mode", "train")):
        flags.DEFINE_string(name, value, name, flag_values=own)
    flags.DEFINE_bool("overwrite", False, "overwrite", flag_values=own)
    fields = _parse_flags(own, argv, known_only=True)
    given: dict[str, Any] = {name: own[name].value for name in FLAGS}
    path, workdir, mode, overwrite = (given[name] for name in FLAGS)
    require(path, "--config is missing: name a config file, such as --config configs/digits.py")
    require(mode in MODES, f"--mode={mode} is unknown: {nearest(mode, MODES)}")
    require(workdir != "", "--workdir= is empty: name a directory, or leave it out for runs/<config name>")
    require(
        mode == "sample" or not overwrite,
        f"--overwrite does not go with --mode={mode}, only with --mode=sample: to train anew, choose another --workdir",
    )
    config = _override(load(path), fields)
    return Arguments(config, pathlib.Path(workdir or f"runs/{pathlib.Path(path).stem}"), mode, overwrite)


def _override(config: Config, arguments: Sequence[str]) -> Config:
    """The config with every --config.<section>.<field>=value applied; arguments[0] is the program."""
    for argument in arguments[1:]:
        if match := re.match(r"--?(?:no)?config\.([^=]*)", argument):
            require_field(match[1])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=list(arguments))
    stray = _parse_flags(values, arguments)[1:]
    require(not stray, f"{' '.join(stray)} is not understood: arguments are --flags, see --help")
    overridden: Any = values["config"].value
    return overridden


def _parse_flags(values: flags.FlagValues, argv: Sequence[str], known_only: bool = False) -> list[str]:
    """Parsing by absl with every complaint turned into a UsageError; returns argv[0] and what is left over."""
    values.set_gnu_getopt()
    try:
        return values(list(argv), known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        raise UsageError(f"--{error.flagname} is unknown: {nearest(error.flagname, FLAGS, '--')}") from None
    except flags.IllegalFlagValueError as error:
        flag = str(error).removeprefix("flag ").split(": ")[0]
        name, _, value = flag.removeprefix("--config.").partition("=")
        ours = flag.startswith("--config.")
        raise UsageError(wrong_type(name, value) if ours else f"{flag} is not understood: see --help") from None
    except flags.Error as error:
        raise UsageError(f"{one_line(error)}: see --help") from None


def _run(arguments: Arguments) -> int:
    """Check the workdir, then import jax and do the work."""
    from score_sde.workdir import Workdir

    workdir = Workdir(arguments.workdir)
    workdir.check(arguments.config, trained=arguments.mode != "train")
    if arguments.mode == "train":
        from score_sde.parallel import check_batch_size  # jax and the devices, but not yet the slow rest

        check_batch_size("training.batch_size", arguments.config.training.batch_size)
    from score_sde import modes

    modes.start_jax()
    actions: dict[str, Any] = {"train": modes.train, "sample": modes.sample}
    return actions[arguments.mode](arguments.config, workdir, arguments.overwrite)
