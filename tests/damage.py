"""Results that are damaged, disks that fill, programs that are killed: python -m tests.damage [damages fills kills]

Of every kind of result, a row of KINDS: a file of it is cut, flipped in a bit, emptied, overwritten or removed, and the
same command is given again; the disk is full from some write on, and then has room again; the program is killed at a
random moment, and started again. In the end the results are, to the byte, those of an undisturbed run, or the command
refuses with exit code 2 and names the file. docs/reliability.md has the figures.
"""

import contextlib
import io
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from score_sde.cli.main import main as launch
from score_sde.config import Config
from score_sde.reporting import measure, report, rows
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import Workdir
from tests import light
from tests.adapters.official import JAX_FILE, experiment_of
from tests.disk import DAMAGES, damage, filling
from tests.processes import end, environment, kill, start

RUN = ("--config.training.num_steps=4", "--config.logging.samples_every=2", "--config.ema.snapshot_every=2",
       "--config.ema.averages=('warmup','power')", "--config.sampling.num_samples=36",
       "--config.evaluation.final_samples=36", "--config.likelihood.num_images=24", "--config.likelihood.batch_size=8",
       "--config.likelihood.rtol=0.1", "--config.likelihood.atol=0.1",
       "--config.likelihood.bound_samples=2", "--config.evaluation.features=pixels",
       "--config.evaluation.num_samples=24", "--config.evaluation.num_data=64")  # fmt: skip


def get_config() -> Config:
    """The shallow network, with a report of few rows; this file is the runs' config."""
    rows.BUDGETS, rows.CANDIDATES, measure.NODES = (10,), ("euler", "ancestral"), 4
    report.PATHS, report.LOOKED_AT = ("ancestral",), 8
    return light.get_config()


IMPORTED = """
from tests.adapters.official import config_of
def get_config():
    return config_of("ckpt_jax_expected")
"""
"""The config of an import, as a file's text."""


class Kind(NamedTuple):
    """A kind of result: the mode that makes it, and the files that count, as patterns below the run's directory.

    read_again: whether the same command looks at them again; else they are not damaged here. timed: those of a folder
    in which seconds stand, which are whole but never the same. once: it is made of nothing, and not a second time.
    """

    name: str
    mode: tuple[str, ...]
    files: tuple[str, ...]
    read_again: bool = True
    timed: tuple[str, ...] = ()
    once: bool = False


KINDS = [
    # imports first: get_config puts another network in the place of theirs
    Kind("imports", ("--mode=import", f"--checkpoint={JAX_FILE}"), ("config.json",), read_again=False, once=True),
    Kind("samples", ("--mode=sample",), ("samples/ancestral-4-seed0/*",)),
    Kind("likelihoods", ("--mode=likelihood",), ("likelihood/*",)),
    Kind("final figures", ("--mode=train",), ("samples/final_*.png", "evaluation/*")),
    Kind("evaluations", ("--mode=evaluate",), ("evaluation/*pixels*/*",), timed=("report.json",)),
    Kind("reports", ("--mode=report",), ("report/*",), timed=("index.html", "numbers.json", "distance.png")),
    Kind("grids and snapshots", (), ("samples/step_*.png", "averages/*"), read_again=False),
]


class Trial:
    """A run's directory to be spoilt: a copy of a trained one, or of nothing for what training itself makes."""

    def __init__(self, kind: Kind, folder: pathlib.Path, env: dict[str, str]) -> None:
        self.kind, self.folder, self.env = kind, folder, env
        self.begun, self.made = folder / f"{kind.name}-begun", folder / f"{kind.name}-made"
        if kind.mode and not kind.once:
            self._must(self.begun)
            for path in self.begun.rglob("*"):
                if any(path.match(pattern) for pattern in kind.files) and path.is_file():
                    path.unlink()  # what training itself ends with
        else:
            self.begun.mkdir()
        shutil.copytree(self.begun, self.made)
        self._must(self.made, *kind.mode)
        self.expected = self.contents(self.made)
        assert self.expected, f"{kind.name} leaves no file"

    def fresh(self, of: pathlib.Path) -> pathlib.Path:
        """A copy to work in."""
        path = self.folder / "trial"
        shutil.rmtree(path, ignore_errors=True)
        return pathlib.Path(shutil.copytree(of, path))

    def contents(self, run: pathlib.Path) -> dict[str, bytes]:
        """The files that count, but for locks."""
        found = [path for pattern in self.kind.files for path in run.glob(pattern)]
        found = [path for path in found if path.is_file() and not path.name.startswith("lock")]
        files = {str(path.relative_to(run)): path.read_bytes() for path in found}
        for place in {path.parent for path in found} if self.kind.timed else ():
            if Seals(place).whole(*self.kind.timed):
                names = (*self.kind.timed, "seals.json")
                files |= {str((place / name).relative_to(run)): b"whole" for name in names}
        return files | (_parameters(run) if self.kind.once and files else {})

    def command(self, run: pathlib.Path, *mode: str) -> tuple[int, str]:
        """The exit code, and what was said on stderr, of the command in this process."""
        said = io.StringIO()
        line = ["launch.py", "--config", self.env["SCORE_SDE_TEST_CONFIG"], "--workdir", str(run), *self.run, *mode]
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = launch(line)  # an exception is what a user would see as a traceback: it ends everything
        return code, said.getvalue()

    @property
    def run(self) -> tuple[str, ...]:
        """The flags of every command."""
        return () if self.kind.once else RUN

    def has_begun(self, run: pathlib.Path, before: set[str]) -> bool:
        """Whether the command has written something."""
        if self.kind.once:
            return (run / "importing").exists()
        return bool(self.kind.timed) or set(self.contents(run)) != before

    def _must(self, run: pathlib.Path, *mode: str) -> None:
        code, said = self.command(run, *mode)
        assert code == 0, said

    def ends_well(self, run: pathlib.Path) -> None:
        """The same command brings the undisturbed results, where they are not there yet."""
        if self.kind.once and self.contents(run) == self.expected:
            return
        self._must(run, *self.kind.mode)
        assert self.contents(run) == self.expected, f"{self.kind.name} differ in {run}"


