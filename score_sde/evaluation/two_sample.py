"""Two-sample figures in pixel space: Fréchet distance, nearest-neighbour test, and whether samples are copies."""

import dataclasses
import math

import numpy as np

Vectors = np.ndarray
"""One row per example, float64 [N, D], of bytes on the [-1, 1] scale."""

Moments = tuple[np.ndarray, np.ndarray]
"""Mean [D] and covariance [D, D]."""


def to_vectors(x: np.ndarray) -> Vectors:
    """Examples [N, ...] -> [N, D]: bytes on the [-1, 1] scale, real numbers as they are."""
    flat = x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float64)
    return flat / 127.5 - 1 if x.dtype == np.uint8 else flat


def frechet_distance(a: Vectors, b: Vectors) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^{1/2} C_b C_a^{1/2})^{1/2}) of the fitted Gaussians (Heusel et al. 2017).

    a and b [N, D], as `to_vectors` makes them; unbiased covariances; the root's trace from the eigenvalues of the
    symmetrised product.
    """
    return frechet_between(moments(a), moments(b))


def moments(a: Vectors) -> Moments:
    """Mean and unbiased covariance of the rows."""
    return a.mean(0), np.cov(a, rowvar=False)


def frechet_between(a: Moments, b: Moments) -> float:
    """The Fréchet distance of two Gaussians."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    values, basis = np.linalg.eigh(cov_a)
    root = (basis * np.sqrt(np.clip(values, 0, None))) @ basis.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + values.sum() + np.trace(cov_b) - 2 * cross)


def squared_distances(a: Vectors, b: Vectors) -> np.ndarray:
    """Squared Euclidean distances [len(a), len(b)]."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.clip(squares, 0, None)


def nearest_neighbour_accuracy(a: Vectors, b: Vectors) -> float:
    """Accuracy of the leave-one-out 1-NN classifier of a against b: 0.5 for the same law, 1 for distinct ones.

    a and b [N, D], the larger set cut to the smaller one's size, so that chance is 0.5. Source: Lopez-Paz & Oquab 2017.
    """
    n = min(len(a), len(b))
    both = np.concatenate([a[:n], b[:n]])
    distances = squared_distances(both, both)
    np.fill_diagonal(distances, np.inf)
    is_a = np.arange(2 * n) < n
    return float(np.mean(is_a[distances.argmin(1)] == is_a))


def copying_ratio(samples: Vectors, train: Vectors, held_out: Vectors) -> float:
    """Median distance of a sample to its nearest training example over that of a held-out example, all [N, D].

    About 1 for samples as new as held-out data, well below 1 for copies of the training set.
    """
    nearest = [np.median(np.sqrt(squared_distances(x, train).min(1))) for x in (samples, held_out)]
    return float(nearest[0] / nearest[1])


@dataclasses.dataclass(frozen=True)
class TwoSample:
    """The figures of n samples against the training images; copying_ratio is None without held-out images."""

    num_samples: int
    frechet_distance: float
    nearest_neighbour_accuracy: float
    copying_ratio: float | None

    def __str__(self) -> str:
        ratio = self.copying_ratio
        copying = "" if ratio is None else f", distance to training data / held-out {ratio:.3f}"
        return (
            f"{self.num_samples} samples: pixel Fréchet distance {self.frechet_distance:.3f}, "
            f"1-NN accuracy {self.nearest_neighbour_accuracy:.3f}{copying}"
        )


def two_sample(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> TwoSample:
    """All the figures for uint8 images [N, H, W, C], or other examples [N, ...]; at least two samples."""
    x, y, z = to_vectors(samples), to_vectors(train), to_vectors(held_out)
    copying = copying_ratio(x, y, z) if len(z) else None
    return TwoSample(len(x), frechet_distance(x, y), nearest_neighbour_accuracy(x, y), copying)
