"""The command line: flags, modes and exit codes. Nothing heavy is imported before the config is validated."""

import os
import pathlib
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from score_sde.cli import exporting, processes
from score_sde.cli.phases import phases
from score_sde.config import Config, find, load, nearest, one_line, require_field, wrong_type
from score_sde.config.editing_checks import is_edited
from score_sde.config.guide import help_lines
from score_sde.config.system_checks import check_mode
from score_sde.config.validation import check_likelihood, validate
from score_sde.errors import CheckpointError, UsageError, require

MODES = ("train", "sample", "likelihood", "evaluate", "report", "forecast", "import", "export")
REPLACING = ("sample", "likelihood", "evaluate", "export")
"""Modes that may replace what is there."""
OWN_FLAGS = ("config", "workdir", "mode", "overwrite", "checkpoint", "distributed", "connect_timeout")
FLAGS = (*OWN_FLAGS, *exporting.FLAGS, *processes.FLAGS)
PROGRAMS = {"score-sde": "score-sde", "__main__.py": "python -m score_sde"}
"""How this program is started, by the name of what runs; by launch.py otherwise."""

HELP = """\
usage: python launch.py --config configs/digits.py [--workdir runs/digits]
                        [--mode train|sample|likelihood|evaluate|report|forecast|import|export]
                        [--overwrite] [--checkpoint path] [--format name] [--output path]
                        [--config.<section>.<field>=value ...]

  --config     a Python file with get_config(), or the name of one below configs/, such as digits
  --workdir    where the run lives; if not given, runs/<path of the config below configs/>, without .py
  --mode       train (default): train, or resume what is in workdir, then draw samples
               sample: draw sampling.num_samples samples from the newest checkpoint
               evaluate: Fréchet and kernel inception distances and others of evaluation.num_samples samples, or of the
               pictures at evaluation.samples, which needs no run; goes on where it was stopped
               likelihood: bits or nats per dimension of every example of likelihood.split; goes on where it was stopped
               import: make a new workdir of another program's checkpoint, to sample from or to train on
               report: write report/index.html, a page about the newest checkpoint; an earlier one is replaced
               forecast: memory, time and communication on parallel.topology, such as v5e:4x4 or h100, without a device
               export: write the newest checkpoint's weights, by sampling.average, as another program's file
  --overwrite  with --mode sample: replace samples of the same name drawn with other settings; with --mode likelihood:
               or evaluate: replace the figures of other settings; with --mode export: replace what was exported there
  --checkpoint with --mode import: a checkpoint of the official JAX or PyTorch code, a directory of them, or a directory
               of a diffusers UNet2DModel
  --format     with --mode export: safetensors (the names of the official PyTorch code), diffusers (a directory, for
               networks that UNet2DModel has) or jax (a checkpoint_<step> of the official JAX code)
  --output     with --mode export: where to write; if not given, export/<format>-<step> in the run

several processes, one command on each host; Slurm's srun and Kubernetes jobs need none of these flags:
  --coordinator host:port of process 0, --num_processes how many, --process_id 0, 1, ... which one this is
  --connect_timeout  seconds that they wait for one another, 300 unless given
  --distributed  ask the cluster, as on TPU VMs, although the environment tells of none (--nodistributed: never ask)

exit codes: 0 done, 2 bad usage or config, 3 training stopped on a loss that is not finite,
            4 another process of the run was lost (134 where jax itself notices first, as with process 0),
            5 a file could not be written, as on a full disk, 6 results are written, and not all of them are finite,
            129, 130 or 143 stopped by SIGHUP, SIGINT or SIGTERM, what was done until then kept (docs/errors.md)

fields, their defaults and what they mean (--help sampling shows one section; docs/config.md has them all):

"""


class Arguments(NamedTuple):
    """The parsed command line."""

    config: Config
    workdir: pathlib.Path
    mode: str
    overwrite: bool
    checkpoint: str
    format: str
    output: str | None
    command: str
    """The command line without the mode and what belongs to it."""
    processes: processes.Processes | None
    """None: alone."""
    connect_timeout: int = 300
    """Seconds for all processes to come."""


