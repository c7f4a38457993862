"""The noise-conditional classifier as a system: its loss on a mixture, whose classifier is known, its log, refusals."""

import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.config.system_checks import MODES, check_mode
from score_sde.config.validation import validate
from score_sde.devices.platform import Platform
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.experiment.classifying import QUANTILES
from score_sde.experiment.generation import Generator
from score_sde.loop.metrics import _means
from score_sde.objectives.denoising import UniformTimes, perturb
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.parametrization import time_label
from score_sde.sde.analytic import Mixture, mixture
from score_sde.storage.workdir import Workdir
from score_sde.systems import Classifier
from score_sde.training.step import BINS, Metrics, summarize
from tests.gradients import NO_VIEW
from tests.oracles import CONTINUOUS
from tests.tiny import tiny_config

WEIGHTS, COUNT = np.array([0.2, 0.5, 0.3]), 2048
OPTIONS = {
    "system__name": "classifier",
    "network__name": "wideresnet",
    "parametrization__label": "sigma",
    "data__condition": ("label",),
}


class Exact(nn.Module):
    """log p_t(k | x) of a mixture's components, plus a bias that is wrong unless it is 0; told 999 t / T."""

    law: Mixture
    sde: Any
    wrong: float = 0.0

    @nn.compact
    def __call__(self, x, label):
        bias = self.param("bias", nn.initializers.zeros, (3,)) + self.wrong * jnp.array([1.0, 0.0, -1.0])
        t = jnp.maximum(label * self.sde.T / 999, 1e-6)
        return self.law.log_responsibilities(self.sde)(x, t) + bias[None]


def system(name: str, wrong: float = 0.0) -> tuple[Classifier, Mixture]:
    sde, ones = CONTINUOUS[name], jnp.ones((2, 2, 1))
    means = jnp.stack([-ones, 0 * ones, ones])
    law = mixture(jnp.asarray(WEIGHTS), means, jnp.array([0.4, 0.2, 0.3]))
    t_min = 0.002 if name == "edm" else 1e-3
    found = Classifier(
        (2, 2, 1), (2, 2, 1), sde, Exact(law, sde, wrong), time_label, UniformTimes(t_min), Platform("cpu")
    )
    return found, law


def examples(law: Mixture) -> tuple[Any, Any, Any]:
    """Keys [B], labels [B] of the weights' law, and x_0 of each label's component."""
    keys, random = example_keys(root_key(1), positions(0, COUNT)), np.random.RandomState(0)
    label = random.choice(3, COUNT, p=WEIGHTS)
    z = random.normal(size=(COUNT, 2, 2, 1))
    x0 = np.asarray(law.means)[label] + np.asarray(law.stds)[label, 0][:, None, None, None] * z
    return keys, jnp.asarray(label, jnp.int32), jnp.asarray(x0, jnp.float32)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_exact_classifiers_loss_is_the_entropy_of_the_label_given_what_is_seen(name):
    """-log p_t(y | x_t) of each example; its mean is at most H(y), at every level, and rises with the noise."""
    found, law = system(name)
    keys, label, x0 = examples(law)
    params = found.init(jax.random.key(0), {})
    entropy, means = -np.sum(WEIGHTS * np.log(WEIGHTS)), []
    run = jax.jit(lambda u: found.losses(params, NO_VIEW, keys, x0, {"label": label}, u))
    for u in (0.0, 0.1, 0.3, 0.9999):
        us = jnp.full(COUNT, u)
        loss, terms = run(us)
        t = found.times(found.process, us)[0]
        x, _ = perturb(found.process, x0, t, normal(child(keys, Purpose.NOISE), (2, 2, 1), jnp.float32))
        exact = law.log_responsibilities(found.process)(x, t)
        np.testing.assert_allclose(loss, -np.take_along_axis(np.asarray(exact), label[:, None], 1)[:, 0], atol=2e-3)
        np.testing.assert_array_equal(terms["accuracy"], np.argmax(exact, -1) == label)
        means.append(float(loss.mean()))
    standard_error = float(jnp.log(WEIGHTS)[label].std()) / COUNT**0.5
    assert all(mean <= entropy + 4 * standard_error for mean in means)
    assert means == sorted(means) and means[0] < 0.2
    if name != "ve":  # there at sigma 50 something is left to be seen of means that are 2 sqrt(4) apart
        np.testing.assert_allclose(means[-1], entropy, atol=0.02)
        np.testing.assert_allclose(terms["accuracy"].mean(), WEIGHTS.max(), atol=0.05)


