"""A run that is killed again and again, and must not show it: python -m tests.chaos

Ten SIGKILLs at random moments, two of them while a checkpoint is being written, a flipped byte in the newest
checkpoint, and a SIGTERM. In the end parameters, averages, optimizer state, every logged loss and norm, snapshots and
samples are compared with those of a run that nothing happened to: bit for bit.
"""

import contextlib
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from score_sde.experiment import build
from score_sde.storage.checkpoint import Checkpoints
from tests.processes import end, environment, kill, lines, start, wait_for
from tests.tiny import tiny_config

STEPS = 240
RUN = (
    f"--config.training.num_steps={STEPS}",
    "--config.training.steps_per_call=5",
    "--config.checkpoint.every=15",
    "--config.logging.every=5",
    "--config.evaluation.every=50",
    "--config.evaluation.num_images=16",
    "--config.ema.averages=('warmup','power')",
    "--config.ema.snapshot_every=80",
)
BITWISE = ("step", "loss", "loss_by_t", "gradient_norm", "parameter_norm", "learning_rate", "skipped")


def run_undisturbed(workdir: pathlib.Path, env: dict[str, str]) -> None:
    code, said = end(start(workdir, env, *RUN))
    assert code == 0, said


def interrupt(
    workdir: pathlib.Path, env: dict[str, str], signum: int, lines_more: int, in_save: bool = False, delay: float = 0
) -> str:
    """Start the run, send the signal once so many more lines are logged, and return what it said.

    in_save: in the middle of the next save; else after a delay in seconds. What asks the run to stop comes twice, as
    GNU timeout sends it.
    """
    before, started = len(lines(workdir)), time.time()
    process = start(workdir, env, *RUN)
    # A resumed run drops the lines after its checkpoint first, and writes them again.
    wait_for(lambda: len(lines(workdir)) >= min(before + lines_more, STEPS // 5 - 1), [process])
    if in_save:
        halt_in_save(workdir, process, started)
    else:
        time.sleep(delay)
    for _ in range(1 if signum == signal.SIGKILL else 2):
        kill([process], signum)
    code, said = end(process)
    assert code == (-signum if signum == signal.SIGKILL else 128 + signum), said
    assert not in_save or saving(workdir, started)
    return said


def halt_in_save(workdir: pathlib.Path, process: subprocess.Popen, started: float) -> None:
    """Halt the process while it writes a checkpoint; let it go on where it has just finished that."""
    while True:
        wait_for(lambda: saving(workdir, started), [process])
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        if saving(workdir, started):
            return
        process.send_signal(signal.SIGCONT)


def saving(workdir: pathlib.Path, since: float) -> bool:
    """Whether a checkpoint begun since then is unfinished: its directory is there, and no manifest in it."""
    unfinished = (p for p in (workdir / "checkpoints").glob("*") if not (p / "manifest.json").exists())
    with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
        return any(path.stat().st_mtime > since for path in unfinished)
    return False


def flip_a_byte(workdir: pathlib.Path, rng: random.Random) -> pathlib.Path:
    """Damage the newest finished checkpoint in one bit; its directory."""
    newest = max((workdir / "checkpoints").glob("*/manifest.json"), key=lambda path: int(path.parent.name)).parent
    file = rng.choice(sorted(p for p in newest.rglob("*") if p.is_file() and p.stat().st_size))
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return newest


def finish(workdir: pathlib.Path, env: dict[str, str]) -> str:
    code, said = end(start(workdir, env, *RUN))
    assert code == 0, said
    return said


def state_of(workdir: pathlib.Path):
    checkpoints = Checkpoints(workdir / "checkpoints")
    state, meta = checkpoints.restore(build(tiny_config(ema__averages=("warmup", "power"))).abstract_state())
    checkpoints.close()
    return state, meta


def assert_same(ours: pathlib.Path, theirs: pathlib.Path) -> None:
    """Every bit that a user can see, rates and times aside."""
    (state, meta), (expected, _) = state_of(ours), state_of(theirs)
    assert meta["step"] == int(state.step) == STEPS
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
        np.testing.assert_array_equal(a, b)
    assert [line["step"] for line in lines(ours)] == list(range(5, STEPS + 1, 5))
    for a, b in zip(lines(ours), lines(theirs), strict=True):
        names = {*BITWISE, *(name for name in b if name.startswith("held_out"))}
        assert {name: a[name] for name in names} == {name: b[name] for name in names}
    for folder in ("averages", "samples"):
        files = sorted(path.name for path in (theirs / folder).iterdir())
        assert files == sorted(path.name for path in (ours / folder).iterdir())
        assert files
        for name in files:
            assert (ours / folder / name).read_bytes() == (theirs / folder / name).read_bytes()


def main(seed: int = 0, kills: int = 10) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = pathlib.Path(folder, "ours"), pathlib.Path(folder, "theirs")
        env = environment(pathlib.Path(folder, "cache"))
        run_undisturbed(theirs, env)
        in_save = set(rng.sample(range(kills), 2))
        for kill in range(kills):
            more, started = rng.randint(1, STEPS // 5 // (kills + 2)), time.monotonic()
            interrupt(ours, env, signal.SIGKILL, more, kill in in_save, delay=rng.uniform(0, 0.2))
            where = "in mid-save" if kill in in_save else "at a random moment"
            print(f"SIGKILL {kill + 1} {where}, {time.monotonic() - started:.0f} s, {len(lines(ours))} lines logged")
        print(f"a bit of checkpoint {flip_a_byte(ours, rng).name} flipped")
        said = interrupt(ours, env, signal.SIGTERM, 2)
        assert "damaged" in said, said
        finish(ours, env)
        assert_same(ours, theirs)
    print(f"{STEPS} steps: bit for bit those of the undisturbed run")


if __name__ == "__main__":
    sys.exit(main())
