"""From a validated config to an experiment: its objects, and the pure functions of parameters made of them."""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde import sde, solvers
from score_sde.config import Config, nearest
from score_sde.config.automatic import choose
from score_sde.config.averages import RAW, canonical
from score_sde.config.validation import validate
from score_sde.data import augment, nonleaking
from score_sde.data.sources import Images, hold_out
from score_sde.data.stream import Batch, Stream
from score_sde.devices import memory
from score_sde.devices.parallel import Strategy
from score_sde.errors import require
from score_sde.experiment import objects
from score_sde.networks.remat import compiler_options
from score_sde.objectives import denoising, variational
from score_sde.rng import Purpose, child, example_keys, low_discrepancy, normal, positions, root_key, uniform
from score_sde.scores import parametrization
from score_sde.solvers import pilot, reference
from score_sde.solvers.sampling import Samples, sample
from score_sde.training.ema import Average
from score_sde.training.optimizer import Optimizer
from score_sde.training.step import TrainState, TrainStep, initial_state, make_train_step
from score_sde.typing import Array, Keys, Network, ScoreFn


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config's objects, and the pure functions of parameters made of them."""

    config: Config
    sde: sde.SDE
    network: nn.Module
    parametrization: parametrization.Parametrization
    optimizer: Optimizer
    averages: dict[str, Average]
    strategy: Strategy

    @functools.cached_property
    def images(self) -> Images:
        """The config's images, read when first asked for; UsageError where they are missing or malformed."""
        return load_images(self.config)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of one image."""
        size = self.config.data.image_size
        return (size, size, self.config.data.num_channels)

    @property
    def stream(self) -> Stream:
        """The endless stream of training images."""
        return Stream(self.images.train, self.config.seed)

    def init_params(self) -> Any:
        """Fresh network parameters, a function of the config's seed and architecture alone."""
        return _once(lambda: jax.jit(self._init, compiler_options=_hastily())(self._init_key()))

    def _init_key(self) -> Array:
        return jax.random.fold_in(root_key(self.config.seed), Purpose.INITIALIZATION)

    def _init(self, key: Array) -> Any:
        ones = jnp.ones((1,))
        return self.network.init(key, jnp.zeros((1, *self.image_shape)), ones, ones)["params"]

    def initial_state(self) -> TrainState:
        """The training state before the first update, laid out for the strategy."""
        return _once(lambda: self.strategy.make(self._initial_state, self._init_key(), _hastily()))

    def _initial_state(self, key: Array) -> TrainState:
        return initial_state(self._init(key), self.optimizer, self.averages)

    def abstract_state(self) -> Any:
        """Shapes and dtypes of the training state, at no cost."""
        return jax.eval_shape(self._initial_state, root_key(0))

    def restorable_state(self) -> Any:
        """The abstract state with the strategy's shardings: what a checkpoint is restored as."""
        return self.strategy.abstract(self.abstract_state())

    def weights(self, state: TrainState, average: str = "") -> Any:
        """A trained state's parameters under the average of a name, the main one by default, or themselves ("raw").

        Raises UsageError for a name that is not stored; other widths: training.snapshots.reconstruct.
        """
        name = canonical(average) or next(iter(self.averages))
        if name == RAW:
            return state.params
        require(name in self.averages, f"average {average!r} is not stored: {nearest(average, (*self.averages, RAW))}")
        return state.averages[name]

    def score(self, state: TrainState, average: str = "") -> ScoreFn:
        """The score function of a trained state: the averaged weights of `weights`, no dropout."""
        return self.score_of(self.weights(state, average))

    def score_of(
        self, params: Any, dropout_keys: Keys | None = None, labels: Array | None = None, **execution: Any
    ) -> ScoreFn:
        """The score function of given parameters.

        labels [B, 9] say how the images were augmented (data/nonleaking.py), None that they were not. execution: the
        network's fields of how it is computed, which change no value: loop_safe, fused_attention, remat.
        """
        model = self.model(params, dropout_keys, labels, **execution)
        return lambda x, t: model(x, t)[0]

    def model(
        self, params: Any, dropout_keys: Keys | None = None, labels: Array | None = None, **execution: Any
    ) -> variational.Model:
        """The score and, where the network learns variances, their fraction (posterior.Learned): one evaluation."""
        apply = self._apply(params, dropout_keys, labels, **execution)
        if self.config.parametrization.learned_variance:
            return self.parametrization.with_variance(apply, self.sde)
        score = self.parametrization(apply, self.sde)
        return lambda x, t: (score(x, t), None)

    def _apply(
        self, params: Any, dropout_keys: Keys | None = None, labels: Array | None = None, **execution: Any
    ) -> Network:
        network = self.network.clone(**execution)
        # Validation sees to it that a network that is given labels takes them.
        options: dict[str, Any] = {} if labels is None else {"augment": labels}

        def apply(x: Array, label: Array, sigma: Array) -> Array:
            return network.apply({"params": params}, x, label, sigma, dropout_keys, **options)  # pyright: ignore[reportReturnType]

        return apply

    def loss(self, params: Any, batch: Batch, held_out: bool = False) -> tuple[Array, Array]:
        """The training loss of every example [B] and the quantile u [B] of its t in the law of t.

        Flip, dequantisation, t, z and dropout are all functions of the example's position. held_out: of images that are
        not trained on, with noise of their own, without flip and dropout.
        """
        config = self.config
        key = root_key(config.seed)
        key = jax.random.fold_in(key, Purpose.EVALUATION) if held_out else key
        position = jnp.asarray(batch.position)
        keys = example_keys(key, position)
        x0 = augment.preprocess(
            keys,
            jnp.asarray(batch.image),
            flip=config.data.random_flip and not held_out,
            dequantization=config.data.uniform_dequantization,
            centered=config.data.centered,
        )
        x0, labels = (x0, None) if held_out else self._augment(keys, x0)
        u = low_discrepancy(key, position) if config.training.stratified else uniform(child(keys, Purpose.TIME))
        dropout_keys = child(keys, Purpose.DROPOUT) if config.network.dropout and not held_out else None
        return self._objective(params, keys, x0, u, dropout_keys, labels), u

    def _objective(
        self, params: Any, keys: Keys, x0: Array, u: Array, dropout_keys: Keys | None, labels: Array | None
    ) -> Array:
        """The config's objective on clean images x0 [B, H, W, C] at quantiles u [B]: [B]."""
        config = self.config
        on_cpu, objective = jax.default_backend() == "cpu", config.training.objective
        # The other objectives than these differentiate the score forwards.
        backwards = objective == "denoising" or objective in objects.BOUNDS
        execution = {"loop_safe": on_cpu and backwards, "fused_attention": backwards, "remat": config.training.remat}
        if objective in objects.BOUNDS:
            model = self.model(params, dropout_keys, labels, **execution)
            return objects.BOUNDS[objective](config)(keys, model, self.sde, x0, u)
        score = self.score_of(params, dropout_keys, labels, **execution)
        return denoising.denoising_loss(
            keys,
            score,
            self.sde,
            x0,
            weighting=objects.WEIGHTINGS[config.training.weighting](config),
            times=objects.TIMES[config.training.times](config),
            reduction=objects.reduction(config),
            objective=objects.OBJECTIVES[objective](config.training),
            u=u,
        )

    def _augment(self, keys: Keys, x0: Array) -> tuple[Array, Array | None]:
        """Augmented images in the network's range and what the network is told of it; without augmentation, None."""
        p = self.config.data.augmentation
        return nonleaking.augment(child(keys, Purpose.AUGMENTATION), x0, p) if p else (x0, None)

    def train_step(self) -> TrainStep:
        """The pure training step, for the strategy to compile."""
        c = self.config.training
        return make_train_step(
            self.strategy.wrap(self.loss),
            self.optimizer,
            self.averages,
            self.strategy.axis_name,
            microbatches=c.microbatches,
            skip_nonfinite=objects.SKIPPING[c.nonfinite],
        )

    def compiled_step(self) -> Callable:
        """The training step over the strategy's devices: (placed state, placed batches) -> (placed state, metrics)."""
        return self.strategy.compile(self.train_step(), self.abstract_state(), compiler_options())

    @functools.cached_property
    def sampling(self) -> Config:
        """The config with its `sampling` section as it is carried out: what "auto" stands for is in its place."""
        c = self.config.sampling
        if c.solver != "auto":
            return self.config
        config = copy.deepcopy(self.config)
        config.sampling.update(choose(config.sde.name, c.num_steps, c.denoise))
        return config

    def draw(self, params: Any, keys: Keys, times: Array | None = None) -> Samples:
        """Samples [B, H, W, C] in the network's range as the config's `sampling` section says; pure, to be jitted.

        times: what `times` returns, where it is known, as making an optimised grid costs a pilot run.
        """
        if self.config.sampling.reference:
            return self._draw_reference(params, keys)
        return sample(
            keys,
            self.score_of(params),
            self.sde,
            self.image_shape,
            solver=self.solver(params),
            times=self.times(params) if times is None else times,
            denoise=self.config.sampling.denoise,
        )

    def times(self, params: Any) -> Array:
        """The grid of the config's `sampling` section; where there is no solver, with its first node twice.

        An optimised one is made for the parameters by a pilot run.
        """
        c = self.sampling.sampling
        if c.times == "optimised":
            return self._optimised(params)
        grid = objects.GRIDS[c.times](self.sampling, self.sde)
        # Where nothing but the corrector moves x, it must also be at work at T.
        return jnp.concatenate([grid[:1], grid]) if c.solver == "none" else grid

    def _optimised(self, params: Any) -> Array:
        c, solver = self.config.sampling, self.solver(params)
        assert isinstance(solver, solvers.Solver)  # validation refuses an optimised grid for an adaptive one
        keys = example_keys(jax.random.fold_in(root_key(c.seed), Purpose.PILOT), positions(0, pilot.SAMPLES))
        options = {"solver": solver, "t_min": c.t_min, "num_steps": c.num_steps}
        return pilot.optimised(keys, self.score_of(params), self.sde, self.image_shape, **options)

    def solver(self, params: Any) -> solvers.Solver | solvers.AdaptiveSolver:
        """The solver of the config's `sampling` section; the parameters are for a learned variance."""
        c = self.sampling.sampling
        model = self.model(params)
        variance = objects.VARIANCES[c.variance](lambda x, t: model(x, t)[1])  # pyright: ignore[reportArgumentType]
        predictor, corrector = objects.SOLVERS[c.solver](c, variance), objects.CORRECTORS[c.corrector](c)
        if corrector is None:
            return predictor
        assert isinstance(predictor, solvers.Solver)  # validation refuses a corrector behind an adaptive solver
        return solvers.PredictorCorrector(predictor, corrector)

    def _draw_reference(self, params: Any, keys: Keys) -> Samples:
        """Samples by the official code's arithmetic, and by its noise in law."""
        c, sde = self.config.sampling, self.config.sde
        chain = objects.CHAINS[sde.name](sde, sde.num_scales if sde.discrete else c.num_steps)
        adaptive = c.solver in ("rk45", "rk45_batch")  # to the official code, one error norm for the batch
        score = chain.score(self._apply(params), continuous=adaptive or not sde.discrete)
        x = chain.sde.prior_sample(child(keys, Purpose.PRIOR), self.image_shape)
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
            lambda i, j: normal(child(child(step_keys, i), j), self.image_shape),
            corrections=c.corrector_steps,
            t_min=c.t_min,
            denoise=c.denoise,
        )
        return Samples(*drawn)


