r"""A Gaussian random field of known spectrum: makes it, and holds a trained run against the closed form.

    python benchmarks/field.py --write runs/field.npz
    python launch.py --config configs/field.py
    python launch.py --config configs/field.py --mode likelihood
    python benchmarks/field.py --run runs/field --max 0.02
    python launch.py --config configs/field.py --mode sample --config.sampling.num_samples=10000 \\
        --config.sampling.batch_size=500
    python benchmarks/field.py --samples runs/field/samples/auto-40-seed0

The field x [16, 16] is periodic with zero mean and covariance F^H diag(P) F, P(k) = 1 / (1 + |k|^2 / 9) over wave
numbers k, scaled to unit variance, F the unitary Fourier transform: hence
-log p(x) = 1/2 sum_k (ln 2 pi P + |F x|^2 / P).
--land: half of the field is always missing, NaN, in one shape; --write of a name without .npz makes a folder of .npy
files, each a field, in train/ and test/: configs/field_folder.py. What is known of these is their marginal.
--run, of a run with likelihoods:
  exact         closed form over the run's held-out fields, nats per dimension
  ode           the probability-flow ODE of the run's network on the same fields
  difference    ode - exact, and its standard error over the fields
--samples, of a folder of samples of whole fields: at every wavenumber (evaluation.spectrum) their power over the closed
form's, and its standard error.
Exit codes: 0 done, 1 |difference| exceeds --max, or a power is off by more than 5 % and more than three standard
errors; 2 bad usage.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from score_sde.evaluation import spectrum as spectra
from score_sde.progress import Progress

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


def land(side: int = SIDE) -> np.ndarray:
    """Half of the field, bool [side, side]: where another one is above its median."""
    other = fields(1, 2, side)[0]
    return other > np.median(other)


def covariance(side: int = SIDE) -> np.ndarray:
    """Of the field's elements, [side^2, side^2]."""
    of_shift = np.fft.ifft2(spectrum(side)).real
    i = np.arange(side)
    apart = (i[:, None] - i[None]) % side
    return of_shift[apart[:, None, :, None], apart[None, :, None, :]].reshape(side**2, side**2)


def nats_per_dimension(x: np.ndarray) -> np.ndarray:
    """-log p / D of fields [N, side, side], or of what is there of them and D its elements: [N]."""
    if not np.isnan(x).any():
        power = spectrum(x.shape[-1])
        waves = np.abs(np.fft.fft2(x.astype(np.float64), norm="ortho")) ** 2
        return 0.5 * (np.log(2 * np.pi * power) + waves / power).mean((1, 2))
    there = ~np.isnan(x[0]).reshape(-1)
    own = covariance(x.shape[-1])[np.ix_(there, there)]
    seen = x.reshape(len(x), -1)[:, there].astype(np.float64)
    squares = (seen * np.linalg.solve(own, seen.T).T).sum(1)
    return 0.5 * (squares + np.linalg.slogdet(2 * np.pi * own)[1]) / there.sum()


def of_spectrum(x: np.ndarray) -> list[dict[str, float]]:
    """At every wavenumber the power of fields [N, side, side] over the closed form's, and its standard error."""
    side = x.shape[-1]
    found = spectra.spectrum(x[..., None])
    rings = spectra.rings((side, side))
    expected = np.array([spectrum(side)[rings == k].mean() for k in found.wavenumber])
    rows = zip(found.wavenumber, found.mean / expected, found.error / expected)
    return [{"wavenumber": int(k), "ratio": float(ratio), "standard_error": float(error)} for k, ratio, error in rows]


def write(place: pathlib.Path, with_land: bool) -> None:
    """The training and held-out fields, in one file or in a folder of files."""
    parts = {"train": fields(TRAIN, 0), "test": fields(TEST, 1)}
    for x in parts.values():
        x[:, land()] = np.nan if with_land else x[:, land()]
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".npz":
        np.savez(place, train=parts["train"], test=parts["test"])
        return
    with Progress("writing", TRAIN + TEST, "fields") as progress:
        for part, x in parts.items():
            (place / part).mkdir(parents=True, exist_ok=True)
            for i, field in enumerate(x):
                np.save(place / part / f"{i:05}.npy", field)
                progress.update(1)


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path, help="write training and held-out fields there")
    parser.add_argument("--land", action="store_true", help="half of every field is missing")
    parser.add_argument("--run", type=pathlib.Path, help="a run on these fields whose likelihoods are computed")
    parser.add_argument("--max", type=float, default=np.inf, help="exit with 1 if the difference is larger")
    parser.add_argument("--samples", type=pathlib.Path, help="a folder of samples, whose spectrum is looked at")
    arguments = parser.parse_args(argv[1:])
    if arguments.write is not None:
        write(arguments.write, arguments.land)
        print(f"{TRAIN} fields to train on and {TEST} held out in {arguments.write}")
    table = arguments.run and arguments.run / "likelihood" / "per_image.csv"
    file = arguments.samples and arguments.samples / "samples.npz"
    for found, mode in ((table, "likelihood"), (file, "sample")):
        if found and not found.exists():
            print(f"field: {found} is missing: run --mode {mode} first", file=sys.stderr)
            return 2
    off = False
    if table:
        held_out = fields(TEST, 1)
        held_out[:, land()] = np.nan if arguments.land else held_out[:, land()]
        rows = np.loadtxt(table, delimiter=",", skiprows=1, usecols=(0, 1))
        exact, ode = nats_per_dimension(held_out[rows[:, 0].astype(int)]), rows[:, 1]
        error = float((ode - exact).std(ddof=1) / len(ode) ** 0.5)
        figures = {"fields": len(ode), "exact": exact.mean(), "ode": ode.mean(), "difference": (ode - exact).mean()}
        print(json.dumps({**figures, "standard_error": error}, indent=1))
        off = abs(figures["difference"]) > arguments.max
    if file:
        found = of_spectrum(np.load(file)["samples"])
        print(json.dumps(found, indent=1))
        off |= any(abs(row["ratio"] - 1) > max(0.05, 3 * row["standard_error"]) for row in found)
    return int(off)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
