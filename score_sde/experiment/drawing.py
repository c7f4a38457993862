"""How a score system draws samples: the config's `sampling` section as a solver on a grid, carried out."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from score_sde.config import Config, default
from score_sde.config.automatic import KEPT, Choice, answering, choose
from score_sde.config.fields import ADAPTIVE_ODES
from score_sde.config.guidance_checks import is_measured
from score_sde.experiment import asking, objects
from score_sde.experiment.conditions import Conditions
from score_sde.experiment.frozen import Frozen
from score_sde.experiment.guiding import Guiding
from score_sde.experiment.measuring import NUMBER, RULES, Measured, Y, measured, method, posterior_score, variance_of
from score_sde.guidance import Measurement
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.sde import SDE
from score_sde.solvers import AdaptiveSolver, Data, ExponentialAdams, PredictorCorrector, Solver, pilot, reference
from score_sde.solvers.particles import sample_particles
from score_sde.solvers.sampling import Samples, sample
from score_sde.systems import Condition, Score
from score_sde.systems.base import Params
from score_sde.typing import Array, Keys, ScoreFn


@dataclasses.dataclass(frozen=True)
class Drawing:
    """The config's `sampling` section; pure functions of a score system's parameters, to be jitted."""

    config: Config
    conditions: Conditions
    best: Mapping[str, Any] | None = None
    """Which solvers the run's report has found best, for "auto"; see config.automatic."""
    parts: Mapping[str, Frozen] = dataclasses.field(default_factory=dict)
    """A guide and a classifier of other runs, where they are named."""

    @property
    def choice(self) -> Choice | None:
        """What "auto" stands for; None for any other solver."""
        c, measured = self.config.sampling, self.measured
        if c.solver != "auto":
            return None
        if measured is None:
            return choose(self.config.sde.name, c.num_steps, c.denoise, self.best)
        variance = variance_of(self.config, self.conditions.spec.kind)
        steps = c.num_steps // self.config.guidance.particles
        return answering(steps, c.denoise, measured.unknown(variance), variance**0.5)

    @property
    def sampling(self) -> Config:
        """The config with its `sampling` section as it is carried out: what "auto" stands for is in its place."""
        choice = self.choice
        if choice is None:
            return self.config
        config = copy.deepcopy(self.config)
        config.sampling.update({n: value for n, value in default().sampling.items() if n not in KEPT})
        config.sampling.update(choice.fields)
        return config

    def __call__(
        self, system: Score, params: Params, keys: Keys, condition: Condition, times: Array | None = None
    ) -> Samples:
        """Samples [B, ...] in the network's range.

        times: what `times` returns, where it is known, as making an optimised grid costs a pilot run.
        """
        if self.config.sampling.reference:
            return self._reference(system, params, keys, condition)
        sde, denoise = system.sde(params), self.config.sampling.denoise
        times = self.times(system, params) if times is None else times
        if self.config.guidance.particles > 1:
            return self._particles(system, params, keys, condition, times)
        score, solver, guiding = self.prepared(system, params, condition)
        samples = sample(keys, score, sde, system.shape, solver=solver, times=times, denoise=denoise)
        per_step = solver.evaluations if isinstance(solver, Solver) else 0
        return samples._replace(evaluations=guiding.evaluations(samples.evaluations, sde, times, per_step, denoise))

    def _particles(self, system: Score, params: Params, keys: Keys, condition: Condition, times: Array) -> Samples:
        """Of several particles for every sample."""
        guiding, condition = self._given(condition)
        c, measurement, posterior = self.sampling.sampling, guiding.measurement, guiding.posterior
        assert measurement is not None and posterior is not None  # validation asks for both
        own, solver = dataclasses.replace(guiding, measurement=None), self.solver(system, params, condition)
        assert isinstance(solver, ExponentialAdams) and isinstance(solver.prediction, Data)
        return sample_particles(
            keys,
            own.score(system, params, condition),
            system.sde(params),
            system.shape,
            posterior=posterior,
            measurement=measurement,
            times=times,
            count=self.config.guidance.particles,
            prediction=solver.prediction,
            variance=variance_of(self.config, self.conditions.spec.kind),
            denoise=c.denoise,
        )

    def prepared(
        self, system: Score, params: Params, condition: Condition
    ) -> tuple[ScoreFn, Solver | AdaptiveSolver, Guiding]:
        """The guided score, the solver, and how they are guided, for examples of this condition."""
        guiding, condition = self._given(condition)
        inner = self.solver(system, params, condition, guiding.measurement)
        return (
            guiding.score(system, params, condition),
            guiding.solver(inner, system, params, condition),
            guiding,
        )

    @property
    def guiding(self) -> Guiding:
        """The config's `guidance` section, of scores that no measurement is given to."""
        return Guiding(self.config.guidance, self.config.data.centered, self.parts)

    def check(self, sde: SDE) -> None:
        """UsageError for parts of other runs, labels, functions and files by which samples cannot be guided."""
        spec, guidance = self.conditions.spec, self.config.guidance
        asking.check_parts(self.parts, self.config, spec, sde)
        self.of_samples(positions(0, 1))
        if guidance.log_prob:
            asking.log_prob(guidance.log_prob, spec.shape, self.config.data.centered)

    def of_samples(self, position: Any) -> dict[str, Any]:
        """The conditions of samples at these positions (`Conditions.of_samples`), and what of them is measured.

        Of a run without labels, the classifier's.
        """
        c, conditions, measured = self.config.sampling, self.conditions, self.measured
        if conditions.spec.labels is None and self.config.guidance.classifier_scale != 0:
            labels = self.parts["classifier"].experiment.spec.labels
            conditions = Conditions(dataclasses.replace(conditions.spec, labels=labels))
        found = conditions.of_samples(c.label, c.seed, position)
        return found if measured is None else found | measured.of_samples(position)

    @property
    def measured(self) -> Measured | None:
        """What the config's `measurement` section names, read where it has changed; None for none."""
        c, spec = self.config, self.conditions.spec
        return measured(c.measurement, objects.KINDS[spec.kind](c.data, spec), spec.shape) if is_measured(c) else None

    @property
    def method(self) -> str:
        """The name of the posterior score, what "auto" stands for in its place; "" for none."""
        return method(self.config) if self.measured is not None else ""

    def _given(self, condition: Condition) -> tuple[Guiding, Condition]:
        """Guidance by the measurement that is part of a condition, and what is the network's of it."""
        found = self.measured
        if found is None:
            return self.guiding, condition
        posterior = posterior_score(self.config, self.conditions.spec.kind)
        guiding = dataclasses.replace(self.guiding, posterior=posterior, measurement=found.given(condition[Y]))
        return guiding, {name: value for name, value in condition.items() if name not in (Y, NUMBER)}

    def times(self, system: Score, params: Params) -> Array:
        """The grid of the config's `sampling` section; where there is no solver, with its first node twice.

        An optimised one is made for the parameters by a pilot run.
        """
        c = self.sampling.sampling
        if c.times == "optimised":
            return self._optimised(system, params)
        grid = objects.GRIDS[c.times](self.sampling, system.sde(params))
        # Where nothing but the corrector moves x, it must also be at work at T.
        return jnp.concatenate([grid[:1], grid]) if c.solver == "none" else grid

    def _optimised(self, system: Score, params: Params) -> Array:
        c, position = self.config.sampling, positions(0, pilot.SAMPLES)
        condition = self.of_samples(position)
        solver = self.solver(system, params, condition)
        assert isinstance(solver, Solver)  # validation refuses an optimised grid for an adaptive one
        keys = example_keys(jax.random.fold_in(root_key(c.seed), Purpose.PILOT), position)
        options = {"solver": solver, "t_min": c.t_min, "num_steps": c.num_steps}
        return pilot.optimised(
            keys, self.guiding.score(system, params, condition), system.sde(params), system.shape, **options
        )

    def solver(
        self,
        system: Score,
        params: Params,
        condition: Condition | None = None,
        measurement: Measurement | None = None,
    ) -> Solver | AdaptiveSolver:
        """The solver of the config's `sampling` section; parameters and condition are for a learned variance."""
        c, model = self.sampling.sampling, system.model(params, condition)
        if c.solver in RULES:
            assert measurement is not None  # validation asks for one
            return RULES[c.solver](self.config.guidance, system.sde(params), measurement)
        variance = objects.VARIANCES[c.variance](lambda x, t: model(x, t)[1])  # pyright: ignore[reportArgumentType]
        predictor, corrector = objects.solver(c, variance), objects.CORRECTORS[c.corrector](c)
        if corrector is None:
            return predictor
        assert isinstance(predictor, Solver)  # validation refuses a corrector behind an adaptive solver
        return PredictorCorrector(predictor, corrector)

    def _reference(self, system: Score, params: Params, keys: Keys, condition: Condition) -> Samples:
        """Samples by the official code's arithmetic, and by its noise in law."""
        c, sde = self.config.sampling, self.config.sde
        chain = objects.CHAINS[sde.name](sde, sde.num_scales if sde.discrete else c.num_steps)
        adaptive = c.solver in ADAPTIVE_ODES  # to the official code, one error norm for the batch
        score = chain.score(system.apply(params, condition), continuous=adaptive or not sde.discrete)
        x = chain.sde.prior_sample(child(keys, Purpose.PRIOR), system.shape)
        if adaptive:
            options = {"t_min": c.t_min, "denoise": c.denoise, "rtol": c.rtol, "atol": c.atol}
            return Samples(*reference.probability_flow(chain, score, x, **options))
        step_keys = child(keys, Purpose.STEPS)
        drawn = reference.predictor_corrector(
            chain,
            score,
            x,
            objects.REFERENCE_PREDICTORS[c.solver](c),
            objects.REFERENCE_CORRECTORS[c.corrector](c),
            lambda i, j: normal(child(child(step_keys, i), j), system.shape),
            corrections=c.corrector_steps,
            t_min=c.t_min,
            denoise=c.denoise,
        )
        return Samples(*drawn)
