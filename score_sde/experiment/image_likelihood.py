"""Likelihoods of many examples: batches of one compiled program, one by one a function of (seed, number)."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import Config
from score_sde.config.validation import check_likelihood
from score_sde.data.sources import Source, gather
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.evaluation.estimates import per_image
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.objects import DIVERGENCES
from score_sde.experiment.program import Program
from score_sde.likelihood import log_likelihood
from score_sde.likelihood.bound import sde_bound
from score_sde.rng import Purpose, child, example_keys, root_key, words
from score_sde.solvers import RK45
from score_sde.typing import Array


class ImageLikelihood:
    """The ODE's likelihood and the SDE's bound by the config's `likelihood` section, compiled once for a config.

    In bits per dimension of bytes, which are dequantised uniformly, whatever the training, and in nats per dimension of
    real data, of the density in the data's own units. Noise and probes are functions of likelihood.seed, of the
    example's number and of the repetition. The network without dropout.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._program = Program(experiment, "likelihood", self._estimate, seeded=True)

    def __call__(
        self, params: Any, source: Source, numbers: np.ndarray, given: Mapping[str, Source] | None = None, done: int = 0
    ) -> Iterator[np.ndarray]:
        """Rows of `columns` [B, columns], batch by batch, of the examples with these numbers [n]; the last is padded.

        given: what the source's examples are conditioned on, by name; `likelihood.label` may ask for another label.
        done: how many are left out at the beginning; the batches are as large as with them.
        """
        self._experiment.check()
        check_likelihood(self._experiment.config)
        devices, conditions = jax.device_count(), self._experiment.drawing.conditions
        size = max(1, min(self._config.batch_size, -(-len(numbers) // devices) * devices))
        params = replicate(params)
        for first in range(done, len(numbers), size):
            batch = numbers[first : first + size]
            padded = np.pad(batch, (0, size - len(batch)), mode="edge")
            condition = conditions.of_examples(self._config.label, given or {}, padded)
            placed = spread((gather(source, padded), words(padded), condition))
            repetitions = range(self._config.dequantizations)
            found = [collect(self._program(params, *placed, np.uint32(k))) for k in repetitions]
            yield _rows(batch, *(np.stack(values, 1, dtype=np.float64)[: len(batch)] for values in zip(*found)))

    @property
    def _config(self) -> Config:
        return self._experiment.config.likelihood

    def _estimate(
        self, params: Any, stored: Array, position: Array, condition: dict[str, Array], repetition: Array
    ) -> tuple[Array, Array, Array]:
        """Per dimension [B, M], the bound [B, 1] and evaluations [B], of one repetition for stored examples."""
        c, sde, kind = self._config, self._experiment.sde, self._experiment.kind
        score = self._experiment.score_of(params, condition)
        root = jax.random.fold_in(root_key(c.seed), Purpose.EVALUATION)
        keys = child(example_keys(root, position), repetition)
        x0 = kind.continuous(keys, stored)
        per_dimension = lambda nats: kind.per_dimension(nats, x0.shape[1:])
        solver = RK45(c.rtol, c.atol, per_sample=True)
        options = {"divergence": DIVERGENCES[c.divergence](c), "solver": solver, "t_min": c.t_min}
        log_prob, _, evaluations = log_likelihood(keys, score, sde, x0, **options)
        bound = jnp.full(len(x0), jnp.nan)
        if c.bound_samples:
            bound = sde_bound(keys, score, sde, x0, samples=c.bound_samples, t_min=c.t_min).total
        return per_dimension(-log_prob), per_dimension(bound)[:, None], jnp.broadcast_to(evaluations, len(x0))


def _rows(numbers: np.ndarray, values: np.ndarray, bound: np.ndarray, evaluations: np.ndarray) -> np.ndarray:
    """values [n, K, M], bound [n, K, 1], evaluations [n, K] -> rows of `columns` [n, 6]."""
    return np.stack([numbers, *per_image(values), *per_image(bound), evaluations.mean(1)], axis=1)