def console() -> None:
    """Entry point of the `score-sde` script."""
    sys.path.insert(0, "")  # as under `python launch.py`, where config files may import one another
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    arguments = None
    try:
        argv = [part for a in argv for part in (a.split("=", 1) if a.startswith("--help=") else [a])]
        if asked := [i for i, a in enumerate(argv) if i and a in ("--help", "-help", "-h")]:
            section = argv[asked[0] + 1 : asked[0] + 2]
            return _help(section[0] if section and not section[0].startswith("-") else None, _program(argv[0]))
        arguments = parse(argv)
        validate(arguments.config)
        check_mode(arguments.config, arguments.mode)
        if arguments.mode == "likelihood":
            check_likelihood(arguments.config)
        return _run(arguments)
    except KeyboardInterrupt:
        code, why = 130, _tell("interrupted; the same command begins again at what was kept before")
    except UsageError as error:
        code, why = 2, _tell(error)
    except CheckpointError as error:
        code, why = 5, _tell(error)
    except OSError as error:
        if not error.strerror:
            raise
        code, why = unwritable(error), error.strerror
    except Exception as error:
        if arguments is None or arguments.processes is None:
            raise
        code, why = 1, _tell_of_a_bug(error)
    if arguments is not None and arguments.processes is not None:
        processes.leave(arguments.processes, code, why)
    return code


def _program(started: str) -> list[str]:
    """The words that start this program again, of what runs."""
    return PROGRAMS.get(pathlib.PurePath(started).name, "python launch.py").split()


