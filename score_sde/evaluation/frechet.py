"""The Fréchet distance of two sets of features, from the features or from their moments, with its error.

d^2 = |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^{1/2}, unbiased covariances S_i (Heusel et al. 2017). The last
trace is the nuclear norm of F_1 F_2^T for any factors S_i = F_i^T F_i: no product is squared, and little is lost where
a covariance is singular. All in float64.
"""

import contextlib
import math
from typing import NamedTuple

import numpy as np

Features = np.ndarray
"""One row per example [N, D]."""


class Moments(NamedTuple):
    """Of n rows the mean [D] and unbiased covariance [D, D]; NaN of fewer than two rows."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: Features) -> "Moments":
        """Those of the rows."""
        x = np.asarray(features, np.float64)
        if len(x) < 2:
            return cls(len(x), np.full(x.shape[1], np.nan), np.full((x.shape[1],) * 2, np.nan))
        mean = x.mean(0)
        x = x - mean
        return cls(len(x), mean, x.T @ x / (len(x) - 1))

    def merged(self, other: "Moments") -> "Moments":
        """Those of both sets together (Chan et al. 1979): no digits are lost where the mean is far from 0."""
        (n, mean, covariance), (m, other_mean, other_covariance) = self, other
        apart = other_mean - mean
        squares = (n - 1) * covariance + (m - 1) * other_covariance + np.outer(apart, apart) * (n * m / (n + m))
        return Moments(n + m, mean + apart * (m / (n + m)), squares / (n + m - 1))


class Estimate(NamedTuple):
    """A figure and its standard error; NaN for what is not known."""

    value: float
    error: float = math.nan


class _Factor(NamedTuple):
    """A covariance R^T R, R [K, D]; of features, whose deviations from the mean are sqrt(n - 1) Q R, Q [N, K] too.

    None for the Q that is the identity, of no more rows than dimensions, and where there are no features.
    """

    mean: np.ndarray
    root: np.ndarray
    n: int
    basis: np.ndarray | None = None
    rows: bool = False


def frechet_distance(a: Features | Moments, b: Features | Moments) -> float:
    """The distance of features [N, D] or moments a from b; NaN of fewer than two rows and of what is not finite.

    Of features it is exact to rounding whatever their number; of moments the root of rounding is lost where they are
    singular.
    """
    return _distance(_factor(a), _factor(b)) if _known(a) and _known(b) else math.nan


def frechet(a: Features | Moments, b: Features | Moments) -> Estimate:
    """The distance, and the error that other rows of the same laws, as many, would make; moments count as exact.

    The error is the infinitesimal jackknife's: with u = x - m_1 the distance changes with the weight of a row x of a by
    psi(x) = 2 (m_1 - m_2)^T u + |u|^2 - u^T A u, A = S_1^{-1/2} (S_1^{1/2} S_2 S_1^{1/2})^{1/2} S_1^{-1/2} the
    optimal map; the variance is the sum over both sets of that of psi over the number of rows (Efron 1982; the
    derivative of the nuclear norm). NaN where neither are features.
    """
    if not (_known(a) and _known(b)):
        return Estimate(math.nan)
    first, second = _factor(a), _factor(b)
    parts = [i for i in influences(first, second) if i is not None]
    variance = sum(float((part**2).sum()) for part in parts)
    return Estimate(_distance(first, second), math.sqrt(variance) if parts else math.nan)


def influences(first: _Factor, second: _Factor) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(psi - its mean) / sqrt(n (n - 1)) of each row of either set, whose squares sum up to the variance."""
    product = first.root @ second.root.T
    return _influence(first, second.mean, product), _influence(second, first.mean, product.T)


def _influence(own: _Factor, other_mean: np.ndarray, product: np.ndarray) -> np.ndarray | None:
    if not own.rows:
        return None
    values, vectors = np.linalg.eigh(product @ product.T)
    half = vectors * np.clip(values, 0, None) ** 0.25  # u^T A u = (n - 1) q^T (P P^T)^{1/2} q of the row q of Q
    rows, turned = (part if own.basis is None else own.basis @ part for part in (own.root, half))
    n = own.n
    psi = (n - 1) * ((rows**2).sum(1) - (turned**2).sum(1))
    psi += 2 * math.sqrt(n - 1) * rows @ (own.mean - other_mean)
    return (psi - psi.mean()) / math.sqrt(n * (n - 1))


