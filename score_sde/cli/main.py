"""The command line: flags, modes and exit codes. Nothing heavy is imported before the config is validated."""

import os
import pathlib
import re
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from score_sde.config import Config, find, load, nearest, one_line, require_field, wrong_type
from score_sde.config.guide import help_lines
from score_sde.config.validation import check_likelihood, validate
from score_sde.errors import CheckpointError, UsageError, require

MODES = ("train", "sample", "likelihood", "report", "import")
PROCESS_FLAGS = ("coordinator", "num_processes", "process_id")
PROGRAMS = {"score-sde": "score-sde", "__main__.py": "python -m score_sde"}
"""How this program is started, by the name of what runs; by launch.py otherwise."""
FLAGS = ("config", "workdir", "mode", "overwrite", "checkpoint", *PROCESS_FLAGS, "distributed")

HELP = """\
usage: python launch.py --config configs/digits.py [--workdir runs/digits]
                        [--mode train|sample|likelihood|report|import]
                        [--overwrite] [--checkpoint path] [--config.<section>.<field>=value ...]

  --config     a Python file with get_config(), or the name of one below configs/, such as digits
  --workdir    where the run lives; if not given, runs/<path of the config below configs/>, without .py
  --mode       train (default): train, or resume what is in workdir, then draw samples
               sample: draw sampling.num_samples samples from the newest checkpoint
               likelihood: bits or nats per dimension of every example of likelihood.split; goes on where it was stopped
               import: make a new workdir of another program's checkpoint, to sample from or to train on
               report: write report/index.html, a page about the newest checkpoint; an earlier one is replaced
  --overwrite  with --mode sample: replace samples of the same name drawn with other settings; with --mode likelihood:
               replace the figures of other settings
  --checkpoint with --mode import: a checkpoint of the official JAX or PyTorch code, a directory of them, or a directory
               of a diffusers UNet2DModel

several processes, one command on each host; Slurm's srun and Kubernetes jobs need none of these flags:
  --coordinator host:port of process 0, --num_processes how many, --process_id 0, 1, ... which one this is
  --distributed  ask the cluster, as on TPU VMs, although the environment tells of none (--nodistributed: never ask)

exit codes: 0 done, 2 bad usage or config, 3 training stopped on a loss that is not finite,
            4 another process of the run was lost (134 where jax itself notices first, as with process 0),
            5 a checkpoint or a file of the run could not be written,
            130 or 143 stopped by SIGINT or SIGTERM after a checkpoint was written

fields, their defaults and what they mean (--help sampling shows one section; docs/config.md has them all):

"""


class Arguments(NamedTuple):
    """The parsed command line."""

    config: Config
    workdir: pathlib.Path
    mode: str
    overwrite: bool
    checkpoint: str
    command: str
    """The command line without the mode and what belongs to it."""
    processes: tuple[str | None, int | None, int | None] | None
    """Coordinator, number of processes and index of this one, None each where the cluster tells; None: alone."""


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
        if arguments.mode == "likelihood":
            check_likelihood(arguments.config)
        return _run(arguments)
    except KeyboardInterrupt:
        code, why = 130, "interrupted"
    except UsageError as error:
        code, why = 2, _tell(error)
    except CheckpointError as error:
        code, why = 5, _tell(error)
    except OSError as error:
        if not (error.strerror and error.filename):
            raise
        remedy = "mend it and start again, to go on from the last checkpoint"
        code, why = 5, _tell(f"{error.filename} cannot be used ({error.strerror}): {remedy}")
    except Exception as error:
        if arguments is None or arguments.processes is None:
            raise
        code, why = 1, _tell_of_a_bug(error)
    if arguments is not None and arguments.processes is not None:
        _leave(code, why)
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


def _tell(error: object) -> str:
    print(f"score-sde: {error}", file=sys.stderr)
    return str(error)


def _tell_of_a_bug(error: Exception) -> str:
    """Where the error is the echo of another process's end, that is told instead, and ends this process too."""
    from score_sde.devices.distributed import await_the_watch

    await_the_watch(error)
    traceback.print_exc()
    return one_line(error)


def _leave(code: int, why: str) -> None:
    """End one process of several after a failure of its own: at once, as an orderly end would wait for the others."""
    from score_sde.devices.distributed import end_now, farewell

    farewell(why)
    end_now(code)


