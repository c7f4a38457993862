"""How a score system draws samples: the config's `sampling` section as a solver on a grid, carried out."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from score_sde.config import Config, default
from score_sde.config.automatic import KEPT, Choice, answering, choose
from score_sde.config.editing_checks import is_edited
from score_sde.config.fields import RUNGE_KUTTA
from score_sde.config.guidance_checks import is_measured
from score_sde.data.kinds import Kind
from score_sde.experiment import asking, editing, objects, solving
from score_sde.experiment.conditions import Conditions
from score_sde.experiment.frozen import Frozen
from score_sde.experiment.guiding import Guiding
from score_sde.experiment.measuring import NUMBER, RULES, Measured, Y, measured, method, posterior_score, variance_of
from score_sde.guidance import Measurement
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.sde import SDE
from score_sde.solvers import RK45, AdaptiveSolver, Data, ExponentialAdams, PredictorCorrector, Solver, pilot, reference
from score_sde.solvers.few_step import few_step
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
            # A learned schedule is told of as one whose log-SNR is bounded: even times are its own.
            process = "cosine" if self.config.system.name == "vdm" else self.config.sde.name
            return choose(process, c.num_steps, c.denoise, self.best)
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
        if self.config.sampling.solver == "few_step":
            denoiser, num_steps = system.denoiser(params, condition), self.config.sampling.num_steps
            return few_step(keys, denoiser, system.sde(params), system.shape, num_steps=num_steps)
        if self.config.sampling.reference:
            return self._reference(system, params, keys, condition)
        if is_edited(self.config):
            return self._edited(system, params, keys, condition)
        sde, denoise = system.sde(params), self.config.sampling.denoise
        times = self.times(system, params) if times is None else times
        if self.config.guidance.particles > 1:
            return self._particles(system, params, keys, condition, times)
        score, solver, guiding = self.prepared(system, params, condition)
        samples = sample(keys, score, sde, system.shape, solver=solver, times=times, denoise=denoise)
        return self._counted(samples, guiding, solver, sde, times)

    def _edited(self, system: Score, params: Params, keys: Keys, condition: Condition) -> Samples:
        """Of examples that are part of the condition."""
        c, sde, (given, condition) = self.config, system.sde(params), editing.parted(condition)
        score, solver, guiding = self.prepared(system, params, condition)
        if c.editing.name == "interpolate":
            assert isinstance(solver, RK45)  # validation asks for it
            labels = (editing.LABEL, editing.END_LABEL) if self.conditions.spec.labels else ()
            own = [{"label": given[name]} for name in labels] or [{}, {}]
            ends = system.score(params, own[0]), system.score(params, own[1])
            samples, more = editing.between(c, given, ends, score, sde, solver)
            spent = guiding.evaluations(samples.evaluations, sde, jnp.full(2, sde.T), 0, False)
            return samples._replace(evaluations=more + spent)
        times = self.times(system, params)
        samples = editing.edited(c, keys, given, score, sde, solver=solver, times=times)
        return self._counted(samples, guiding, solver, sde, times, c.editing.repeats)

    def _counted(
        self,
        samples: Samples,
        guiding: Guiding,
        solver: Solver | AdaptiveSolver,
        sde: SDE,
        times: Array,
        repeats: int = 1,
    ) -> Samples:
        """With the evaluations of guidance too, on a grid that is gone over so often."""
        per_step = solver.evaluations if isinstance(solver, Solver) else 0
        denoise = self.config.sampling.denoise
        spent = guiding.evaluations(samples.evaluations, sde, times, per_step, denoise, repeats)
        return samples._replace(evaluations=spent)

    def known(self, params: Params, condition: Condition, x: Array) -> dict[str, Array]:
        """Whether frozen.classifier knows purified examples x [B, ...], and what they were made of; else nothing.

        `correct` and `correct_before`, bool [B], at the noise level of sampling.t_min.
        """
        if self.config.editing.name != "purify" or "classifier" not in self.parts:
            return {}
        logits, t = asking.logits(self.parts, params), jnp.float32(self.config.sampling.t_min)
        right = lambda x: (
            jnp.isfinite(x).all(tuple(range(1, x.ndim))) & (jnp.argmax(logits(x, t), -1) == condition[editing.LABEL])
        )
        return dict(zip(editing.KNOWN, (right(x), right(condition[editing.X])), strict=True))

    def _particles(self, system: Score, params: Params, keys: Keys, condition: Condition, times: Array) -> Samples:
        """Of several particles for every sample."""
        guiding, condition = self._given(condition)
        c, measurement, posterior = self.sampling.sampling, guiding.measurement, guiding.posterior
        assert measurement is not None and posterior is not None  # validation asks for both
        own, solver = dataclasses.replace(guiding, measurement=None), self.solver(system, params, condition)
        assert isinstance(solver, ExponentialAdams) and isinstance(solver.prediction, Data)
        sde, count = system.sde(params), self.config.guidance.particles
        told = {name: jnp.repeat(jnp.asarray(value), count, 0) for name, value in condition.items()}
        samples = sample_particles(
            keys,
            own.score(system, params, told),
            sde,
            system.shape,
            posterior=posterior,
            measurement=measurement,
            times=times,
            count=count,
            prediction=solver.prediction,
            variance=variance_of(self.config, self.conditions.spec.kind),
            denoise=c.denoise,
        )
        return self._counted(samples, guiding, solver, sde, times, count)

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
        fields = c.condition or self.config.data.path
        found = conditions.of_samples(c.label, c.seed, position, c.caption, fields, c.points)
        if (examples := self.examples) is not None:
            return found | examples.of_samples(position, own_label="label" in found and not c.label)
        return found if measured is None else found | measured.of_samples(position)

    @property
    def measured(self) -> Measured | None:
        """What the config's `measurement` section names, read where it has changed; None for none."""
        c = self.config
        return measured(c.measurement, self._kind, self.conditions.spec.shape) if is_measured(c) else None

    @property
    def _kind(self) -> Kind:
        spec = self.conditions.spec
        return objects.KINDS[spec.kind](self.config.data, spec)

    @property
    def examples(self) -> editing.Examples | None:
        """What the config's `editing` section names, read where it has changed; None for none."""
        c, spec = self.config, self.conditions.spec
        if not is_edited(c):
            return None
        other = self.parts["classifier"].experiment.spec.labels if "classifier" in self.parts else None
        labels = spec.labels or other
        classes = labels.count if labels else 0
        return editing.examples(c, self._kind, spec.shape, classes, told=spec.labels is not None)

    @property
    def asked(self) -> editing.Asked | None:
        """The file that samples are made by."""
        return self.examples if is_edited(self.config) else self.measured

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
        if is_edited(self.config):
            with jax.ensure_compile_time_eval():  # how many nodes are left is to be known
                return editing.below(self.config, objects.GRIDS[c.times](self.sampling, system.sde(params)))
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
        variance = solving.VARIANCES[c.variance](lambda x, t: model(x, t)[1])  # pyright: ignore[reportArgumentType]
        predictor, corrector = solving.solver(c, variance), solving.CORRECTORS[c.corrector](c)
        if corrector is None:
            return predictor
        assert isinstance(predictor, Solver)  # validation refuses a corrector behind an adaptive solver
        return PredictorCorrector(predictor, corrector)

    def _reference(self, system: Score, params: Params, keys: Keys, condition: Condition) -> Samples:
        """Samples by the official code's arithmetic, and by its noise in law."""
        c, sde = self.config.sampling, self.config.sde
        chain = objects.CHAINS[sde.name](sde, sde.num_scales if sde.discrete else c.num_steps)
        adaptive = c.solver in RUNGE_KUTTA  # to the official code, one error norm for the batch
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
