"""An experiment: a config's objects, and the pure functions of parameters made of them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from score_sde.config import Config, flatten, nearest
from score_sde.config.averages import RAW, canonical, width
from score_sde.config.fields import READ_ANEW
from score_sde.config.validation import validate
from score_sde.data import nonleaking
from score_sde.data.identity import digest
from score_sde.data.kinds import Kind
from score_sde.data.sources import Dataset
from score_sde.data.spec import Spec
from score_sde.data.stream import Batch, Stream
from score_sde.devices import memory
from score_sde.devices.parallel import Compiled, Strategy
from score_sde.devices.platform import Platform, platform
from score_sde.devices.precision import at
from score_sde.errors import require
from score_sde.experiment import factories, objects
from score_sde.experiment.degrading import Degradation, degradation
from score_sde.experiment.drawing import Drawing
from score_sde.experiment.early import Early
from score_sde.experiment.editing import Asked
from score_sde.experiment.pairs import Pairs, drawn
from score_sde.experiment.resolving import check_same, load_data
from score_sde.experiment.starting import Origin, replaced
from score_sde.networks.remat import compiler_options
from score_sde.rng import Purpose, child, example_keys, low_discrepancy, root_key, uniform
from score_sde.sde import SDE
from score_sde.solvers import AdaptiveSolver, Solver
from score_sde.solvers.sampling import Samples
from score_sde.storage.checkpoint import Checkpoints
from score_sde.systems import Condition, Reflow, Score, System
from score_sde.systems.base import Params
from score_sde.systems.reflow import NOISE
from score_sde.systems.teacher import Student
from score_sde.training.ema import Average
from score_sde.training.layout import layouts
from score_sde.training.optimizer import Optimizer, global_norm, joined_norm
from score_sde.training.snapshots import reconstruct
from score_sde.training.step import TrainState, TrainStep, View, initial_state, make_train_step
from score_sde.typing import Array, Keys, ScoreFn

Factory = Callable[..., System]
"""(config, spec, drawing, {part: Frozen}) -> System: `drawing` draws a score system's samples."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config's objects, and the pure functions of parameters {part: tree} made of them.

    spec: what is known of the data. frozen: the parts of other runs, by name; their records stand in config.json.
    built: the fields as they were. origin: what its first parameters came from, or None. imported: at which step, or 0.
    """

    config: Config
    spec: Spec
    system: System
    kind: Kind
    optimizers: dict[str, Optimizer]
    averages: dict[str, Average]
    strategy: Strategy
    drawing: Drawing
    factory: Factory
    frozen: Mapping[str, Any]
    built: Mapping[str, Any]
    origin: Origin | None = None
    imported: int = 0

    def check(self) -> None:
        """UsageError where the config, changed since it was built, is wrong or makes other objects than there are.

        Sections and fields of READ_ANEW may change between calls: whoever compiles them compiles anew (`Program`).
        """
        validate(self.config, own_system=self.factory not in factories.SYSTEMS.values())
        for name, value in flatten(self.config).items():
            require(
                value == self.built[name] or name.startswith(READ_ANEW),
                f"config.{name} was {self.built[name]!r} when this experiment was built, and is {value!r} now: build"
                " another one of the config, or set it back",
            )

    @functools.cached_property
    def data(self) -> Dataset:
        """The config's data, read when first asked for; UsageError where they are missing, malformed or others."""
        found = load_data(self.config, (self.spec.content or {}).get("range") or "")
        check_same(self.config, self.spec, found)
        return found

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """What the data are known by: as the run's record has it, or for the first time, which reads them."""
        known = self.spec.content or {}
        return known if "train" in known else digest(self.data)

    @functools.cached_property
    def early(self) -> Early:
        """How much of the averages is not trained yet."""
        taught = isinstance(self.system, Student) and bool(self.system.frozen)
        trained = self.origin is not None or self.imported > 0 or taught
        return Early(self.averages, self.config.training.batch_size, self.imported, trained)

    @functools.cached_property
    def degradation(self) -> Degradation | None:
        """What the network is shown beside x; None for nothing."""
        return degradation(self.config, self.kind, self.shape, lambda: self.data)

    @property
    def asked(self) -> Asked | None:
        """What samples answer or are made of: a file's, or the pictures that the network is shown; None for nothing."""
        return self.degradation.answered if self.degradation else self.drawing.asked

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, such as [H, W, C]."""
        return self.spec.shape

    @functools.cached_property
    def pairs(self) -> Pairs | None:
        """What a reflow is trained on in the place of the data, drawn when first asked for; None for other systems."""
        return drawn(self.config, self.spec, self.frozen) if isinstance(self.system, Reflow) else None

    @property
    def stream(self) -> Stream:
        """The endless stream of training examples, with what conditions them."""
        if self.pairs is not None:
            return Stream(self.pairs.x, self.config.seed, self.pairs.condition)
        return Stream(self.data.train, self.config.seed, self.chosen(self.data.condition))

    def chosen(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the data's conditions that the config's data.condition names, a caption as its tokens."""
        return self.drawing.conditions.of_data(self.config.data.condition, conditions)

    @property
    def sde(self) -> SDE:
        """The noise process of a system whose schedule is no parameter."""
        return self.system.sde()

    @property
    def score_system(self) -> Score:
        """The system, for what only a score network has (a grid, a solver, a foreign checkpoint); else UsageError."""
        require(
            isinstance(self.system, Score),
            "the system has no score network, which an import, a report and sampling.times='optimised' ask for: use a"
            " run of system.name='score' for these",
        )
        return self.system  # pyright: ignore[reportReturnType]

    def init_params(self) -> Params:
        """Fresh parameters {part: tree}, a function of the config's seed and architecture alone."""
        return _once(lambda: jax.jit(self._init, compiler_options=self._hastily)(self._init_key()))

    def _init_key(self) -> Array:
        return jax.random.fold_in(root_key(self.config.seed), Purpose.INITIALIZATION)

    def _init(self, key: Array) -> Params:
        return self.system.init(key, self.frozen_params)

    @property
    def frozen_params(self) -> dict[str, Params]:
        """The parameters of the frozen parts."""
        return {part: found.params for part, found in self.frozen.items() if found.params}

    def initial_state(self) -> TrainState:
        """The training state before the first update, laid out for the strategy; its averages are its parameters."""
        return self.beginning()()

    def beginning(self) -> Callable[[], TrainState]:
        """What makes the initial state: traced here, compiled and run where it is called, which may be a thread."""
        begun = self._init_key(), self.origin.read() if self.origin else {}
        with memory.uncollected():
            lowered = self.strategy.lower(self._begin, begun)
        return lambda: _once(lambda: lowered.compile(self._hastily)(begun))

    @functools.cached_property
    def _begin(self) -> Callable[[Any], TrainState]:
        """One object, so that jax keeps what it has traced of it."""
        return self._initial_state

    def _initial_state(self, begun: tuple[Array, dict[str, Array]]) -> TrainState:
        key, given = begun
        return initial_state(replaced(self._init(key), given), self.optimizers, self.averages)

    def abstract_params(self) -> Params:
        """Shapes and dtypes of the parameters, at no cost."""
        return jax.eval_shape(self._init, root_key(0))

    def abstract_state(self) -> Any:
        """Shapes and dtypes of the training state, at no cost."""
        return jax.eval_shape(self._begin, (root_key(0), {}))

    def restore(self, checkpoints: Checkpoints, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
        """The state and the JSON object of the newest good checkpoint, or of a step, for the strategy.

        One of an earlier version (training/layout.py) is brought to today's layout. Raises what Checkpoints.restore
        does.
        """
        state = self.strategy.abstract(self.abstract_state())
        known = layouts(state)
        found, meta, number = checkpoints.restore_any([layout for layout, _ in known], step)
        return known[number][1](found), meta

    def weights(self, state: TrainState, average: str = "") -> Params:
        """A trained state's parameters under the average of a name, the main one by default, or themselves ("raw").

        Raises UsageError for a name that is not stored; other widths: `weights_of`.
        """
        name = canonical(average) or next(iter(self.averages))
        if name == RAW:
            return state.params
        require(name in self.averages, f"average {average!r} is not stored: {nearest(average, (*self.averages, RAW))}")
        return state.averages[name]

    def weights_of(self, state: TrainState, average: str, images: int, folder: Any) -> Params:
        """As `weights`; a width that is not stored is put together from the snapshots in a folder.

        images: examples that the state has seen.
        """
        std = width(average)
        if std is None or canonical(average) in self.averages:
            return self.weights(state, average)
        return reconstruct(folder, int(state.step), state.averages, images, std)

    def score(self, state: TrainState, average: str = "", condition: Condition | None = None) -> ScoreFn:
        """The score function of a trained state: the averaged weights of `weights`, no dropout."""
        return self.score_of(self.weights(state, average), condition)

    def score_of(self, params: Params, condition: Condition | None = None) -> ScoreFn:
        """The score function of given parameters, for examples of this condition."""
        return self.system.score(params, condition)

    def loss(
        self, params: Params, view: View, batch: Batch, held_out: bool = False
    ) -> tuple[Array, Array, dict[str, Array]]:
        """The training loss of every example [B], the quantile u [B] of its t in the law of t, the loss's terms [B].

        Flip, dequantisation, t, z, dropout and dropped labels are all functions of the example's position. held_out: of
        examples that are not trained on, with noise of their own, without flip, dropout and dropped labels.
        """
        config = self.config
        key = root_key(config.seed)
        key = jax.random.fold_in(key, Purpose.EVALUATION) if held_out else key
        position = jnp.asarray(batch.position)
        keys = example_keys(key, position)
        x0 = jnp.asarray(batch.x)  # of pairs, as the network sees it
        x0 = x0 if NOISE in batch.condition else self.kind.encode(keys, x0, training=not held_out)
        x0, condition = self.drawing.conditions.there(x0, jax.tree.map(jnp.asarray, dict(batch.condition)))
        if config.data.augmentation and not held_out:
            augmentation = child(keys, Purpose.AUGMENTATION)
            x0, condition["augment"] = nonleaking.augment(augmentation, x0, config.data.augmentation)
        condition |= self.degradation.of_examples(keys, x0) if self.degradation else {}
        u = low_discrepancy(key, position) if config.training.stratified else uniform(child(keys, Purpose.TIME))
        loss, terms = self.system.losses(params, view, keys, x0, condition, u, training=not held_out)
        return loss, u, terms

    def held_out_loss(self, params: Params, frozen: dict[str, Params], batch: Batch) -> Array:
        """The loss of held-out examples [B] as at the run's end, the parameters in the place of every average."""
        view = View(jnp.int32(self.config.training.num_steps), dict.fromkeys(self.averages, params), frozen)
        return self.loss(params, view, batch, held_out=True)[0]

    def train_step(self) -> TrainStep:
        """The pure training step, for the strategy to compile."""
        c, loss, axis = self.config.training, self.strategy.wrap(self.loss), self.strategy.axis_name
        norm = joined_norm if self.platform.name in ("cuda", "rocm") else global_norm
        options = {"microbatches": c.microbatches, "skip_nonfinite": objects.SKIPPING[c.nonfinite], "norm": norm}
        return at(c.precision, make_train_step(loss, self.optimizers, self.averages, axis, **options))

    @property
    def platform(self) -> Platform:
        """What programs are compiled for."""
        return platform(self.config.parallel.topology)

    @property
    def _hastily(self) -> dict[str, Any] | None:
        """Options for a program that runs once: compiling it with care costs more than it could ever save."""
        return {"xla_backend_optimization_level": 0} if self.platform.name == "cpu" else None

    def compiled_step(self) -> Compiled:
        """The training step over the strategy's devices: (placed state, placed batches) -> (placed state, metrics)."""
        state, options = self.abstract_state(), compiler_options(self.platform.name)
        return self.strategy.compile(self.train_step(), state, self.frozen_params, options)

    def conditions(self, position: Any) -> dict[str, Any]:
        """What samples at these positions are conditioned on, by `sampling.label` and `sampling.seed`, or are shown."""
        found = self.drawing.of_samples(position)
        return found | self.degradation.of_samples(position) if self.degradation else found

    def draw(
        self, params: Params, keys: Keys, condition: Condition | None = None, times: Array | None = None
    ) -> Samples:
        """Samples [B, ...] in the network's range as the config's `sampling` section says; pure, to be jitted.

        times: what `times` returns, where it is known, as making an optimised grid costs a pilot run.
        """
        if times is None:
            return self.system.draw(params, keys, condition or {})
        samples = self.drawing(self.score_system, params, keys, condition or {}, times)
        return self.score_system.finished(params, keys, condition or {}, samples)

    def times(self, params: Params) -> Array:
        """The grid [N + 1] that a score system's samples are drawn on: `Drawing.times`."""
        return self.drawing.times(self.score_system, params)

    def solver(self, params: Params, condition: Condition | None = None) -> Solver | AdaptiveSolver:
        """The solver that a score system's samples are drawn with: `Drawing.solver`."""
        return self.drawing.solver(self.score_system, params, condition)

    def notes(self) -> dict[str, Any]:
        """What stands in config.json beside the config: what the data are, and where other runs' weights came from.

        What the data are known by is part of it, where they were read.
        """
        data = dataclasses.replace(self.spec, content=self.content if "data" in self.__dict__ else self.spec.content)
        frozen = {part: found.record.to_json() for part, found in self.frozen.items()}
        start = self.origin.record.to_json() if self.origin else {}
        return {"data": data.to_json()} | ({"frozen": frozen} if frozen else {}) | ({"start": start} if start else {})


def _once(program: Callable[[], Any]) -> Any:
    """What the program returns, and its compiler's memory back."""
    found = jax.block_until_ready(program())
    memory.trim()
    return found