def parse(argv: Sequence[str]) -> Arguments:
    """Parse flags and load the config file; UsageError for anything that does not fit."""
    own = flags.FlagValues()
    for name in ("config", "workdir", "checkpoint", "coordinator"):
        flags.DEFINE_string(name, None, name, flag_values=own)
    flags.DEFINE_string("mode", "train", "mode", flag_values=own)
    flags.DEFINE_bool("overwrite", False, "overwrite", flag_values=own)
    flags.DEFINE_bool("distributed", None, "distributed", flag_values=own)
    for name in ("num_processes", "process_id"):
        flags.DEFINE_integer(name, None, name, flag_values=own)
    fields = _parse_flags(own, argv, known_only=True)
    given: dict[str, Any] = {name: own[name].value for name in FLAGS}
    path, workdir, mode, overwrite, checkpoint = (given[name] for name in FLAGS[:5])
    require(path, "--config is missing: name a config file, such as --config configs/digits.py")
    require(mode in MODES, f"--mode={mode} is unknown: {nearest(mode, MODES)}")
    require(workdir != "", "--workdir= is empty: name a directory, or leave it out for runs/<config name>")
    require(
        mode in ("sample", "likelihood") or not overwrite,
        f"--overwrite does not go with --mode={mode}, only with --mode=sample and --mode=likelihood: choose another"
        " --workdir instead",
    )
    _check_checkpoint(mode, checkpoint)
    path = find(path)
    config = _override(load(path), fields)
    place = pathlib.Path(workdir or default_workdir(path))
    command = shlex.join([*_program(argv[0]), "--config", given["config"], "--workdir", str(place), *fields[1:]])
    return Arguments(config, place, mode, overwrite, checkpoint or "", command, _processes(given, mode))


def _processes(given: dict[str, Any], mode: str) -> tuple[str | None, int | None, int | None] | None:
    """What start() is to be told of the processes, None for a single one; UsageError for half of an answer."""
    address, count, index = (given[name] for name in PROCESS_FLAGS)
    said = [f"--{name}={given[name]}" for name in PROCESS_FLAGS if given[name] is not None]
    if not said:
        found = cluster() if given["distributed"] is None else given["distributed"]
        return (None, None, None) if found and mode != "import" else None
    require(
        len(said) == 3 and given["distributed"] is not False,
        f"{' '.join(said)} alone do not name a run of several processes: give --coordinator host:port, --num_processes"
        " and --process_id together, or none of them",
    )
    require(mode != "import", f"--coordinator={address} does not go with --mode=import, which one process does")
    port = address.rpartition(":")[2]
    require(port.isdigit(), f"--coordinator={address} has no port: name host:port of process 0, such as host0:1234")
    require(count >= 1, f"--num_processes={count} must be at least 1")
    require(0 <= index < count, f"--process_id={index} must lie between 0 and --num_processes - 1 = {count - 1}")
    return address, count, index


def cluster(environment: Mapping[str, str] = os.environ) -> str | None:
    """The cluster that started several processes of which this is one, None where nothing tells of it."""
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return "Slurm"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in environment:
        return "TPU pod"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    return None


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
    if arguments.mode == "import":
        require(not c.start_from, f"training.start_from={c.start_from} does not go with --mode=import: leave it out")
        workdir.check_new()
    else:
        workdir.check(arguments.config, trained=arguments.mode != "train")
    from score_sde.devices import distributed

    if arguments.processes is not None:
        distributed.start(*arguments.processes)
    if arguments.mode == "train":
        from score_sde.devices.parallel import check_batch_size  # jax and the devices, but not yet the slow rest

        check_batch_size("training.batch_size", c.batch_size, c.microbatches)
    from score_sde.cli import modes

    modes.start_jax()
    actions: dict[str, Any] = {
        "train": modes.train,
        "sample": lambda config, workdir: modes.sample(config, workdir, arguments.overwrite),
        "likelihood": lambda config, workdir: modes.likelihood(config, workdir, arguments.overwrite),
        "import": lambda config, workdir: modes.import_(config, workdir, arguments.checkpoint, arguments.command),
        "report": lambda config, workdir: modes.report(config, workdir, arguments.command),
    }
    code = actions[arguments.mode](arguments.config, workdir)
    if arguments.processes is not None:
        distributed.leave(code)
    return code
