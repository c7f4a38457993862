"""A Markov chain of tokens: makes it, and holds a trained run's bound and samples against the closed form.

    python benchmarks/markov.py --write runs/markov.npz
    python launch.py --config configs/tokens.py
    python launch.py --config configs/tokens.py --mode likelihood
    python launch.py --config configs/tokens.py --mode sample --config.sampling.num_samples=10000
    python benchmarks/markov.py --run runs/tokens --max 0.1

Examples are 8 tokens of 3 states, the first of the stationary law pi, each next one by the transitions P, so that the
entropy is H(pi) + 7 sum_i pi_i H(P_i) = 6.173 nats.
  bound         of the run over its held-out examples, nats of an example
  exact         -log p of the same examples by the chain
  difference    bound - exact, and its standard error over the examples
  transitions   the largest error of the share of a transition in samples, by the folder's name
Exit codes: 0 done, 1 |difference| exceeds --max, 2 bad usage.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

TRANSITIONS = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.3, 0.1, 0.6]])
LENGTH = 8
TRAIN, TEST = 50_000, 5_000


def stationary(transitions: np.ndarray = TRANSITIONS) -> np.ndarray:
    """pi [V] = pi P."""
    values, vectors = np.linalg.eig(transitions.T)
    found = np.real(vectors[:, np.argmax(np.real(values))])
    return found / found.sum()


def entropy(length: int = LENGTH) -> float:
    """Of one example, in nats."""
    pi, of_row = stationary(), -(TRANSITIONS * np.log(TRANSITIONS)).sum(1)
    return float(-(pi * np.log(pi)).sum() + (length - 1) * pi @ of_row)


def chains(count: int, seed: int, length: int = LENGTH) -> np.ndarray:
    """Draws int32 [count, length]."""
    random = np.random.default_rng(seed)
    x = np.zeros((count, length), np.int32)
    x[:, 0] = random.choice(len(TRANSITIONS), count, p=stationary())
    for i in range(1, length):
        x[:, i] = (random.random((count, 1)) > TRANSITIONS[x[:, i - 1]].cumsum(1)[:, :-1]).sum(1)
    return x


def nats(x: np.ndarray) -> np.ndarray:
    """-log p of examples [N, L]: [N]."""
    return -np.log(stationary()[x[:, 0]]) - np.log(TRANSITIONS[x[:, :-1], x[:, 1:]]).sum(1)


def transition_error(x: np.ndarray) -> float:
    """The largest difference between a transition's share in examples [N, L] and P."""
    counts = np.zeros(TRANSITIONS.shape)
    np.add.at(counts, (x[:, :-1].ravel(), x[:, 1:].ravel()), 1)
    return float(np.abs(counts / counts.sum(1, keepdims=True) - TRANSITIONS).max())


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path, help="write training and held-out examples there")
    parser.add_argument("--run", type=pathlib.Path, help="a run of configs/tokens.py with its likelihoods")
    parser.add_argument("--max", type=float, default=np.inf, help="exit with 1 if the difference is larger, in nats")
    arguments = parser.parse_args(argv[1:])
    if arguments.write is not None:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        np.savez(arguments.write, train=chains(TRAIN, 0), test=chains(TEST, 1))
        print(f"{TRAIN} examples to train on and {TEST} held out in {arguments.write}, entropy {entropy():.3f} nats")
    if arguments.run is None:
        return 0
    table = arguments.run / "likelihood" / "per_image.csv"
    if not table.exists():
        print(f"markov: {table} is missing: run --mode likelihood first", file=sys.stderr)
        return 2
    rows = np.genfromtxt(table, delimiter=",", names=True)
    exact, bound = nats(chains(TEST, 1)[rows["index"].astype(int)]), rows["nats"]
    error = float((bound - exact).std(ddof=1) / len(bound) ** 0.5)
    figures = {"examples": len(bound), "bound": bound.mean(), "exact": exact.mean(), "entropy": entropy()}
    figures |= {"difference": (bound - exact).mean(), "standard_error": error}
    found = {
        p.parent.name: transition_error(np.load(p)["samples"]) for p in arguments.run.glob("samples/*/samples.npz")
    }
    print(json.dumps({**figures, "transitions": found}, indent=1))
    return int(abs(figures["difference"]) > arguments.max)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
