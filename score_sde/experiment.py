"""From a validated config to objects: the only place where a string becomes one."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from score_sde import losses, parametrization, sde, solvers, times
from score_sde.config import Config, validate
from score_sde.data import augment
from score_sde.data.sources import Images, array_file, digits
from score_sde.data.stream import Batch, Stream
from score_sde.errors import require
from score_sde.networks.ncsnpp import NCSNpp
from score_sde.parallel import Pmap, Strategy
from score_sde.rng import Purpose, child, example_keys, low_discrepancy, root_key
from score_sde.sampling import Samples, sample
from score_sde.training.ema import EMA
from score_sde.training.optimizer import Optimizer
from score_sde.training.step import TrainState, TrainStep, initial_state, make_train_step
from score_sde.typing import Array, Keys, ScoreFn

SDES: dict[str, Callable[[Config], sde.SDE]] = {
    "vp": lambda c: sde.vp(c.beta_min, c.beta_max),
    "subvp": lambda c: sde.subvp(c.beta_min, c.beta_max),
    "ve": lambda c: sde.ve(c.sigma_min, c.sigma_max),
}
NETWORKS = {"ncsnpp": NCSNpp}
PREDICTIONS = {
    "noise": parametrization.Noise(),
    "score": parametrization.Score(),
    "denoiser": parametrization.Denoiser(),
    "velocity": parametrization.Velocity(),
}
LABELS = {"time": parametrization.time_label, "sigma": parametrization.sigma_label}
WEIGHTINGS = {"simple": losses.simple, "likelihood": losses.likelihood}
TIMES = {"uniform": losses.UniformTimes, "likelihood": losses.LikelihoodTimes}
STRATEGIES: dict[str, Callable[[], Strategy]] = {"pmap": Pmap}
SOLVERS: dict[str, Callable[[Config], solvers.Solver | solvers.AdaptiveSolver]] = {
    "euler_maruyama": lambda c: solvers.EulerMaruyama(c.churn),
    "reverse_diffusion": lambda c: solvers.ReverseDiffusion(),
    "ancestral": lambda c: solvers.Ancestral(),
    "euler": lambda c: solvers.Euler(),
    "rk45": lambda c: solvers.RK45(c.rtol, c.atol),
}
CORRECTORS: dict[str, Callable[[Config], solvers.Corrector | None]] = {
    "none": lambda c: None,
    "langevin": lambda c: solvers.Langevin(c.snr, c.corrector_steps),
    "annealed_langevin": lambda c: solvers.AnnealedLangevin(c.snr, c.corrector_steps),
}
GRIDS = {"uniform": times.uniform, "quadratic": times.quadratic, "log_snr": times.log_snr}
IMAGES: dict[str, Callable[[Config], Images]] = {
    "digits": lambda c: digits(),
    "array": lambda c: array_file(c.path),
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config's objects, and the pure functions of parameters made of them."""

    config: Config
    sde: sde.SDE
    network: NCSNpp
    parametrization: parametrization.Parametrization
    optimizer: Optimizer
    ema: EMA
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
        key = jax.random.fold_in(root_key(self.config.seed), Purpose.INITIALIZATION)
        # Initialising runs once: compiling it with care costs more than it could ever save.
        options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        return jax.jit(self._init, compiler_options=options)(key)

    def _init(self, key: Array) -> Any:
        ones = jnp.ones((1,))
        return self.network.init(key, jnp.zeros((1, *self.image_shape)), ones, ones)["params"]

    def initial_state(self) -> TrainState:
        """The training state before the first update."""
        return initial_state(self.init_params(), self.optimizer)

    def abstract_state(self) -> Any:
        """Shapes and dtypes of the training state, at no cost."""
        return jax.eval_shape(lambda key: initial_state(self._init(key), self.optimizer), root_key(0))

    def score(self, state: TrainState) -> ScoreFn:
        """The score function of a trained state: its EMA weights, no dropout."""
        return self.score_of(state.ema)

    def score_of(self, params: Any, dropout_keys: Keys | None = None, loop_safe: bool = False) -> ScoreFn:
        """The score function of given parameters.

        loop_safe chooses convolutions whose gradients are fast inside a loop on CPU (and have no forward mode).
        """
        network = self.network.clone(loop_safe=loop_safe)

        def apply(x: Array, label: Array, sigma: Array) -> Array:
            return network.apply({"params": params}, x, label, sigma, dropout_keys)  # pyright: ignore[reportReturnType]

        return self.parametrization(apply, self.sde)

    def loss(self, params: Any, batch: Batch) -> Array:
        """The training loss of every example [B]: flip, dequantisation, t, z and dropout all from its position."""
        config, key = self.config, root_key(self.config.seed)
        keys = example_keys(key, batch.position)
        x0 = augment.preprocess(
            keys,
            jnp.asarray(batch.image),
            flip=config.data.random_flip,
            dequantization=config.data.uniform_dequantization,
            centered=config.data.centered,
        )
        dropout_keys = child(keys, Purpose.DROPOUT) if config.network.dropout else None
        return losses.denoising_loss(
            keys,
            self.score_of(params, dropout_keys, loop_safe=jax.default_backend() == "cpu"),
            self.sde,
            x0,
            weighting=WEIGHTINGS[config.training.weighting],
            times=TIMES[config.training.times](config.training.t_min),
            reduction=losses.mean if config.training.reduce_mean else losses.half_sum,
            u=low_discrepancy(key, jnp.asarray(batch.position)) if config.training.stratified else None,
        )

    def train_step(self) -> TrainStep:
        """The pure training step, for the strategy to compile."""
        return make_train_step(self.loss, self.optimizer, self.ema, self.strategy.axis_name)

    def draw(self, params: Any, keys: Keys) -> Samples:
        """Samples [B, H, W, C] in the network's range as the config's `sampling` section says; pure, to be jitted."""
        c = self.config.sampling
        return sample(
            keys,
            self.score_of(params),
            self.sde,
            self.image_shape,
            solver=self.solver(),
            times=GRIDS[c.times](self.sde, c.t_min, c.num_steps),
            denoise=c.denoise,
        )

    def solver(self) -> solvers.Solver | solvers.AdaptiveSolver:
        """The solver of the config's `sampling` section."""
        c = self.config.sampling
        predictor, corrector = SOLVERS[c.solver](c), CORRECTORS[c.corrector](c)
        if corrector is None:
            return predictor
        assert isinstance(predictor, solvers.Solver)  # config.validate refuses a corrector behind an adaptive solver
        return solvers.PredictorCorrector(predictor, corrector)


def load_images(config: Config) -> Images:
    """The config's images; UsageError where they are missing, malformed or of another size."""
    images = IMAGES[config.data.name](config.data)
    size = config.data.image_size
    expected = (size, size, config.data.num_channels)
    found = images.train.shape[1:]
    require(
        found == expected,
        f"the images have shape {found} but the config says {expected}: set data.image_size and data.num_channels",
    )
    return images


def build(config: Config) -> Experiment:
    """Everything that a config names; raises UsageError for what is wrong with it."""
    validate(config)
    options = {name: value for name, value in config.network.items() if name != "name"}
    network = NETWORKS[config.network.name](
        **options, centered=config.data.centered, dtype=jnp.dtype(config.training.compute_dtype)
    )
    prediction = PREDICTIONS[config.parametrization.prediction]
    return Experiment(
        config=config,
        sde=SDES[config.sde.name](config.sde),
        network=network,
        parametrization=parametrization.Parametrization(prediction, LABELS[config.parametrization.label]),
        optimizer=Optimizer(**config.optimizer),
        ema=EMA(**config.ema),
        strategy=STRATEGIES[config.parallel.strategy](),
    )
