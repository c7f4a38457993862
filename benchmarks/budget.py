"""launch.py's command on one core, until it has had its CPU time: what it did until then is kept, as after a SIGTERM.

    python benchmarks/budget.py --core 0 --seconds 1200 -- --config configs/digits.py --workdir runs/digits_20min

The seconds are of all threads, and from the first import on: starting and compiling count. Without the compilations
that are kept from earlier runs, so that they count alike for everyone. Exit codes are launch.py's: 143 at the end of
the time, 0 where the run was complete before.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

ENDED = 143


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, required=True, help="the core that it may use, from 0 on")
    parser.add_argument("--seconds", type=float, default=0.0, help="of CPU time; 0, the default, for no end")
    parser.add_argument("launch", nargs="+", help="launch.py's flags, behind --")
    arguments = parser.parse_args(argv[1:])
    os.sched_setaffinity(0, {arguments.core})
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    end_after(arguments.seconds)
    from score_sde.cli.main import main as launch

    return launch(["launch.py", *arguments.launch])


def end_after(seconds: float) -> None:
    """Have this process sent SIGTERM when it has used so many more seconds of CPU time; 0 for never."""
    signal.signal(signal.SIGPROF, lambda *_: signal.raise_signal(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_PROF, seconds)


def side_by_side(runs: Mapping[str, Sequence[str]], seconds: float = 0.0) -> None:
    """Several commands at once, the k-th on core k, each told on <workdir>.log; runs: launch.py's flags by workdir.

    Raises RuntimeError where one ends otherwise than by itself or at the end of its time.
    """
    started = []
    try:
        for core, (workdir, flags) in enumerate(runs.items()):
            command = [sys.executable, __file__, "--core", str(core), "--seconds", str(seconds), "--"]
            place = pathlib.Path(f"{workdir}.log")
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("w") as log:
                command += ["--workdir", workdir, *flags]
                started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        codes = [process.wait() for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
    for workdir, code in zip(runs, codes):
        if code not in (0, ENDED):
            raise RuntimeError(f"the training of {workdir} ended with code {code}: see {workdir}.log")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