def _help(section: str | None, program: list[str]) -> int:
    """Print everything, or one section of the fields; a reader that has seen enough, such as head, is no error."""
    lines = list(help_lines(section))
    try:
        text = HELP.replace("python launch.py", " ".join(program))
        print("\n".join([*(text.splitlines() if section is None else ()), *lines]), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
    return 0


def unwritable(error: OSError) -> int:
    """Tell of a file that cannot be written or read; the exit code."""
    remedy = "free some space or mend it, and start again: the same command goes on from what is whole"
    _tell(f"{error.filename or 'a file'} cannot be used ({error.strerror}): {remedy}")
    return 5


def _tell(error: object) -> str:
    print(f"score-sde: {error}", file=sys.stderr)
    return str(error)


def _tell_of_a_bug(error: Exception) -> str:
    """Where the error is the echo of another process's end, that is told instead, and ends this process too."""
    from score_sde.devices.distributed import await_the_watch

    await_the_watch(error)
    traceback.print_exc()
    return one_line(error)


def parse(argv: Sequence[str]) -> Arguments:
    """Parse flags and load the config file; UsageError for anything that does not fit."""
    own = flags.FlagValues()
    for name in ("config", "workdir", "checkpoint", "coordinator", *exporting.FLAGS):
        flags.DEFINE_string(name, None, name, flag_values=own)
    flags.DEFINE_string("mode", "train", "mode", flag_values=own)
    flags.DEFINE_bool("overwrite", False, "overwrite", flag_values=own)
    flags.DEFINE_bool("distributed", None, "distributed", flag_values=own)
    for name in ("num_processes", "process_id", "connect_timeout"):
        flags.DEFINE_integer(name, None, name, flag_values=own)
    fields = _parse_flags(own, argv, known_only=True)
    given: dict[str, Any] = {name: own[name].value for name in FLAGS}
    path, workdir, mode, overwrite, checkpoint = (given[name] for name in FLAGS[:5])
    require(path, "--config is missing: name a config file, such as --config configs/digits.py")
    require(mode in MODES, f"--mode={mode} is unknown: {nearest(mode, MODES)}")
    require(workdir != "", "--workdir= is empty: name a directory, or leave it out for runs/<config name>")
    require(
        mode in REPLACING or not overwrite,
        f"--overwrite does not go with --mode={mode}, only with {', '.join(f'--mode={m}' for m in REPLACING)}: choose"
        " another --workdir instead",
    )
    _check_checkpoint(mode, checkpoint)
    exporting.check(mode, given)
    path = find(path)
    config = _override(load(path), fields)
    place = pathlib.Path(workdir or default_workdir(path))
    command = shlex.join([*_program(argv[0]), "--config", given["config"], "--workdir", str(place), *fields[1:]])
    several, wait = processes.asked(given, mode), given["connect_timeout"]
    require(wait is None or several is not None, f"--connect_timeout={wait} is for several processes: leave it out")
    require(wait is None or wait > 0, f"--connect_timeout={wait} must be positive: give it in seconds")
    written = (given["format"] or "", given["output"])
    return Arguments(config, place, mode, overwrite, checkpoint or "", *written, command, several, wait or 300)


def default_workdir(config: str) -> str:
    """runs/<path below the innermost directory `configs`, without .py>; runs/<name> for a file outside of one."""
    parts = pathlib.Path(os.path.normpath(config)).with_suffix("").parts
    below = max((i + 1 for i, part in enumerate(parts[:-1]) if part == "configs"), default=len(parts) - 1)
    return str(pathlib.Path("runs", *parts[below:]))


def _check_checkpoint(mode: str, checkpoint: str | None) -> None:
    if mode != "import":
        require(checkpoint is None, f"--checkpoint={checkpoint} does not go with --mode={mode}: add --mode=import")
        return
    require(checkpoint, "--checkpoint is missing: name the file or directory to import, such as --checkpoint model.pth")
    assert checkpoint is not None
    exists = os.path.exists(os.path.expanduser(checkpoint))
    require(exists, f"--checkpoint={checkpoint} does not exist: name the file or directory to import")


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
    from score_sde.storage.workdir import Workdir

    workdir, c = Workdir(arguments.workdir), arguments.config.training
    runs = list(phases(arguments.config, arguments.workdir))
    topology = arguments.config.parallel.topology
    require(
        bool(topology) == (arguments.mode == "forecast"),
        f"parallel.topology={topology!r} does not go with --mode={arguments.mode}: --mode=forecast takes one, such as"
        " v5e:4x4, and no other mode does",
    )
    for section, on, does in (
        ("measurement.path", bool(arguments.config.measurement.path), "answers measurements"),
        ("editing.name", is_edited(arguments.config), "edits examples"),
    ):
        require(
            arguments.mode == "sample" or not on,
            f"{section}={arguments.config[section]!r} does not go with --mode={arguments.mode}: --mode=sample {does},"
            " and no other mode does",
        )
    if arguments.mode == "forecast":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # what it compiles for is not here
    elif arguments.mode == "import":
        require(
            not c.start_from,
            f"training.start_from={c.start_from} does not go with --mode=import: leave one of them out",
        )
        workdir.check_new()
    else:
        needless = arguments.mode == "train" or (arguments.mode == "evaluate" and arguments.config.evaluation.samples)
        for phase in runs:
            Workdir(phase.workdir).check(phase.config, trained=not needless)
    from score_sde.devices import distributed

    if arguments.processes is not None:
        distributed.start(*arguments.processes, timeout=arguments.connect_timeout)
        processes.agree(arguments.config, workdir.path, mode=arguments.mode, overwrite=arguments.overwrite)
    if arguments.mode == "train":
        from score_sde.devices.parallel import check_batch_size  # jax and the devices, but not yet the slow rest

        check_batch_size("training.batch_size", c.batch_size, c.microbatches)
    from score_sde.cli import evaluating, forecasting, likelihood, modes

    modes.start_jax()
    actions: dict[str, Any] = {
        "train": modes.train,
        "sample": lambda config, workdir: modes.sample(config, workdir, arguments.overwrite),
        "likelihood": lambda config, workdir: likelihood.likelihood(config, workdir, arguments.overwrite),
        "evaluate": lambda config, workdir: evaluating.evaluate(config, workdir, arguments.overwrite),
        "forecast": forecasting.forecast,
        "import": lambda config, workdir: modes.import_(config, workdir, arguments.checkpoint, arguments.command),
        "export": lambda config, workdir: exporting.export(
            config, workdir, arguments.format, arguments.output, arguments.overwrite
        ),
        "report": lambda config, workdir: modes.report(config, workdir, arguments.command),
    }
    code = modes.ended(lambda: modes.in_turn(runs, actions[arguments.mode]))
    if arguments.processes is not None:
        distributed.leave(code)
    return code
