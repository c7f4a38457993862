"""The guidance section: what samples it draws, how it counts, what it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli import likelihood, modes
from score_sde.config.validation import validate
from score_sde.errors import UsageError
from score_sde.experiment import Experiment
from score_sde.experiment.generation import Generator
from score_sde.experiment.guiding import Guiding
from score_sde.sde import denoiser
from tests.experiment.test_conditions import labelled, trained
from tests.gradients import shaken_state
from tests.tiny import tiny_config


def guided(**changes) -> Experiment:
    return labelled(network__label_dropout=0.1, sampling__label="3", **changes)


def draw(experiment: Experiment, count: int = 4):
    return Generator(experiment)(shaken_state(experiment).params, count, show=False)


def test_the_guided_score_is_between_the_labels_and_the_null_labels():
    experiment = guided(guidance__scale=2.5)
    params, system = shaken_state(experiment).params, experiment.score_system
    x, t = jax.random.normal(jax.random.key(0), (3, *experiment.shape)), jnp.float32(0.4)
    label = {"label": jnp.array([3, 3, 5])}
    score = jax.jit(lambda label: system.score(params, {"label": label})(x, t))
    c, u = score(label["label"]), score(jnp.array([10] * 3))
    found = jax.jit(experiment.drawing.guiding.score(system, params, label))(x, t)
    np.testing.assert_allclose(found, u + 2.5 * (c - u), rtol=1e-4, atol=1e-5)


def test_both_letters_are_one_number_and_neutral_ones_change_nothing():
    plain, by_scale, by_weight = (
        draw(guided(**{f"guidance__{name}": value}))
        for name, value in (("scale", 1.0), ("scale", 2.0), ("weight", 1.0))
    )
    np.testing.assert_array_equal(by_scale.x, by_weight.x)
    assert (by_scale.x != plain.x).any()
    np.testing.assert_array_equal(plain.x, draw(guided()).x)
    assert (by_scale.evaluations, plain.evaluations) == (2 * plain.evaluations, plain.evaluations)


def near(one, other) -> None:
    """Of two programs: the same numbers to the rounding of float32, which bytes may show."""
    np.testing.assert_allclose(one.x.astype(int), other.x.astype(int), atol=2)


def test_an_interval_is_counted_and_the_whole_of_it_is_no_limit():
    plain, everywhere = draw(guided()), draw(guided(guidance__scale=2.0))
    assert np.abs(plain.x.astype(int) - everywhere.x).max() > 20
    whole = draw(guided(guidance__scale=2.0, guidance__interval=(0.0, 1e9)))
    none = draw(guided(guidance__scale=2.0, guidance__interval=(1e8, 1e9)))
    near(whole, everywhere)
    near(none, plain)
    assert (whole.evaluations, none.evaluations) == (everywhere.evaluations, plain.evaluations)
    by = [
        draw(guided(guidance__scale=2.0, guidance__interval=(0.5, 5.0), guidance__interval_by=by))
        for by in ("step", "evaluation")
    ]
    near(*by)  # of a solver of one evaluation a step, at its beginning
    assert plain.evaluations < by[0].evaluations == by[1].evaluations < everywhere.evaluations


def test_a_config_that_changes_is_compiled_anew():
    experiment = guided()
    generator, params = Generator(experiment), shaken_state(experiment).params
    before = generator(params, 2, show=False)
    experiment.config.guidance.scale = 3.0
    after = generator(params, 2, show=False)
    assert (before.x != after.x).any()
    experiment.config.guidance.scale = 1.0
    np.testing.assert_array_equal(generator(params, 2, show=False).x, before.x)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("threshold", ["static", "dynamic"])
def test_thresholds_keep_to_the_range_of_the_data(threshold, centered):
    experiment = guided()
    config = experiment.config.guidance
    config.threshold = threshold
    params, system = shaken_state(experiment).params, experiment.score_system
    score = Guiding(config, centered).score(system, params, {"label": jnp.array([3])})
    x = 30 * jax.random.normal(jax.random.key(0), (1, *experiment.shape))
    D = jax.jit(denoiser(experiment.sde, score))(x, jnp.float32(0.5))
    low, high = (-1.0, 1.0) if centered else (0.0, 1.0)
    assert low - 1e-4 <= float(D.min()) and float(D.max()) <= high + 1e-4


def test_rescaling_puts_the_deviation_back():
    experiment = guided(guidance__scale=4.0, guidance__rescale=1.0)
    params, system = shaken_state(experiment).params, experiment.score_system
    x, label = jax.random.normal(jax.random.key(0), (2, *experiment.shape)), {"label": jnp.array([3, 5])}
    found = jax.jit(experiment.drawing.guiding.score(system, params, label))(x, jnp.float32(0.4))
    c = jax.jit(system.score(params, label))(x, jnp.float32(0.4))
    np.testing.assert_allclose(found.std((1, 2, 3)), c.std((1, 2, 3)), rtol=1e-4)


def test_the_command_line_names_and_notes_what_was_asked(tmp_path, monkeypatch):
    config, workdir = trained(tmp_path, monkeypatch)
    config.sampling.label = "3"
    assert modes.sample(config, workdir) == 0
    config.guidance.update(scale=1.5, interval=(0.2, 5.0))
    assert modes.sample(config, workdir) == 0
    name = "ancestral-4-seed0-label_3"
    plain, asked = (
        json.loads((workdir.samples / n / "settings.json").read_text()) for n in (name, f"{name}-guided1.5-levels0.2_5")
    )
    assert "guidance" not in plain
    assert asked["guidance"]["scale"] == 1.5 and asked["evaluations"] > plain["evaluations"]
    with pytest.raises(UsageError, match="a guided model has no likelihood"):
        likelihood.likelihood(config, workdir)


LABELLED = {"data__condition": ("label",), "network__label_dropout": 0.1}
REFUSED = [
    ({**LABELLED, "guidance__scale": 2.0, "guidance__weight": 1.0}, "are two letters for one number"),
    ({"guidance__scale": 2.0}, "this network is told no labels"),
    ({"data__condition": ("label",), "guidance__weight": 0.5}, r"network\.label_dropout=0\.0 has not trained"),
    ({**LABELLED, "guidance__interval": (0.1, 1.0)}, r"guidance\.interval=\(0\.1, 1\.0\) has no effect"),
    ({**LABELLED, "guidance__rescale": 0.5}, r"guidance\.rescale=0\.5 has no effect"),
    ({**LABELLED, "guidance__scale": 2.0, "guidance__interval": (1.0, 0.1)}, "is no interval of noise levels"),
    ({**LABELLED, "guidance__scale": 2.0, "guidance__interval": (1.0,)}, "is no interval of noise levels"),
    (
        {**LABELLED, "guidance__scale": 2.0, "guidance__interval": (0.1, 1.0), "sampling__solver": "rk45"},
        r"guidance\.interval_by='step' is for fixed grids",
    ),
    ({"guidance__quantile": 0.9}, r"guidance\.quantile=0\.9 has no effect"),
    ({"guidance__rescale": 1.5}, r"guidance\.rescale=1\.5 must be in \[0, 1\]"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_means_nothing_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        validate(tiny_config(**changes))


def test_samples_do_not_depend_on_the_batch():
    experiment = guided(guidance__scale=2.0)
    params = shaken_state(experiment).params
    whole = Generator(experiment)(params, 4, show=False).x
    experiment.config.sampling.batch_size = 2
    np.testing.assert_allclose(Generator(experiment)(params, 4, show=False).x.astype(int), whole.astype(int), atol=1)