def _hastily() -> dict[str, Any] | None:
    """Options for a program that runs once: compiling it with care costs more than it could ever save."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None


def _once(program: Callable[[], Any]) -> Any:
    """What the program returns, and its compiler's memory back."""
    found = jax.block_until_ready(program())
    memory.release()
    return found


def load_images(config: Config) -> Images:
    """The config's images; UsageError where they are missing, malformed or of another size."""
    size = config.data.image_size
    expected = (size, size, config.data.num_channels)
    images = hold_out(objects.IMAGES[config.data.name](config.data), config.data.held_out)
    found = images.train.shape[1:]
    require(
        found == expected,
        f"the images have shape {found} but the config says {expected}: set data.image_size and data.num_channels",
    )
    return images


def build(config: Config) -> Experiment:
    """Everything that a config names; raises UsageError for what is wrong with it."""
    validate(config)
    prediction = objects.PREDICTIONS[config.parametrization.prediction](config)
    return Experiment(
        config=config,
        sde=objects.SDES[config.sde.name](config.sde),
        network=objects.NETWORKS[config.network.name](config),
        parametrization=parametrization.Parametrization(
            prediction, objects.LABELS[config.parametrization.label](config)
        ),
        optimizer=Optimizer(**config.optimizer),
        averages=objects.averages(config),
        strategy=objects.STRATEGIES[config.parallel.strategy](config.parallel),
    )