def _known(x: Features | Moments) -> bool:
    """Whether there is a covariance, of numbers."""
    parts = x[1:] if isinstance(x, Moments) else (x,)
    return all(np.isfinite(part).all() for part in parts) and (isinstance(x, Moments) or len(x) > 1)


def _factor(x: Features | Moments) -> _Factor:
    if isinstance(x, Moments):
        return _Factor(x.mean, _root(x.covariance), x.n)
    features = np.asarray(x, np.float64)
    n, dimensions = features.shape
    mean = features.mean(0)
    deviations = (features - mean) / math.sqrt(n - 1)
    if n <= dimensions:
        return _Factor(mean, deviations, n, rows=True)
    basis, root = _orthogonal(deviations)
    return _Factor(mean, root, n, basis, rows=True)


def _orthogonal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q [N, D] of orthonormal columns and R [D, D], x = Q R, of more rows than columns.

    Where x is far from singular by two Cholesky factorisations, which are as exact as Householder's reflections and
    several times as fast (Yamamoto et al. 2015, CholeskyQR2).
    """
    from scipy import linalg  # as in estimates.py

    with contextlib.suppress(np.linalg.LinAlgError):
        first = np.linalg.cholesky(x.T @ x)
        scale = np.abs(np.diag(first))
        if scale.min() > 1e-6 * scale.max():
            q = linalg.solve_triangular(first, x.T, lower=True, check_finite=False).T
            second = np.linalg.cholesky(q.T @ q)
            q = linalg.solve_triangular(second, q.T, lower=True, check_finite=False).T
            return q, second.T @ first.T
    return np.linalg.qr(x)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with R^T R the covariance; what rounding has made negative of it is 0."""
    try:
        return np.linalg.cholesky(covariance).T
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


def _distance(a: _Factor, b: _Factor) -> float:
    shared = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    distance = ((a.mean - b.mean) ** 2).sum() + (a.root**2).sum() + (b.root**2).sum() - 2 * shared
    return max(float(distance), 0.0)


SIZES, FEWEST = 15, 5000
"""Of `extrapolated`: how many sizes, and below how many rows it is refused."""


def can_extrapolate(a: Features, b: Features | Moments) -> bool:
    """Whether there are rows enough: of a, and, at the smallest size, two of b."""
    return len(a) >= FEWEST and (isinstance(b, Moments) or round(len(b) * _smallest(a) / len(a)) > 1)


def _smallest(a: Features) -> float:
    return max(len(a) / 10, FEWEST / 2)


def extrapolated(a: Features, b: Features | Moments, seed: int = 0) -> Estimate:
    """The distance of infinitely many rows: a line in 1 / n through 15 sizes, by least squares (Chong & Forsyth 2020).

    The sizes n lie evenly between max(N / 10, 2,500) and the N rows of a, drawn anew without replacement for each; of
    features b the same share is drawn, so that the line ends where both are infinite, of moments b where a is. The
    error is the infinitesimal jackknife's of the whole. Raises ValueError of fewer than 5,000 rows of a, or so few of b
    that the smallest size has fewer than two.
    """
    if not can_extrapolate(a, b):
        raise ValueError(f"{len(a)} rows against {len(b)} are too few to extrapolate from: give {FEWEST} or more")
    sizes = np.linspace(_smallest(a), len(a), SIZES).round().astype(int)
    weights = np.linalg.pinv(np.stack([np.ones(SIZES), 1 / sizes], axis=1))[0]  # of the line's value at 1 / n = 0
    random, value, totals = np.random.default_rng(seed), 0.0, (np.zeros(len(a)), np.zeros(len(b)))
    fixed = _factor(b) if isinstance(b, Moments) else None
    for size, weight in zip(sizes, weights):
        rows, first = _part(a, size / len(a), random)
        others, second = (slice(0), fixed) if isinstance(b, Moments) else _part(b, size / len(a), random)
        assert second is not None
        value += weight * _distance(first, second)
        for total, drawn, influence in zip(totals, (rows, others), influences(first, second)):
            if influence is not None:
                total[drawn] += weight * influence
    return Estimate(value, math.sqrt(sum(float((total**2).sum()) for total in totals)))


def _part(x: Features, share: float, random: np.random.Generator) -> tuple[np.ndarray, _Factor]:
    """The numbers of so many rows, drawn without replacement, and their covariance's factor."""
    rows = random.choice(len(x), round(len(x) * share), replace=False)
    return rows, _factor(x[rows])
