"""Two-sample figures in pixel space: Fréchet distance, nearest neighbours, and whether samples are copies."""

import dataclasses
import math

import numpy as np

from score_sde.evaluation.frechet import frechet_distance
from score_sde.evaluation.neighbours import Vectors, copying_ratio, flat, if_finite, neighbour_figures, reading, shared


def to_vectors(x: np.ndarray) -> Vectors:
    """Examples [N, ...] -> [N, D]: bytes on the [-1, 1] scale, real numbers as they are."""
    return flat(x) / 127.5 - 1 if x.dtype == np.uint8 else flat(x)


@dataclasses.dataclass(frozen=True)
class TwoSample:
    """The figures of n samples against the training images; None for those that `notes` give the reason of.

    nearest_neighbour_accuracy is the mean of accuracy_on_samples and accuracy_on_data, both near 0.5 for one law; see
    `reading`. precision and recall as of Kynkäänniemi et al. 2019, of three neighbours. Of num_samples, non_finite are
    left out of all figures. copies, copies_held_out: samples and held-out images that are training images.
    """

    num_samples: int
    frechet_distance: float | None
    nearest_neighbour_accuracy: float | None
    accuracy_on_samples: float | None
    accuracy_on_data: float | None
    precision: float | None
    recall: float | None
    copying_ratio: float | None
    copies: int = 0
    copies_held_out: int = 0
    non_finite: int = 0
    notes: tuple[str, ...] = ()

    @property
    def reading(self) -> str:
        """What the two accuracies say."""
        return reading(self.accuracy_on_samples, self.accuracy_on_data, self.num_samples - self.non_finite)

    def __str__(self) -> str:
        parts = []
        if self.frechet_distance is not None:
            parts.append(f"pixel Fréchet distance {self.frechet_distance:.3f}")
        if self.nearest_neighbour_accuracy is not None:
            both = f"{number(self.accuracy_on_samples)} on samples, {number(self.accuracy_on_data)} on data"
            parts.append(f"1-NN accuracy {self.nearest_neighbour_accuracy:.3f} ({both}: {self.reading})")
        if self.precision is not None:
            parts.append(f"precision {self.precision:.3f}, recall {number(self.recall)}")
        if self.copying_ratio is not None:
            ratio = f"{self.copying_ratio:.3f} (copies 0, new pictures 1)"
            parts.append(f"distance to training data / held-out {ratio}")
        return f"{self.num_samples} samples: {'; '.join([*parts, *self.notes])}"


def number(value: float | None) -> str:
    """With three places; ? for what is not known."""
    return "?" if value is None else f"{value:.3f}"


def two_sample(
    samples: np.ndarray, train: np.ndarray, held_out: np.ndarray, finite: np.ndarray | None = None
) -> TwoSample:
    """All the figures for uint8 images [N, H, W, C], or other examples [N, ...], of any number, those of one included.

    Samples that are not finite are left out and counted; finite: which were [N], before they became bytes.
    """
    kept = samples[np.isfinite(flat(samples)).all(1) & (True if finite is None else finite)]
    x, y, z = flat(kept), flat(train), flat(held_out)  # bytes as they are: their distances are exact
    distance, ratio = frechet_distance(to_vectors(kept), to_vectors(train)), copying_ratio(x, y, z)
    figures = {"frechet_distance": if_finite(distance), **neighbour_figures(x, y)}
    counts = {"copies": shared(x, y), "copies_held_out": shared(z, y), "non_finite": len(samples) - len(x)}
    if counts["copies_held_out"] or not math.isfinite(ratio):
        ratio = None
    missing = [name.replace("_", " ") for name, value in figures.items() if value is None]
    notes = _notes(counts, missing, len(samples), len(x), len(y), len(z))
    if len(z) and ratio is None and not counts["copies_held_out"]:
        notes.append("distance to training data over held-out not known")
    return TwoSample(len(samples), **figures, copying_ratio=ratio, **counts, notes=tuple(notes))


def _notes(counts: dict[str, int], missing: list[str], drawn: int, finite: int, data: int, held_out: int) -> list[str]:
    """What the figures leave out and why, a part of a sentence each."""
    notes = []
    if counts["non_finite"]:
        notes.append(f"{counts['non_finite']} of {drawn} samples are not finite and in no figure")
    if missing:
        notes.append(f"of {finite} samples and {data} training pictures not known: {', '.join(missing)}")
    if counts["copies"]:
        notes.append(f"{counts['copies']} of {finite} samples are training pictures")
    if counts["copies_held_out"]:
        notes.append(
            f"{counts['copies_held_out']} of {held_out} held-out pictures are training pictures, so distances to"
            " training data are not compared with theirs"
        )
    return notes
