"""What an update of a student costs, as a ratio to an update of a score of the same network and batch, side by side.

    python benchmarks/students.py --score configs/digits_velocity.py --students configs/digits_distilled.py
    python benchmarks/students.py --score configs/digits_edm.py --students configs/digits_ct.py configs/digits_ect.py

The very functions that training compiles, --updates of them in a call (15, which is once a lazy penalty's period), over
random data and a fresh teacher, called in turn: the score's, the first student's, the second one's, and again. Per row:
step_ms_min and _median of one update, ratio (of the medians over the same rounds), compile_s. Exit codes: 0 done, 2 bad
usage or config.
"""

import dataclasses
import pathlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.config import Config, load
from score_sde.errors import UsageError, require


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--score", default="configs/digits_edm.py", help="the score's config (%(default)s)")
    parser.add_argument("--students", nargs="+", required=True, help="configs of systems with the score's network")
    parser.add_argument("--updates", type=int, default=15, help="updates in a call (%(default)s)")
    arguments = parser.parse_args(argv[1:])
    arguments.config = arguments.score
    try:
        require(arguments.updates >= 1, f"--updates {arguments.updates} must be at least 1")
        config = common.make_config(arguments, {"training.batch_size": arguments.batch})
        students = {pathlib.Path(path).stem: student(load(path), config) for path in arguments.students}
        rows = measure(config, students, arguments.updates, arguments.repeats)
    except UsageError as error:
        print(f"students: {error}", file=sys.stderr)
        return 2
    common.report("updates of students", argv[0], argv[1:], config, rows, arguments.json)
    return 0


def student(config: Config, score: Config) -> Config:
    """The student's config over the same data, in batches of the same size."""
    config.data.update(score.data)
    config.training.batch_size = score.training.batch_size
    if config.system.name == "distilled" and len(config.distillation.steps) > 1:
        steps = config.distillation.steps[:1]
        config.distillation.update(steps=steps, updates=())
        config.sampling.num_steps = steps[0]
    if config.system.name == "reflow":
        config.reflow.update(pairs=config.training.batch_size, num_steps=1)  # which pairs they are changes no time
    return config


def measure(config: Config, students: dict[str, Config], updates: int, repeats: int) -> list[common.Row]:
    """A row for the score and for every student."""
    experiment = common.build(config)

    import jax

    from score_sde.config.validation import validate
    from score_sde.experiment.building import assemble
    from score_sde.experiment.factories import SYSTEMS
    from score_sde.experiment.frozen import Frozen, Record

    teacher = Frozen(Record("", 0, "", ""), experiment, experiment.init_params())
    experiments: dict[str, Any] = {"score": experiment}
    for name, own in students.items():
        validate(own)
        built = assemble(own, experiment.spec, SYSTEMS[own.system.name], {"teacher": teacher})
        frozen = dict.fromkeys(built.system.frozen, teacher)
        built = dataclasses.replace(built, frozen=frozen)
        built.__dict__["data"] = experiment.data
        experiments[name] = built
    calls, states = {}, {}
    for name, built in experiments.items():
        step = common.training_program(built)
        batches = jax.device_put(built.stream.batches(0, config.training.batch_size, updates))
        states[name], frozen = built.initial_state(), built.frozen_params
        program = common.compile_program(step, states[name], frozen, batches)
        calls[name] = program, frozen, batches
        print(f"{name}: compiled in {program.compile_s:.0f} s", file=sys.stderr, flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, (program, frozen, batches) in calls.items():
            found = common.timed(lambda c=program.call, s=states[name], f=frozen, b=batches: c(s, f, b))
            states[name], _metrics = found.value
            seconds[name].append(found.seconds / updates)
    return [_row(name, calls[name][0], seconds[name][1:], seconds["score"][1:]) for name in calls]


def _row(name: str, program: common.Program, own: list[float], score: list[float]) -> common.Row:
    low, median = common.milliseconds(own)
    ratio = statistics.median(own) / statistics.median(score)
    return {
        "system": name,
        "step_ms_min": low,
        "step_ms_median": median,
        "ratio": ratio,
        "compile_s": program.compile_s,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv))
