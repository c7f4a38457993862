"""Every program is lowered for accelerators on processors: nothing that only processors have may be in it."""

import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.config import Config, choices, flatten, load
from score_sde.config.data_checks import known_shape
from score_sde.config.fields import MEASURING
from score_sde.data.spec import Labels, Spec
from score_sde.data.stream import Batch
from score_sde.experiment import build, objects
from score_sde.experiment.building import assemble
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.factories import score_system
from score_sde.experiment.generation import Generator
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.experiment.objects import SKIPPING
from score_sde.likelihood import grid as grids
from score_sde.rng import positions
from score_sde.training.step import make_train_step
from tests.light import NETWORKS
from tests.tiny import tiny_config

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
PUBLISHED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py") if path.parent != CONFIGS)
PLATFORMS = {"tpu": "v5e:2x2", "cuda": "h100"}
HOST = re.compile(r"callback|eigh|lapack|xla_ffi_python|geev|syevd", re.I)
"""Calls of the host's, or of its libraries."""


def lowered(traced: jax.stages.Traced, *platforms: str) -> str:
    """The program for all of these platforms or those named, in which nothing of the host's is called."""
    text = traced.lower(lowering_platforms=platforms or tuple(PLATFORMS)).as_text()
    calls = re.findall(r"custom_call @(\S+?)\(", text)
    assert not [name for name in calls if HOST.search(name)], calls
    return text


def experiment_for(platform: str, config: Config) -> Experiment:
    """Of ten classes or as many as the config says, where it has some: the data, which know them, need not be here."""
    config.parallel.topology = PLATFORMS[platform]
    if not config.data.condition:
        return build(config)
    shape, classes = known_shape(config), config.data.num_classes or 10
    assert shape is not None
    return assemble(config, Spec(shape, labels=Labels((1 / classes,) * classes)), score_system, {})


def training(experiment: Experiment) -> jax.stages.Traced:
    """Of two updates on one device."""
    c = experiment.config.training
    options = {"microbatches": c.microbatches, "skip_nonfinite": SKIPPING[c.nonfinite]}
    step = make_train_step(experiment.loss, experiment.optimizers, experiment.averages, **options)
    dtype = jnp.uint8 if experiment.spec.kind == "bytes" else jnp.float32
    x, position = jax.ShapeDtypeStruct((2, 4, *experiment.shape), dtype), jax.ShapeDtypeStruct((2, 4, 2), jnp.uint32)
    labels = {"label": jax.ShapeDtypeStruct((2, 4), jnp.int32)} if experiment.spec.labels else {}
    return jax.jit(step).trace(experiment.abstract_state(), {}, Batch(x, position, labels))


def shrunk(name: str) -> Config:
    """A published configuration with 32 channels, one block a level and two levels, attention in the second."""
    config = load(str(CONFIGS / name))
    config.network.update(nf=32, num_res_blocks=1)
    if config.network.name in U_NETS:
        config.data.image_size = 8
        config.network.update(ch_mult=(1, 2), attn_resolutions=(4,), dropout=0.1)
    return config


U_NETS = ("ncsnpp", "ddpm", "adm", "dhariwal")


def told(config: Config) -> dict[str, Any]:
    """What its training program depends on."""
    sections = ("network.", "sde.name", "sde.discrete", "parametrization.", "degradation.", "data.centered", "data.aug")
    more = ("data.random_flip", "data.uniform", "training.objective", "training.weighting", "training.times", "ema.av")
    return {field: value for field, value in flatten(config).items() if field.startswith(sections + more)}


def forms(name: str) -> set[tuple]:
    """What tells the forms of its training program: (kind of network, field, value)."""
    config = shrunk(name)
    return {(config.network.name, *one) for one in told(config).items()}


def alike(name: str) -> tuple:
    """What its program of full size depends on: configurations that have this in common have one program."""
    config = load(str(CONFIGS / name))
    return known_shape(config), *sorted(told(config).items())


def covering() -> list[str]:
    """Published configurations of which each has a form that none before it has, and together all of them."""
    kept, seen = [], set()
    for name in PUBLISHED:
        if forms(name) - seen:
            kept.append(name)
            seen |= forms(name)
    return kept


@pytest.mark.parametrize("name", covering())
def test_training_of_every_form_of_published_configurations(name: str) -> None:
    assert "stablehlo.while" in lowered(training(experiment_for("tpu", shrunk(name))))