def test_no_other_logits_have_a_lower_loss():
    (found, law), (other, _) = system("vp"), system("vp", wrong=0.5)
    keys, label, x0 = examples(law)
    params, u = found.init(jax.random.key(0), {}), (jnp.arange(COUNT) + 0.5) / COUNT
    loss = lambda of, params: of.losses(params, NO_VIEW, keys, x0, {"label": label}, u)[0].mean()
    assert float(loss(found, params)) < float(loss(other, params)) - 0.01
    slope = jax.grad(lambda params: loss(found, params))(params)["classifier"]["bias"]
    assert np.abs(slope).max() < 4 / COUNT**0.5  # calibrated, to the sampling's error


def test_terms_by_t_are_means_of_their_bins_over_updates_and_microbatches():
    random = np.random.RandomState(0)
    u, values = random.uniform(size=(2, 24)).astype("f"), random.uniform(size=(2, 24)).astype("f")
    u[:, ::3] = 0.05  # some bins are empty
    updates = [summarize(jnp.zeros(24), u[i], {"right_by_t": values[i], "right": values[i]}) for i in (0, 1)]
    parts = [summarize(jnp.zeros(12), u[0][k::2], {"right_by_t": values[0][k::2]}) for k in (0, 1)]
    np.testing.assert_allclose(
        updates[0].terms["right_by_t"], sum(np.asarray(p.terms["right_by_t"]) for p in parts) / 2, rtol=1e-5
    )
    rows = [
        Metrics(0, 0, 0, 0, 0, m.binned.tolist(), m.counts.tolist(), jax.tree.map(lambda x: x.tolist(), m.terms))  # pyright: ignore[reportArgumentType]
        for m in updates
    ]
    line = _means(rows)
    bins = np.minimum((u * BINS).astype(int), BINS - 1)
    for i in range(BINS):
        inside = values[bins == i]
        assert line["right_by_t"][i] == (pytest.approx(inside.mean(), rel=1e-5) if len(inside) else None)
    assert line["right"] == pytest.approx(values.mean(), rel=1e-5)


class Linear(nn.Module):
    """Logits that compile in no time."""

    @nn.compact
    def __call__(self, x, label):
        return nn.Dense(10)(x.reshape(len(x), -1)) + nn.Dense(10)(jnp.log(label)[:, None])


@pytest.fixture
def linear(monkeypatch):
    monkeypatch.setitem(objects.NETWORKS, "wideresnet", lambda c, s: Linear())


def test_the_command_line_trains_one_and_tells_its_accuracy(tmp_path, linear, capsys):
    config = tiny_config(**OPTIONS, evaluation__every=4, evaluation__num_images=16)
    workdir = Workdir(tmp_path / "run")
    assert modes.train(config, workdir) == 0
    line = json.loads(workdir.metrics.read_text().splitlines()[-1])
    assert {"accuracy", "loss_by_t", "held_out_loss_raw"} <= line.keys() and len(line["accuracy_by_t"]) == BINS
    rows = json.loads((workdir.path / "evaluation" / "accuracy_00000012.json").read_text())
    assert [row["quantile"] for row in rows] == list(QUANTILES)
    assert "held-out accuracy by noise level" in capsys.readouterr().out
    again = build(config, workdir.record())
    for use in (
        lambda: Generator(again)(again.init_params(), 1, show=False),
        lambda: again.score_of(again.init_params()),
        lambda: again.score_system,
    ):
        with pytest.raises(UsageError, match=r"a classifier has no score|the system has no score network"):
            use()


