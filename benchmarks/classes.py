r"""How many class-conditional digits are of the class that was asked, by a classifier of real digits (scikit-learn).

    pip install scikit-learn
    python launch.py --config configs/digits_classes.py
    python launch.py --config configs/digits_classes.py --mode sample --config.sampling.label=each \
        --config.sampling.num_samples=1000
    python benchmarks/classes.py runs/digits_classes/samples/ancestral-50-seed0-label_each/samples.npz --min 0.9

A support vector machine with a radial kernel is trained on the 1,500 training digits.
  agreement        share of the samples to which it gives the label that they were drawn with, and by class
  held_out         share of the 297 held-out digits to which it gives their own: what is to be expected at best
  frechet_by_class, frechet_of_classes   of the samples of a class against the training digits of it, in pixel space,
                   and the mean over classes; held_out_of_classes: that of as many held-out digits as there are, about
                   30 of a class, and so_many_of_classes: that of as many samples as those, by which it is to be judged
  frechet_distance, nearest_neighbour_accuracy   of the samples against the training digits, in pixel space; the latter
                   with the two accuracies that it is the mean of (docs/figures.md)
Exit codes: 0 done, 1 the agreement is below --min, 2 bad usage.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from score_sde.data.sources import digits, some
from score_sde.evaluation.frechet import frechet_distance
from score_sde.evaluation.two_sample import to_vectors, two_sample


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=pathlib.Path, help="a samples.npz with labels")
    parser.add_argument("--min", type=float, default=0.0, help="exit with 1 if the agreement is smaller")
    arguments = parser.parse_args(argv[1:])
    with np.load(arguments.samples) as arrays:
        if "label" not in arrays:
            print(f"classes: {arguments.samples} has no labels: draw from a class-conditional run", file=sys.stderr)
            return 2
        x, labels = arrays["samples"], arrays["label"]
    figures = measure(x, labels)
    print(json.dumps(figures, indent=1))
    return 0 if figures["agreement"] >= arguments.min else 1


def measure(x: np.ndarray, labels: np.ndarray) -> dict:
    """The figures of samples uint8 [N, 8, 8, 1] that were drawn with labels [N]."""
    from sklearn.svm import SVC  # pyright: ignore[reportMissingImports]

    data = digits()
    train, held_out = (some(source, len(source)) for source in (data.train, data.held_out))
    classifier = SVC().fit(to_vectors(train), data.condition["label"])
    found = classifier.predict(to_vectors(x)) == labels
    figures = two_sample(x, train, held_out)
    of_class, of_held_out = data.condition["label"], data.held_out_condition["label"]
    by_class, held, fewer = {}, [], []
    for c in np.unique(labels):
        real, those = to_vectors(train[of_class == c]), to_vectors(held_out[of_held_out == c])
        drawn = to_vectors(x[labels == c])
        by_class[int(c)] = frechet_distance(drawn, real)
        held.append(frechet_distance(those, real))
        fewer.append(frechet_distance(drawn[: len(those)], real))
    return {
        "samples": len(x),
        "agreement": float(found.mean()),
        "by_class": {int(c): float(found[labels == c].mean()) for c in np.unique(labels)},
        "held_out": float((classifier.predict(to_vectors(held_out)) == data.held_out_condition["label"]).mean()),
        "frechet_by_class": by_class,
        "frechet_of_classes": float(np.mean(list(by_class.values()))),
        "held_out_of_classes": float(np.mean(held)),
        "so_many_of_classes": float(np.mean(fewer)),
        "frechet_distance": figures.frechet_distance,
        "nearest_neighbour_accuracy": figures.nearest_neighbour_accuracy,
        "accuracy_on_samples": figures.accuracy_on_samples,
        "accuracy_on_data": figures.accuracy_on_data,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv))
