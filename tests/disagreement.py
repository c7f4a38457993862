"""Two real processes that should not be one run, each kind once: `python -m tests.disagreement [word]` prints a table.

Of every case the exit code and seconds of each process, and what it said. A few minutes; pytest runs the parts.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tests.processes import end, environment, free_address, start

Flags = tuple[str, ...]
SECONDS = 90
FIELDS = {
    "the run": "seed=3",
    "sde": "sde.beta_max=10.",
    "network": "network.dropout=0.2",
    "parametrization": "parametrization.sigma_data=0.4",
    "data": "data.random_flip=False",
    "frozen": "frozen.teacher=runs/other",
    "training": "training.num_steps=8",
    "optimizer": "optimizer.learning_rate=0.01",
    "ema": "ema.decay=0.99",
    "parallel": "parallel.strategy=sharded",
    "sampling": "sampling.seed=1",
    "likelihood": "likelihood.probes=2",
    "evaluation": "evaluation.every=2",
    "checkpoint": "checkpoint.every=2",
    "logging": "logging.every=3",
}
"""A field of each section with another value than tests/light.py's; the section `system` has one value alone."""
ARRAY = ("--config.data.name=array", "--config.training.num_steps=4")


class Trial:
    """Where the cases run: a directory, the environment, and the rows of the table."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory, self.env, self.count = directory, environment(directory / "cache", config="tests/light.py"), 0

    def workdir(self, name: str = "run") -> pathlib.Path:
        """A new one, of any name."""
        self.count += 1
        (self.directory / str(self.count)).mkdir()
        return self.directory / str(self.count) / name

    def run(
        self,
        case: str,
        *flags: Flags,
        common: Flags = (),
        workdirs: tuple[pathlib.Path, ...] = (),
        envs: tuple[dict[str, str], ...] = ({}, {}),
        numbers: tuple[int, ...] = (0, 1),
        counts: tuple[int, ...] = (2, 2),
        addresses: tuple[str, ...] = (),
    ) -> None:
        """A row: processes with the flags of each behind the common ones."""
        own, began = self.workdir(), time.monotonic()
        addresses = addresses or (free_address(),) * 2

        def one(k: int) -> tuple[Any, float, str]:
            place = (workdirs or (own, own))[k]
            who = ("--coordinator", addresses[k], "--num_processes", f"{counts[k]}", "--process_id", f"{numbers[k]}")
            with start(place, self.env | envs[k], *who, *common, *(flags[k : k + 1] or ((),))[0]) as process:
                try:
                    code, said = end(process, SECONDS)
                except subprocess.TimeoutExpired:
                    code, said = "hangs", ""
            return code, time.monotonic() - began, " / ".join(said.strip().splitlines()[-2:])

        with ThreadPoolExecutor(len(numbers)) as pool:
            for k, (code, seconds, said) in zip(numbers, pool.map(one, range(len(numbers)))):
                row = f"| {case} | {k} | {code} | {seconds:.1f} | {said.replace(str(self.directory), '')} |"
                print(row, flush=True)


def sections(trial: Trial) -> None:
    for name, field in FIELDS.items():
        trial.run(name, (), (f"--config.{field}",), common=("--config.training.num_steps=4",))


def surroundings(trial: Trial) -> None:
    trial.run("mode", (), ("--mode=sample",))
    trial.run("jax's settings", envs=({}, {"JAX_ENABLE_X64": "1"}))
    other = trial.directory / "site"
    (other / "optax-0.0.1.dist-info").mkdir(parents=True)
    (other / "optax-0.0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: optax\nVersion: 0.0.1\n")
    trial.run("versions", envs=({}, {"PYTHONPATH": f"{other}{os.pathsep}{trial.env['PYTHONPATH']}"}))
    flags = trial.env["XLA_FLAGS"].replace("device_count=1", "device_count=2")
    trial.run("devices", envs=({}, {"XLA_FLAGS": flags}))
    trial.run("workdir", workdirs=(trial.workdir(), trial.workdir()))
    trial.run("workdir's name", workdirs=(trial.workdir("a"), trial.directory / str(trial.count) / "b"))
    trial.run("a config that is refused", (), ("--config.training.batch_size=0",))


def data(trial: Trial) -> None:
    images = np.random.RandomState(0).randint(0, 256, (64, 8, 8, 1), np.uint8)
    other = images.copy()
    other[7, 3, 3] ^= 1
    for name, array in (("here", images), ("other", other), ("fewer", images[:32])):
        np.save(trial.directory / f"{name}.npy", array)
    path = lambda name: (f"--config.data.path={trial.directory / name}.npy",)
    trial.run("data: one value", path("here"), path("other"), common=ARRAY)
    trial.run("data: the count", path("here"), path("fewer"), common=ARRAY)
    trial.run("data: missing", path("here"), path("missing"), common=ARRAY)


def finished(trial: Trial) -> None:
    workdir, steps = trial.workdir(), ("--config.training.num_steps=4",)
    trial.run("a whole run", common=steps, workdirs=(workdir, workdir))
    trial.run("a finished run", common=steps, workdirs=(workdir, workdir))
    one = ("--config.likelihood.num_images=4", "--config.likelihood.bound_samples=0", "--config.data.random_flip=True")
    few = ("--config.evaluation.num_samples=16", "--config.evaluation.num_data=64")
    one = (*one, *few, "--config.evaluation.features=pixels")
    for mode in ("sample", "likelihood", "evaluate", "report"):
        both = {"common": (*steps, *one, "--mode", mode), "workdirs": (workdir, workdir)}
        trial.run(f"{mode}: alike", **both)
        trial.run(f"{mode}: again", **both)
        trial.run(f"{mode}: another seed", (), ("--config.sampling.seed=7",), **both)


@contextlib.contextmanager
def listener(answer: bytes | None) -> Iterator[str]:
    """The address of a port where something else listens, which never takes a connection or answers with this."""
    with socket.create_server(("", 0)) as server:
        if answer is not None:

            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        with server.accept()[0] as connection:
                            connection.sendall(answer)

            pool = ThreadPoolExecutor(1)
            pool.submit(serve)
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def meetings(trial: Trial) -> None:
    wait = ("--connect_timeout=12", "--config.training.num_steps=4")
    trial.run("no process 0", common=wait, numbers=(1,))
    trial.run("no process 1", common=wait, numbers=(0,))
    trial.run("another port", common=wait, addresses=(free_address(), free_address()))
    trial.run("one number twice", common=wait, numbers=(0, 0))
    trial.run("another count", common=wait, counts=(2, 3))
    trial.run("no such host", common=wait, addresses=("nohost.invalid:1234",) * 2)
    for case, answer in (("a port in use, silent", None), ("a port in use, answering", b"HTTP/1.0 400 Bad\r\n\r\n")):
        with listener(answer) as address:
            trial.run(case, common=wait, addresses=(address, address))
    for address in (":12345", "host0:70000", "host0"):
        trial.run(address, common=wait, numbers=(1,), addresses=(address,))


CASES: tuple[Callable[[Trial], None], ...] = (sections, surroundings, data, meetings, finished)


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trial = Trial(pathlib.Path(directory))
        print("| what differs | process | exit code | seconds | said |\n|---|---|---|---|---|")
        for cases in CASES:
            if not wanted or cases.__name__ in wanted:
                cases(trial)


if __name__ == "__main__":
    main(sys.argv[1:])
