"""Regular polygons in any turn and order: makes them, and holds a trained run's samples against their distances.

    python benchmarks/polygons.py --write runs/polygons.npz
    python launch.py --config configs/polygons.py
    python launch.py --config configs/polygons.py --mode sample
    python benchmarks/polygons.py --run runs/polygons --max 0.03

A set is the corners of a regular pentagon of radius 1.2 with noise N(0, 0.03^2 I) on every corner, turned by a uniform
angle and in a random order. Of the sorted distances of its 10 pairs, five are sides and five diagonals:
  data, samples   their means
  spread          their standard deviations
  difference      the largest difference of the means
Exit codes: 0 done, 1 the difference exceeds --max, 2 bad usage.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

CORNERS, RADIUS, NOISE = 5, 1.2, 0.03
TRAIN, TEST = 20_000, 1000


def polygons(count: int, seed: int, corners: Sequence[int] = (CORNERS,)) -> np.ndarray:
    """Draws float32 [count, N, 2] of polygons with one of these numbers of corners, N the most; the rest is NaN."""
    r, most = np.random.default_rng(seed), max(corners)
    n = r.choice(corners, count)
    angle = 2 * np.pi * (np.arange(most)[None] / n[:, None] + r.uniform(size=(count, 1)))
    x = RADIUS * np.stack([np.cos(angle), np.sin(angle)], -1) + NOISE * r.standard_normal((count, most, 2))
    x[np.arange(most)[None] >= n[:, None]] = np.nan
    order = np.argsort(r.uniform(size=(count, most)), axis=1)
    return np.take_along_axis(x, order[..., None], 1).astype(np.float32)


def distances(x: np.ndarray) -> np.ndarray:
    """The sorted distances of all pairs of sets [n, N, D]: [n, N (N - 1) / 2]."""
    apart = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)
    return np.sort(apart[:, *np.triu_indices(x.shape[1], 1)], axis=1)


def compared(samples: np.ndarray) -> dict[str, object]:
    """The figures of samples [n, CORNERS, 2]."""
    data, found = distances(polygons(TEST, 1)), distances(samples)
    rounded = lambda values: [round(float(v), 4) for v in values]
    figures = {"data": rounded(data.mean(0)), "samples": rounded(found.mean(0)), "spread": rounded(found.std(0))}
    return {**figures, "difference": float(np.abs(found.mean(0) - data.mean(0)).max())}


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path, help="write training and held-out sets there")
    parser.add_argument("--corners", default=str(CORNERS), help="how many, several with commas, which are mixed")
    parser.add_argument("--run", type=pathlib.Path, help="a run of configs/polygons.py that has drawn samples")
    parser.add_argument("--max", type=float, default=np.inf, help="exit with 1 if the difference is larger")
    arguments = parser.parse_args(argv[1:])
    if arguments.write is not None:
        corners = [int(word) for word in arguments.corners.split(",")]
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        np.savez(arguments.write, train=polygons(TRAIN, 0, corners), test=polygons(TEST, 1, corners))
        print(f"{TRAIN} polygons to train on and {TEST} held out in {arguments.write}")
    if arguments.run is None:
        return 0
    files = sorted((arguments.run / "samples").glob("*/samples.npz"))
    if not files:
        print(f"polygons: {arguments.run}/samples has no samples.npz: run --mode sample first", file=sys.stderr)
        return 2
    with np.load(files[-1]) as arrays:
        figures = compared(arrays["samples"])
    print(json.dumps(figures, indent=1))
    return int(float(str(figures["difference"])) > arguments.max)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