@pytest.mark.certification
@pytest.mark.parametrize("name", sorted({alike(name): name for name in PUBLISHED}.values()))
def test_training_of_every_published_configuration_at_full_size(name: str) -> None:
    lowered(training(experiment_for("tpu", load(str(CONFIGS / name)))))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shallow network, whose own forms are those of training, in what is lowered for what is around it."""
    for name, network in NETWORKS.items():
        monkeypatch.setitem(objects.NETWORKS, name, network)


def sampling(experiment: Experiment) -> jax.stages.Traced:
    position = jax.ShapeDtypeStruct((4, 2), jnp.uint32)
    times = jax.ShapeDtypeStruct((5,), jnp.float32) if experiment.config.sampling.times == "optimised" else None
    condition = jax.tree.map(np.asarray, experiment.conditions(positions(0, 4)))
    return Generator(experiment)._draw.trace(experiment.abstract_params(), np.uint32(0), condition, times, position)


SOLVERS = [solver for solver in choices("sampling.solver") if solver not in ("auto", "none", "unmasking", *MEASURING)]


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver(solver: str) -> None:
    experiment = experiment_for("tpu", tiny_config(sampling__solver=solver))
    lowered(sampling(experiment))


@pytest.mark.parametrize(
    "changes",
    [{"guidance__method": word} for word in choices("guidance.method") if word not in ("auto", "none")]
    + [{"sampling__solver": word, "guidance__method": "none"} for word in MEASURING],
    ids=lambda changes: "-".join(changes.values()),
)
def test_every_way_to_answer_a_measurement(changes: dict[str, str], tmp_path: pathlib.Path, request: Any) -> None:
    """The slope of the whole network is in one of them."""
    if changes != {"guidance__method": "dps"}:
        request.getfixturevalue("light")
    np.savez(tmp_path / "y.npz", y=np.ones((8, 8)), mask=np.eye(8), sigma_y=1.0)
    measurement = {"measurement__name": "inpaint", "measurement__path": str(tmp_path / "y.npz")}
    lowered(sampling(experiment_for("tpu", tiny_config(**measurement, **changes))))


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("changes", [{"solver": "none", "corrector": "langevin"}, {"corrector": "annealed_langevin"}])
def test_every_corrector(changes: dict[str, str]) -> None:
    config = tiny_config(sampling__solver="reverse_diffusion")
    config.sampling.update(changes)
    lowered(sampling(experiment_for("tpu", config)))


@pytest.mark.parametrize("divergence", choices("likelihood.divergence"))
def test_the_likelihood(divergence: str, request: Any) -> None:
    """Both ways to solve it; the slope of the whole network is in one of them."""
    if divergence != "rademacher":
        request.getfixturevalue("light")
    experiment = experiment_for("tpu", tiny_config(likelihood__divergence=divergence, likelihood__bound_samples=2))
    stored, position = (jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in STORED)
    program = ImageLikelihood(experiment)._program
    grid = grids.steps(experiment.sde, experiment.config.likelihood.t_min, 32)
    for solved_on in (grid, None):
        traced = program.trace(experiment.abstract_params(), stored, position, {}, np.uint32(0), solved_on)
        lowered(traced)


STORED = (((4, 8, 8, 1), jnp.uint8), ((4, 2), jnp.uint32))

LOSSES: list[dict[str, Any]] = [
    {"objective": "implicit"}, {"objective": "sliced"}, {"objective": "sliced_variance_reduced"},
    {"remat": "dots"}, {"remat": "blocks"}, {"microbatches": 2}, {"nonfinite": "skip"},
]  # fmt: skip


@pytest.mark.parametrize("changes", LOSSES, ids=lambda changes: "-".join(map(str, *changes.items())))
def test_every_objective_and_way_to_train(changes: dict[str, Any]) -> None:
    config = tiny_config()
    config.training.update(changes)
    lowered(training(experiment_for("tpu", config)))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_bfloat16(platform: str) -> None:
    """Without a card at hand: cuDNN's attention, which asks for one when it is traced, is left out."""
    config = tiny_config(training__compute_dtype="bfloat16")
    lowered(training(experiment_for(platform, config)), platform)


def test_the_forms_of_processors_are_theirs_alone() -> None:
    """A kernel's gradient by a convolution has the channels in the place of the batch, behind a transpose."""
    gradient = re.compile(r"stablehlo\.transpose.*3, 1, 2, 0")
    small = {"network__attn_resolutions": ()}
    for platform in ("tpu", "cuda"):
        traced = training(experiment_for(platform, tiny_config(**small)))
        assert not gradient.search(lowered(traced, platform))
    assert gradient.search(training(build(tiny_config(**small))).lower().as_text())
