"""A system's own bound on the likelihood of many examples: batches of one compiled program, as of ImageLikelihood."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config.bound_checks import check_bound
from score_sde.config.latent_checks import is_flow
from score_sde.data.sources import Source
from score_sde.devices.arrays import collect, replicate
from score_sde.errors import require
from score_sde.evaluation.estimates import per_image
from score_sde.experiment.asking import lent
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.image_likelihood import placed, whole
from score_sde.experiment.latents import by_flow
from score_sde.experiment.program import Program
from score_sde.rng import Purpose, child, example_keys, root_key
from score_sde.systems import FlowBound, Latent, System
from score_sde.systems.base import Bounded, Weighted
from score_sde.typing import Array


class OwnBound:
    """The bound of a system of the `Bounded` contract by the config's `likelihood` section, compiled once for a config.

    In bits per dimension of bytes or nats per dimension of the data's own units, as ImageLikelihood's figures, and in
    nats as the system gives it. That of latents has the prior by the ODE (FlowBound) with likelihood.solver='rk45'.
    Draws are functions of likelihood.seed, of the example's number and of the repetition, which
    likelihood.dequantizations counts. Raises UsageError for a system that has none.
    """

    classes: tuple[int, ...] = ()

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._program = Program(experiment, "likelihood", self._estimate, seeded=True)

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the bound's terms, sorted."""
        found = jax.eval_shape(self._bound, self._experiment.abstract_params(), *self._one())
        return tuple(sorted(found[1]))

    def __call__(
        self,
        params: Any,
        source: Source,
        numbers: np.ndarray,
        given: Mapping[str, Source] | None = None,
        done: int = 0,
    ) -> Iterator[np.ndarray]:
        """Rows of `own_columns` [B, columns], batch by batch, of the examples with these numbers [n].

        given: what the source's examples are conditioned on, by name. done: how many are left out at the beginning.
        """
        self._check()
        c, borrowed = self._experiment.config.likelihood, lent({}, self._experiment.frozen)
        params = replicate({**params, **borrowed})
        size = max(1, min(c.batch_size, whole(len(numbers))))
        for first in range(done, len(numbers), size):
            batch = numbers[first : first + size]
            arrays = placed(self._experiment, source, batch, given, size)
            found = [collect(self._program(params, *arrays, np.uint32(k))) for k in range(c.dequantizations)]
            figures, nats = (np.stack(part, 1, dtype=np.float64)[: len(batch)] for part in zip(*found))
            errors = [column for k in range(figures.shape[-1]) for column in per_image(figures[..., k, None])]
            yield np.column_stack([batch, *errors, nats.mean(1)])

    def _check(self) -> None:
        self._experiment.check()
        check_bound(self._experiment.config)
        system, samples = self._bounded, self._experiment.config.likelihood.importance_samples
        require(isinstance(system, Bounded), "the system has no bound of its own: ask for a likelihood of its score")
        require(
            samples == 0 or isinstance(system, Weighted),
            f"likelihood.importance_samples={samples} has no effect on system.name="
            f"{self._experiment.config.system.name!r}, whose bound is not of a ratio: set it to 0",
        )

    def _estimate(
        self, params: Any, stored: Array, position: Array, condition: dict[str, Array], repetition: Array
    ) -> tuple[Array, Array]:
        """Figures per dimension [B, 1 or 2] and nats with their terms [B, 1 + terms], of one repetition."""
        c, system = self._experiment.config.likelihood, self._bounded
        root = jax.random.fold_in(root_key(c.seed), Purpose.EVALUATION)
        keys = child(example_keys(root, position), repetition)
        arguments = (params, keys, self._seen(keys, stored), condition)
        nats, terms = self._bound(*arguments)
        figures = [nats]
        if c.importance_samples:
            assert isinstance(system, Weighted)
            figures.append(system.importance_weighted(*arguments, samples=c.importance_samples))
        scaled = [self._per_dimension(figure) for figure in figures]
        return jnp.stack(scaled, 1), jnp.stack([nats, *(terms[name] for name in sorted(terms))], 1)

    def _bound(self, *arguments: Any) -> tuple[Array, dict[str, Array]]:
        system = self._bounded
        assert isinstance(system, Bounded)
        return system.bound(*arguments)

    @property
    def _bounded(self) -> System | FlowBound:
        """The system, or its bound by the ODE where the config asks for that."""
        config, system = self._experiment.config, self._experiment.system
        return by_flow(config, system) if is_flow(config) and isinstance(system, Latent) else system

    def _seen(self, keys: Array, stored: Array) -> Array:
        """What the system's bound is of."""
        kind = self._experiment.kind
        return kind.encode(keys, stored, training=False) if self._discrete else kind.continuous(keys, stored)

    def _per_dimension(self, nats: Array) -> Array:
        kind, shape = self._experiment.kind, self._experiment.shape
        if not self._discrete:
            return kind.per_dimension(nats, shape)
        return nats / (math.prod(shape) * (math.log(2) if kind.unit == "bits" else 1.0))

    @property
    def _discrete(self) -> bool:
        return self._experiment.system.discrete  # pyright: ignore[reportAttributeAccessIssue]

    def _one(self) -> tuple[Array, Array, dict[str, Array]]:
        """Arguments of one example, for shapes alone."""
        keys = example_keys(root_key(0), np.zeros((1, 2), np.uint32))
        dtype = jnp.int32 if self._experiment.spec.kind == "tokens" else jnp.float32
        condition = {"label": jnp.zeros(1, jnp.int32)} if self._experiment.spec.labels else {}
        return keys, jnp.zeros((1, *self._experiment.shape), dtype), condition
