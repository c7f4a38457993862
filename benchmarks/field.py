"""A Gaussian random field of known spectrum: makes it, and holds a trained run's likelihoods against the closed form.

    python benchmarks/field.py --write runs/field.npz
    python launch.py --config configs/field.py
    python launch.py --config configs/field.py --mode likelihood
    python benchmarks/field.py --run runs/field --max 0.02

The field x [16, 16] is periodic with zero mean and covariance F^H diag(P) F, P(k) = 1 / (1 + |k|^2 / 9) over wave
numbers k, scaled to unit variance, F the unitary Fourier transform: hence
-log p(x) = 1/2 sum_k (ln 2 pi P + |F x|^2 / P).
  exact         closed form over the run's held-out fields, nats per dimension
  ode           the probability-flow ODE of the run's network on the same fields
  difference    ode - exact, and its standard error over the fields
Exit codes: 0 done, 1 |difference| exceeds --max, 2 bad usage.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

SIDE = 16
TRAIN, TEST = 20_000, 500


def spectrum(side: int = SIDE) -> np.ndarray:
    """P(k) [side, side] with mean 1, so that the field has unit variance."""
    k = np.fft.fftfreq(side, 1 / side)
    power = 1 / (1 + (k[:, None] ** 2 + k[None] ** 2) / 9)
    return power / power.mean()


def fields(count: int, seed: int, side: int = SIDE) -> np.ndarray:
    """Draws float32 [count, side, side]: white noise with every wave scaled by the root of its power."""
    white = np.random.default_rng(seed).standard_normal((count, side, side))
    return np.fft.ifft2(np.fft.fft2(white) * np.sqrt(spectrum(side))).real.astype(np.float32)


def nats_per_dimension(x: np.ndarray) -> np.ndarray:
    """-log p / D of fields [N, side, side]: [N]."""
    power = spectrum(x.shape[-1])
    waves = np.abs(np.fft.fft2(x.astype(np.float64), norm="ortho")) ** 2
    return 0.5 * (np.log(2 * np.pi * power) + waves / power).mean((1, 2))


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path, help="write training and held-out fields there")
    parser.add_argument("--run", type=pathlib.Path, help="a run of configs/field.py whose likelihoods are computed")
    parser.add_argument("--max", type=float, default=np.inf, help="exit with 1 if the difference is larger")
    arguments = parser.parse_args(argv[1:])
    if arguments.write is not None:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        np.savez(arguments.write, train=fields(TRAIN, 0), test=fields(TEST, 1))
        print(f"{TRAIN} fields to train on and {TEST} held out in {arguments.write}")
    if arguments.run is None:
        return 0
    table = arguments.run / "likelihood" / "per_image.csv"
    if not table.exists():
        print(f"field: {table} is missing: run --mode likelihood first", file=sys.stderr)
        return 2
    rows = np.loadtxt(table, delimiter=",", skiprows=1, usecols=(0, 1))
    exact, ode = nats_per_dimension(fields(TEST, 1)[rows[:, 0].astype(int)]), rows[:, 1]
    error = float((ode - exact).std(ddof=1) / len(ode) ** 0.5)
    figures = {"fields": len(ode), "exact": exact.mean(), "ode": ode.mean(), "difference": (ode - exact).mean()}
    print(json.dumps({**figures, "standard_error": error}, indent=1))
    return int(abs(figures["difference"]) > arguments.max)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
