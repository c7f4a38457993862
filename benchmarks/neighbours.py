r"""What the two-sample figures say of samples known to be bad, at 8x8x1 and 32x32x3: the table of docs/figures.md.

    python benchmarks/neighbours.py                         # digits, and smooth waves
    python benchmarks/neighbours.py --data pictures.npz     # uint8 arrays train and test [N, H, W, C] instead of both

Samples are made of the held-out pictures: these themselves, with noise, blurred, one of them repeated; of the training
pictures: copies, a Gaussian fitted to them; and uniform noise. Of the digits there are 297, else --samples.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from score_sde.data.sources import digits, some
from score_sde.evaluation.two_sample import number, two_sample

COLUMNS = (
    "frechet_distance",
    "nearest_neighbour_accuracy",
    "accuracy_on_samples",
    "accuracy_on_data",
    "precision",
    "recall",
    "copying_ratio",
)


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="an .npz file with train and test")
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args(argv[1:])
    sets = {}
    if arguments.data is None:
        own = digits()
        sets["digits"] = [some(part, len(part)) for part in (own.train, own.held_out)]
        sets["waves"] = [waves(2000, 0), waves(arguments.samples + 1000, 1)]
    else:
        with np.load(arguments.data) as arrays:
            sets[arguments.data.stem] = [arrays["train"], arrays["test"]]
    print("| samples |", *(f"{name.replace('_', ' ')} |" for name in COLUMNS), "reading |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for name, (train, test) in sets.items():
        for what, samples in made(train, test[: arguments.samples], np.random.default_rng(0)):
            rest = test[len(samples) :] if what == "held-out pictures" and len(test) > len(samples) else test
            found = two_sample(samples, train, rest)
            values = (number(getattr(found, column)) for column in COLUMNS)
            print(f"| {name}: {what} |", *(f"{value} |" for value in values), f"{found.reading} |", flush=True)
    return 0


def waves(count: int, seed: int, side: int = 32, channels: int = 3) -> np.ndarray:
    """Smooth pictures uint8 [count, side, side, channels], one wave of random direction and phase per channel."""
    random = np.random.default_rng(seed)
    across, down, phase = (
        random.uniform(low, high, (count, 1, 1, channels)) for low, high in ((0.5, 2),) * 2 + ((0, 1),)
    )
    y, x = (axis[None, ..., None] / side for axis in np.mgrid[:side, :side])
    return to_bytes(127 + 60 * np.sin(2 * np.pi * (across * x + down * y + phase)))


def to_bytes(x: np.ndarray) -> np.ndarray:
    """Rounded and cut off."""
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


def made(train: np.ndarray, test: np.ndarray, random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """As many samples as test has pictures, by what was done to them."""
    count, shape = len(test), test.shape
    yield "held-out pictures", test
    for level in (10, 25, 100):
        yield f"with noise of {level} levels", to_bytes(test + level * random.normal(size=shape))
    yield "uniform noise", random.integers(0, 256, shape).astype(np.uint8)
    for width in (0.5, 1, 2):
        yield f"blurred by {width} pixels", to_bytes(gaussian_filter(test.astype(float), (0, width, width, 0)))
    yield "the compared training pictures", train[:count]
    yield "training pictures by chance", train[random.integers(0, len(train), count)]
    yield "one held-out picture, repeated", np.repeat(test[:1], count, 0)
    yield "one training picture, repeated", np.repeat(train[:1], count, 0)
    yield "ten held-out pictures, repeated", test[np.arange(count) % 10]
    vectors = train.reshape(len(train), -1).astype(float)
    law = vectors.mean(0), np.cov(vectors, rowvar=False)
    yield (
        "a Gaussian fitted to the data",
        to_bytes(random.multivariate_normal(*law, count, method="eigh")).reshape(shape),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
