"""Likelihoods of many examples: batches of one compiled program, one by one a function of (seed, number)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import Config
from score_sde.config.validation import check_likelihood
from score_sde.data.sources import Source, gather
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.evaluation.estimates import per_image
from score_sde.experiment.conditions import EACH, by_class, parsed
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.objects import DIVERGENCES
from score_sde.experiment.program import Program
from score_sde.likelihood import grid as grids
from score_sde.likelihood.bound import sde_bound
from score_sde.likelihood.grid import Grid, log_likelihood_on
from score_sde.likelihood.ode import log_likelihood_given
from score_sde.names import PRESENT
from score_sde.rng import Purpose, child, example_keys, root_key, words
from score_sde.scores.subspace import rest_log_prob
from score_sde.sde import SDE
from score_sde.solvers import RK45
from score_sde.typing import Array, ScoreFn, expand

PILOT = 8
"""Examples on which a grid is found, or as many as there are devices."""


class Pilot(NamedTuple):
    """What few examples told of the grids: times of the one chosen, none where rk45 is needed, and its error there.

    error: the mean of the longest grid's figures less rk45's, per dimension, with its standard_error, None where none
    was tried; evaluations: of rk45.
    """

    times: tuple[float, ...]
    examples: int
    error: float | None
    standard_error: float | None
    evaluations: float

    @property
    def grid(self) -> Grid | None:
        """The grid of its times."""
        return grids.of(np.asarray(self.times)) if self.times else None


class ImageLikelihood:
    """The ODE's likelihood and the SDE's bound by the config's `likelihood` section, compiled once for a config.

    In bits per dimension of bytes, which are dequantised uniformly, whatever the training, and in nats per dimension of
    real data, of the density in the data's own units. Noise and probes are functions of likelihood.seed, of the
    example's number and of the repetition. The network without dropout.

    By `likelihood.solver` the ODE is solved adaptively, or on a grid that a pilot finds on a few of the examples.
    """

    terms: tuple[str, ...] | None = None
    """Of a system's own bound (OwnBound): none."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._program = Program(experiment, "likelihood", self._estimate, seeded=True)
        self._adaptive = Program(experiment, "likelihood", self._by_rk45, seeded=True)
        self._on = Program(experiment, "likelihood", self._on_grid, seeded=True)

    def __call__(
        self,
        params: Any,
        source: Source,
        numbers: np.ndarray,
        given: Mapping[str, Source] | None = None,
        done: int = 0,
        pilot: Pilot | None = None,
    ) -> Iterator[np.ndarray]:
        """Rows of `columns` [B, columns], batch by batch, of the examples with these numbers [n].

        With likelihood.label='each' they end in the example's own label and its figures under `classes`.

        given: what the source's examples are conditioned on, by name; `likelihood.label` may ask for another label.
        done: how many are left out at the beginning; the batches are as large as with them. pilot: that of these
        examples (`pilot`), where it is known; else it is flown first.
        """
        self._check()
        params = replicate(params)
        grid = (pilot or self.pilot(params, source, numbers, given)).grid if self._config.solver == "grid" else None
        size = max(1, min(self._config.batch_size, whole(len(numbers))))
        for first in range(done, len(numbers), size):
            batch = numbers[first : first + size]
            arrays = placed(self._experiment, source, batch, given, size)
            repetitions = range(self._config.dequantizations)
            found = [collect(self._program(params, *arrays, np.uint32(k), grid)) for k in repetitions]
            rows = _rows(batch, *(np.stack(values, 1, dtype=np.float64)[: len(batch)] for values in zip(*found)))
            yield np.concatenate([rows, *self._by_class(params, arrays, grid, len(batch))], axis=1)

    @property
    def classes(self) -> tuple[int, ...]:
        """Those of likelihood.label='each', which have examples in training; () for any other."""
        labels = self._experiment.drawing.conditions.spec.labels
        return parsed("likelihood.label", EACH, labels) if labels and by_class(self._config.label) else ()

    def _by_class(self, params: Any, arrays: Any, grid: Grid | None, count: int) -> list[np.ndarray]:
        """The examples' own labels [count, 1] and their figures [count, 1] under each of `classes`, of one noise."""
        x, position, own = arrays
        columns = [np.asarray(collect(own["label"]))] if self.classes else []
        for k in self.classes:
            given, found = (x, position, {"label": jnp.full_like(own["label"], k)}), []
            for repetition in range(self._config.dequantizations):
                arguments = (params, *given, np.uint32(repetition))
                values, _ = self._adaptive(*arguments) if grid is None else self._on(*arguments, grid)
                found.append(np.asarray(collect(values), np.float64).mean(1))
            columns.append(np.mean(found, axis=0))
        return [np.asarray(column, np.float64)[:count, None] for column in columns]

    def pilot(
        self, params: Any, source: Source, numbers: np.ndarray, given: Mapping[str, Source] | None = None
    ) -> Pilot:
        """The shortest grid whose mean on some of the examples is within likelihood.accuracy of rk45's.

        Within it even with the standard error that so few have. No times where none is that has fewer evaluations.
        The examples are numbers [n] of the source, of which some are taken.
        """
        self._check()
        c, sde = self._config, self._experiment.system.sde(params)
        wanted = whole(min(PILOT, len(numbers)))
        chosen = numbers[:: max(1, len(numbers) // wanted)][:wanted]
        arrays = (*placed(self._experiment, source, chosen, given, whole(len(chosen))), np.uint32(0))
        params = replicate(params)
        expected, evaluations = (v[: len(chosen)] for v in collect(self._adaptive(params, *arrays)))
        expected = np.asarray(expected, np.float64)

        def on(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            values, rates = collect(self._on(params, *arrays, grid))
            return values[: len(chosen)], rates[: len(chosen), : int(grid.nodes)]

        own, most = float(np.mean(evaluations)), min(grids.MOST, np.mean(evaluations))
        if most < grids.FEWEST:
            return Pilot((), len(chosen), None, None, own)
        first = grids.steps(sde, c.t_min, grids.SURVEY)
        places, rates = np.asarray(0.5 * sde.log_snr(first.times[: grids.SURVEY])), on(first)[1]
        rates = np.moveaxis(rates, 1, 0).reshape(grids.SURVEY, -1)
        count = grids.FEWEST
        while True:
            grid = grids.steps(sde, c.t_min, count, places, rates)
            off = np.mean(on(grid)[0] - expected, axis=1)
            off = off[np.isfinite(off)]
            # Where nothing is finite, which the rows will tell, any grid will do.
            error, doubt = (float(off.mean()), float(off.std() / np.sqrt(len(off)))) if len(off) else (0.0, 0.0)
            if abs(error) + doubt <= c.accuracy:
                times = tuple(float(t) for t in grid.times[:count])
                return Pilot(times, len(chosen), error, doubt, own)
            count = int(count * grids.GROWTH)
            if count > most:
                return Pilot((), len(chosen), error, doubt, own)

    @property
    def _config(self) -> Config:
        return self._experiment.config.likelihood

    def _check(self) -> None:
        self._experiment.check()
        check_likelihood(self._experiment.config)

    def _estimate(
        self,
        params: Any,
        stored: Array,
        position: Array,
        condition: dict[str, Array],
        repetition: Array,
        grid: Grid | None,
    ) -> tuple[Array, Array, Array]:
        """Per dimension [B, M], the bound [B, 1] and evaluations [B], of one repetition for stored examples."""
        arguments = (params, stored, position, condition, repetition)
        if grid is None:
            values, evaluations = self._by_rk45(*arguments)
        else:
            values, _ = self._on_grid(*arguments, grid)
            evaluations = jnp.broadcast_to(grid.nodes, len(values))
        c, score, sde, keys, x0, per_dimension = self._prepared(*arguments)
        bound = jnp.full(len(x0), jnp.nan)
        if c.bound_samples:
            bound = sde_bound(keys, score, sde, x0, samples=c.bound_samples, t_min=c.t_min).total
        return values, per_dimension(bound)[:, None], evaluations

    def _by_rk45(self, *arguments: Any) -> tuple[Array, Array]:
        """Per dimension [B, M] and evaluations [B], adaptively."""
        c, score, sde, keys, x0, per_dimension = self._prepared(*arguments)
        estimate, solver = DIVERGENCES[c.divergence](c).estimate(keys, x0), RK45(c.rtol, c.atol, per_sample=True)
        found = log_likelihood_given(estimate, score, sde, x0, solver=solver, t_min=c.t_min)
        return per_dimension(-found.log_prob), jnp.broadcast_to(found.evaluations, len(x0))

    def _on_grid(self, *arguments_and_grid: Any) -> tuple[Array, Array]:
        """Per dimension [B, M], and the rates at the nodes [B, N, M]."""
        *arguments, grid = arguments_and_grid
        c, score, sde, keys, x0, per_dimension = self._prepared(*arguments)
        estimate = DIVERGENCES[c.divergence](c).estimate(keys, x0)
        found, rates = log_likelihood_on(estimate, score, sde, x0, grid)
        return per_dimension(-found.log_prob), jnp.moveaxis(rates, 1, 0)

    def _prepared(
        self, params: Any, stored: Array, position: Array, condition: dict[str, Array], repetition: Array
    ) -> tuple[Config, ScoreFn, SDE, Array, Array, Callable[[Array], Array]]:
        """The section, score and SDE, keys [B], x0 [B, ...] with its noise, and from nats to those per dimension."""
        c, kind = self._config, self._experiment.kind
        root = jax.random.fold_in(root_key(c.seed), Purpose.EVALUATION)
        keys = child(example_keys(root, position), repetition)
        x0, sde = kind.continuous(keys, stored), self._experiment.system.sde(params)
        per_dimension = lambda nats: kind.per_dimension(nats, x0.shape[1:])
        x0, condition = self._experiment.drawing.conditions.there(x0, condition)
        if PRESENT in condition:
            space = self._experiment.score_system.subspace(condition)
            assert space is not None
            more = rest_log_prob(sde, space, x0, c.t_min) + kind.log_volume(condition[PRESENT])
            x0 = space.project(x0)
            per_dimension = lambda nats: (nats + expand(more, nats)) / expand(space.dimension, nats)
        return c, self._experiment.score_of(params, condition), sde, keys, x0, per_dimension


def whole(count: int) -> int:
    """The next number that the devices divide."""
    return -(-count // jax.device_count()) * jax.device_count()


def placed(
    experiment: Experiment, source: Source, numbers: np.ndarray, given: Mapping[str, Source] | None, size: int
) -> tuple[Array, Array, dict[str, Array]]:
    """The examples with their numbers and conditions on the devices, padded to that size."""
    padded = np.pad(numbers, (0, size - len(numbers)), mode="edge")
    label = experiment.config.likelihood.label
    condition = experiment.drawing.conditions.of_examples(label, given or {}, padded)
    return spread((gather(source, padded), words(padded), condition))


def _rows(numbers: np.ndarray, values: np.ndarray, bound: np.ndarray, evaluations: np.ndarray) -> np.ndarray:
    """values [n, K, M], bound [n, K, 1], evaluations [n, K] -> rows of `columns` [n, 6]."""
    return np.stack([numbers, *per_image(values), *per_image(bound), evaluations.mean(1)], axis=1)
