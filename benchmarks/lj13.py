"""Clusters of 13 particles with Lennard-Jones forces: draws them, and holds a trained run's energies against these.

    python benchmarks/lj13.py --write runs/lj13.npz
    python launch.py --config configs/lj13.py
    python launch.py --config configs/lj13.py --mode sample
    python benchmarks/lj13.py --run runs/lj13

Particles x [13, 3] with r_m = epsilon = 1, held together by a spring to their centre c, at temperature 1:

    U(x) = sum_{i != j} [(1 / r_ij)^12 - 2 (1 / r_ij)^6] + 1/2 sum_i |x_i - c|^2,    p(x) ~ exp(-U)

The sum is over ordered pairs, so kT is half the depth of a pair's well, and the cluster is liquid: the benchmark of
Köhler, Klein & Noé 2020 (arXiv 2006.02425), with the factor of its published code.
Metropolis Monte Carlo: CHAINS chains at once, each from 13 places of a lattice, one particle of each moved at a time by
N(0, s^2 I), s set during the burn-in so that about a third is accepted. A state is kept every THIN sweeps of 13 moves.
Chains share no noise, so whole chains are held out.
  correlation      of the energy from one kept state to the next
  monte_carlo      mean and standard deviation of the energies of the held-out chains, their error by chains
  samples          the same of the run's samples, and the share above the largest energy of the held-out ones
  overlap          of the two histograms of energies, 1 where they are the same
Exit codes: 0 done, 2 bad usage.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

PARTICLES = 13
CHAINS, BURN_IN, THIN, KEPT = 400, 600, 30, 55
HELD_OUT = 40
"""Chains of the held-out states."""


def energy(x: np.ndarray) -> np.ndarray:
    """U of clusters [n, 13, 3]: [n], in float64."""
    x = np.asarray(x, np.float64)
    first, second = np.triu_indices(x.shape[1], 1)
    inverse = 1 / np.maximum(((x[:, first] - x[:, second]) ** 2).sum(-1), 1e-12) ** 3
    apart = x - x.mean(1, keepdims=True)
    return 2 * (inverse**2 - 2 * inverse).sum(1) + 0.5 * (apart**2).sum((1, 2))


def change(x: np.ndarray, i: int, moved: np.ndarray) -> np.ndarray:
    """U with particle i of every cluster at moved [n, 3], less U as it is: [n]."""
    others = np.delete(np.arange(x.shape[1]), i)

    def pair(position: np.ndarray) -> np.ndarray:
        inverse = 1 / np.maximum(((x[:, others] - position[:, None]) ** 2).sum(-1), 1e-12) ** 3
        return 2 * (inverse**2 - 2 * inverse).sum(1)

    # sum |x_i - c|^2 = sum |x_i|^2 - N |c|^2
    total = x.sum(1)
    other = total - x[:, i] + moved
    squares = (moved**2).sum(1) - (x[:, i] ** 2).sum(1) - ((other**2).sum(1) - (total**2).sum(1)) / x.shape[1]
    return pair(moved) - pair(x[:, i]) + 0.5 * squares


def sweep(r: np.random.Generator, x: np.ndarray, std: float) -> float:
    """One Metropolis move of every particle of every cluster [n, 13, 3], in place: the share that was accepted."""
    accepted = 0
    for i in range(x.shape[1]):
        moved = x[:, i] + std * r.standard_normal(x[:, i].shape)
        yes = np.log(r.uniform(size=len(x))) < -change(x, i, moved)
        x[yes, i] = moved[yes]
        accepted += int(yes.sum())
    return accepted / x[..., 0].size


def clusters(
    seed: int, chains: int = CHAINS, burn_in: int = BURN_IN, thin: int = THIN, kept: int = KEPT
) -> tuple[np.ndarray, float, float]:
    """States float32 [kept, chains, 13, 3], their centres at 0, the last share accepted, and the step's size."""
    r, std = np.random.default_rng(seed), 0.1
    lattice = np.stack(np.meshgrid(*[np.arange(3) - 1.0] * 3), -1).reshape(-1, 3)
    chosen = np.argsort(r.uniform(size=(chains, len(lattice))), axis=1)[:, :PARTICLES]
    x, found, share = 1.1 * lattice[chosen], [], 0.0
    for number in range(burn_in + thin * kept):
        share = sweep(r, x, std)
        if number < burn_in:
            std *= np.exp(0.1 * (share - 1 / 3))
        elif (number - burn_in) % thin == thin - 1:
            x -= x.mean(1, keepdims=True)
            found.append(x.astype(np.float32))
    return np.stack(found), share, std


def figures(energies: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation, of samples that are independent with an error."""
    return {"mean": float(energies.mean()), "std": float(energies.std())}


def compared(run: pathlib.Path, data: pathlib.Path) -> dict[str, object]:
    """Energies of a run's samples and of the held-out states of its data."""
    with np.load(sorted((run / "samples").glob("*/samples.npz"))[-1]) as arrays, np.load(data) as states:
        own, other = energy(arrays["samples"]), energy(states["test"])
    edges = np.linspace(np.percentile(other, 0.1), np.percentile(other, 99.9), 31)
    edges = np.array([-np.inf, *edges, np.inf])
    shares = [np.histogram(v, edges)[0] / len(v) for v in (own, other)]
    by_chain = other.reshape(-1, HELD_OUT).mean(0)
    error = float(by_chain.std(ddof=1) / HELD_OUT**0.5)
    finite = own[own <= other.max()]
    return {
        "monte_carlo": {**figures(other), "standard_error": error},
        "samples": {**figures(finite), "above": 1 - len(finite) / len(own)},
        "overlap": float(np.minimum(*shares).sum()),
    }


def write(path: pathlib.Path) -> None:
    """Training and held-out states, and what is to be said of the run."""
    since = time.perf_counter()
    x, share, std = clusters(0)
    energies = np.stack([energy(states) for states in x])
    first, second = energies[:-1].ravel(), energies[1:].ravel()
    path.parent.mkdir(parents=True, exist_ok=True)
    train, test = x[:, HELD_OUT:], x[:, :HELD_OUT]
    np.savez(path, train=train.reshape(-1, PARTICLES, 3), test=test.reshape(-1, PARTICLES, 3))
    print(
        f"{train[..., 0, 0].size} clusters to train on and {test[..., 0, 0].size} held out in {path}, in"
        f" {time.perf_counter() - since:.0f} s: {share:.0%} of moves of {std:.3g} accepted, correlation of kept"
        f" energies {np.corrcoef(first, second)[0, 1]:.2f}, mean energy {energies.mean():.2f} of all,"
        f" {energies[: len(x) // 2].mean():.2f} of the first half"
    )


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path, help="write training and held-out clusters there")
    parser.add_argument("--run", type=pathlib.Path, help="a run of configs/lj13.py that has drawn samples")
    parser.add_argument("--data", type=pathlib.Path, default="runs/lj13.npz", help="what --write has written")
    arguments = parser.parse_args(argv[1:])
    if arguments.write is not None:
        write(arguments.write)
    if arguments.run is None:
        return 0
    if not list((arguments.run / "samples").glob("*/samples.npz")):
        print(f"lj13: {arguments.run}/samples has no samples.npz: run --mode sample first", file=sys.stderr)
        return 2
    print(json.dumps(compared(arguments.run, arguments.data), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
