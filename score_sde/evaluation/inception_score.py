"""The inception score: how sure a classifier is of each picture, and how evenly the pictures cover its classes.

exp of the mean over pictures of KL(p(class | picture) || mean over pictures of p(class | picture)), between 1 and the
number of classes. Source: Salimans et al. 2016.
"""

import numpy as np

from score_sde.evaluation.frechet import Estimate


def inception_score(logits: np.ndarray, splits: int = 10, seed: int | None = 2020) -> Estimate:
    """Mean and, as the published +-, standard deviation over so many splits of logits [N, classes] without bias.

    The rows are shuffled by numpy's RandomState(seed) as torch-fidelity does, or taken in their order (None), as the
    first code did: sorted by class, splits score higher. NaN of fewer rows than splits.
    """
    count = len(logits)
    if count < splits:
        return Estimate(float("nan"))
    order = np.arange(count) if seed is None else np.random.RandomState(seed).permutation(count)
    x = np.asarray(logits, np.float64)[order]
    x = x - x.max(1, keepdims=True)
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    scores = [_score(logs[i * count // splits : (i + 1) * count // splits]) for i in range(splits)]
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


def _score(logs: np.ndarray) -> float:
    """Of log p(class | picture) [N, classes]."""
    p = np.exp(logs)
    with np.errstate(divide="ignore", invalid="ignore"):  # the log of a class that no picture has, times 0
        marginal = np.log(p.mean(0))
        divergences = np.where(p > 0, p * (logs - marginal), 0).sum(1)
    return float(np.exp(divergences.mean()))