def test_the_published_network_is_made_of_the_fields():
    config = tiny_config(**OPTIONS, network__widen_factor=3, network__num_res_blocks=2)
    built = build(config)
    network: Any = built.system.network  # pyright: ignore[reportAttributeAccessIssue]
    assert dataclasses.astuple(network)[:5] == (2, 3, 10, 8, 16.0)
    shapes = built.abstract_params()["classifier"]
    assert shapes["Dense_2"]["kernel"].shape == (192, 10)


ENCODER = {**OPTIONS, "network__name": "adm_encoder", "parametrization__label": "time", "network__nf": 32}


@pytest.mark.parametrize("pool", ["attention", "adaptive"])
def test_adms_encoder_is_made_of_the_fields_and_learns(pool, tmp_path):
    """A few updates on digits take its loss below that of the first, log 10."""
    config = tiny_config(**ENCODER, network__head_channels=16, network__pool=pool, network__attn_resolutions=())
    config.network.ch_mult = (1,)
    workdir = Workdir(tmp_path / "run")
    assert modes.train(config, workdir) == 0
    lines = [json.loads(line) for line in workdir.metrics.read_text().splitlines()]
    assert lines[0]["step"] == 4 and np.isfinite([line["loss"] for line in lines]).all()
    network: Any = build(config).system.network  # pyright: ignore[reportAttributeAccessIssue]
    assert (network.pool, network.out_channels, network.head_channels, network.dropout) == (pool, 10, 16, 0.0)
    assert lines[-1]["loss"] < lines[0]["loss"]


REFUSED = [
    ({**OPTIONS, "network__name": "ncsnpp"}, r"network\.name='ncsnpp' makes a score, not logits"),
    ({"network__name": "wideresnet", "network__attn_resolutions": ()}, "makes logits of classes, not a score"),
    ({**OPTIONS, "data__condition": ()}, r"data\.condition=\(\) leaves system\.name='classifier' nothing to learn"),
    ({**OPTIONS, "logging__samples_every": 5}, r"logging\.samples_every=5 has no effect .* draws nothing"),
    ({**OPTIONS, "evaluation__final_samples": 8}, r"evaluation\.final_samples=8 has no effect"),
    (
        {**OPTIONS, "parametrization__label": "time"},
        r"parametrization\.label='time' does not suit network\.name='wider",
    ),
    ({**OPTIONS, "training__weighting": "likelihood"}, r"training\.weighting='likelihood' has no meaning"),
    ({**OPTIONS, "data__image_size": 6}, r"cannot be halved 2 times, as network\.name='wideresnet' asks"),
    ({**ENCODER, "network__nf": 24}, r"network\.nf=24 with .* normalises in 32 groups"),
    ({**ENCODER, "network__head_channels": 48}, r"network\.pool='attention' is of the last level's 32 channels"),
    ({**ENCODER, "network__ch_mult": (1,) * 5, "network__attn_resolutions": ()}, r"cannot be halved 4 times"),
    ({**OPTIONS, "frozen__guide": "runs/a"}, r"frozen\.guide='runs/a' is not asked for by system\.name='classifier'"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_means_nothing_to_a_classifier_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        validate(tiny_config(**changes))


@pytest.mark.parametrize("mode", MODES)
def test_modes_that_need_a_score_are_refused(mode):
    config = tiny_config(**OPTIONS)
    with pytest.raises(UsageError, match=rf"--mode={mode} .* system\.name='classifier' has no score: choose a run"):
        check_mode(config, mode)
    check_mode(config, "train")
    check_mode(tiny_config(**ENCODER), "import")
    check_mode(tiny_config(), mode)