def _parameters(run: pathlib.Path) -> dict[str, bytes]:
    """What is restored of an import."""
    with contextlib.closing(Checkpoints(Workdir(run).checkpoints)) as checkpoints:
        state, _ = experiment_of("ckpt_jax_expected").restore(checkpoints)
    return {str(i): np.asarray(leaf).tobytes() for i, leaf in enumerate(jax.tree.leaves(state))}


def damages(trial: Trial, count: int, draw: random.Random) -> Counter[str]:
    """How often they were made again, and how often refused by name."""
    found: Counter[str] = Counter()
    for _ in range(count):
        run = trial.fresh(trial.made)
        name, how = draw.choice(sorted(trial.expected)), draw.choice(DAMAGES)
        damage(run / name, how, draw.random())
        code, said = trial.command(run, *trial.kind.mode)
        if code == 2:
            assert pathlib.Path(name).name in said, (name, how, said)
            found["refused"] += 1
            continue
        assert code == 0 and trial.contents(run) == trial.expected, (name, how, code, said)
        found["made again"] += 1
    return found


def fills(trial: Trial, count: int, draw: random.Random) -> Counter[str]:
    """How often the disk was said to be full."""
    run = trial.fresh(trial.begun)
    with filling(sys.maxsize, trial.folder) as disk:
        trial.command(run, *trial.kind.mode)
    found: Counter[str] = Counter()
    for full_at in draw.sample(range(1, disk.writes + 1), min(count, disk.writes)):
        run = trial.fresh(trial.begun)
        with filling(full_at, trial.folder):
            code, said = trial.command(run, *trial.kind.mode)
        assert code == 5 or (code == 0 and trial.contents(run) == trial.expected), (full_at, code, said)
        found["exit code 5" if code else "not needed"] += 1
        trial.ends_well(run)
    return found


def kills(trial: Trial, count: int, draw: random.Random) -> Counter[str]:
    """How often the program was killed; processes of their own, compared with one that was not."""
    found: Counter[str] = Counter()
    run, began = trial.fresh(trial.begun), time.monotonic()
    assert end(start(run, trial.env, *trial.run, *trial.kind.mode))[0] == 0
    expected, before = trial.contents(run), set(trial.contents(trial.begun))
    lasted = time.monotonic() - began
    run, left = trial.fresh(trial.begun), count
    while left:
        process, until = start(run, trial.env, *trial.run, *trial.kind.mode), time.monotonic() + lasted
        while not trial.has_begun(run, before) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, lasted if trial.kind.timed else 0.3 * lasted))
        kill([process], signal.SIGKILL)
        code, said = end(process)
        assert code in (0, -signal.SIGKILL), said
        found["killed" if code else "came too late"] += 1
        left -= 1
        if code == 0 or (trial.kind.once and trial.contents(run)):
            assert trial.contents(run) == expected
            run = trial.fresh(trial.begun)
    assert end(start(run, trial.env, *trial.run, *trial.kind.mode))[0] == 0
    assert trial.contents(run) == expected
    return found


def main(numbers: Sequence[int] = (500, 50, 100), kinds: Sequence[Kind] = KINDS, seed: int = 0) -> None:
    """So many damages, fills and kills in all, shared among the kinds."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        imported = pathlib.Path(folder, "imported.py")
        imported.write_text(IMPORTED)
        again = [kind for kind in kinds if kind.read_again]
        for kind in kinds:
            place = pathlib.Path(folder, kind.name)
            place.mkdir()
            env = environment(pathlib.Path(folder, "cache"), config=str(imported) if kind.once else "tests/damage.py")
            os.environ.update(env)
            trial = Trial(kind, place, env)
            shares = (numbers[0] // len(again) * kind.read_again, *(-(-n // len(kinds)) for n in numbers[1:]))
            for act, share in zip((damages, fills, kills), shares):
                if share:
                    found = ", ".join(f"{n} {what}" for what, n in act(trial, share, draw).items())
                    print(f"{kind.name}: {share} {act.__name__}: {found}", flush=True)


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or (500, 50, 100))
