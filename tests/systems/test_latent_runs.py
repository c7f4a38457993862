"""Runs of latents: joint and in a frozen autoencoder's space, by command, resumed, over devices; what is refused."""

import json
import shutil
from contextlib import closing

import jax
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.config.validation import check_likelihood, validate
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.experiment.own_bound import OwnBound
from score_sde.loop.loop import train
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from tests.systems.autoencoding import vae_config
from tests.systems.learning import learn, leaves, without_its_end
from tests.tiny import tiny_config

SCORE = {
    "system__name": "latent", "network__name": "perceptron", "network__hidden": (8,),
    "parametrization__label": "log_sigma", "data__random_flip": False, "data__centered": False,
}  # fmt: skip


CONSISTENCY = {
    "consistency__pair": "heun", "parametrization__prediction": "boundary", "parametrization__label": "log_sigma",
    "sde__name": "edm", "training__times": "log_normal", "training__weighting": "edm", "sampling__solver": "few_step",
    "sampling__times": "log_snr",
}  # fmt: skip


def joint_config(**changes):
    own = {"latent__joint": True, "latent__hidden": (8,), "latent__prior_updates": 3, "vae__latent": (3,)}
    return tiny_config(**SCORE | own | {"training__t_min": 1e-4} | changes)


get_config = joint_config


@pytest.fixture(scope="module")
def coder(tmp_path_factory):
    """The run of an autoencoder of three latents."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    learn(vae_config(training__num_steps=4), folder)
    return folder


@pytest.fixture
def own(coder, tmp_path):
    """A copy of it that may be changed."""
    shutil.copytree(coder, tmp_path / "vae")
    return tmp_path / "vae"


def latent_config(coder, **changes):
    return tiny_config(**SCORE | {"frozen__autoencoder": str(coder), "latent__scale_images": 300} | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, coder):
    """Runs of both kinds on one device: what they changed, their folders."""
    one, folder = Pmap(jax.devices()[:1]), tmp_path_factory.mktemp("latents")
    configs = {"joint": joint_config(), "frozen": latent_config(coder)}
    return {name: (leaves(learn(config, folder / name, one)), folder / name) for name, config in configs.items()}


@pytest.mark.parametrize("name", ["joint", "frozen"])
class TestRuns:
    def config(self, name, coder, **changes):
        return joint_config(**changes) if name == "joint" else latent_config(coder, **changes)

    def test_resumed_is_bitwise_the_uninterrupted_run(self, name, coder, whole, tmp_path):
        folder = without_its_end(whole[name][1], tmp_path / "run")
        again = learn(self.config(name, coder), folder, Pmap(jax.devices()[:1]))
        for mine, other in zip(whole[name][0], leaves(again), strict=True):
            np.testing.assert_array_equal(mine, other)

    @pytest.mark.parametrize("way", ["pmap on 2, in microbatches", "sharded on 8, 4 of them fsdp"])
    def test_over_devices_and_in_microbatches(self, name, way, coder, whole, tmp_path):
        strategy = Sharded(4, jax.devices()) if way.startswith("sharded") else Pmap(jax.devices()[:2])
        config = self.config(name, coder, training__microbatches=2 if "microbatches" in way else 1)
        found = leaves(learn(config, tmp_path / "run", strategy))
        for mine, other in zip(whole[name][0], found, strict=True):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-5)

    def test_bounds_and_samples_are_functions_of_their_number(self, name, coder, whole):
        config = self.config(name, coder, likelihood__num_images=12, likelihood__batch_size=12)
        experiment, params = restored(config, whole[name][1])
        rows = np.concatenate([*OwnBound(experiment)(params, experiment.data.held_out, np.arange(12))])
        other = self.config(name, coder, likelihood__batch_size=8, sampling__batch_size=8, sampling__decode_parts=2)
        others, _ = restored(other, whole[name][1])
        again = np.concatenate([*OwnBound(others)(params, others.data.held_out, np.arange(12))])
        np.testing.assert_allclose(rows, again, rtol=1e-5)
        assert OwnBound(experiment).terms == ("entropy", "prior", "reconstruction")
        np.testing.assert_allclose(rows[:, 3], rows[:, 4:].sum(1), rtol=1e-4)
        drawn = [Generator(e)(params, 16, show=False).x for e in (experiment, others)]
        assert drawn[0].shape == (16, 8, 8, 1) and np.abs(drawn[0].astype(int) - drawn[1]).max() <= 1


def restored(config, folder):
    workdir = Workdir(folder)
    experiment = build(config, workdir.record(), training=False)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        return experiment, experiment.weights(experiment.restore(checkpoints)[0])


def test_by_command(tmp_path, capsys):
    """Trained, sampled, evaluated, and its likelihood bounded."""
    line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run"), "--config.training.num_steps=4"]
    more = ["--config.evaluation.num_samples=16", "--config.evaluation.features=pixels"]
    for mode in ([], ["--mode=sample"], ["--mode=evaluate", *more], ["--mode=likelihood"]):
        few = ["--config.likelihood.num_images=16"] if "likelihood" in str(mode) else []
        assert main([*line, *mode, *few]) == 0, capsys.readouterr().err
    assert "of latents with the noise of t_0 = 0.0001 (training.t_min)" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "likelihood" / "settings.json").read_text())["t_0"] == 1e-4
    found = json.loads((tmp_path / "run" / "likelihood" / "summary.json").read_text())
    assert found["t_0"] == 1e-4
    assert found["nats"]["mean"] == pytest.approx(sum(term["mean"] for term in found["terms"].values()), rel=1e-4)
    more = ["--config.likelihood.solver=rk45", "--config.likelihood.num_images=16"]
    assert main([*line, "--mode=likelihood", "--overwrite", *more]) == 0
    assert "prior by the probability-flow ODE from t_0 = 0.0001 (training.t_min)" in capsys.readouterr().out
    other = json.loads((tmp_path / "run" / "likelihood" / "summary.json").read_text())
    assert other["t_0"] == 1e-4 and other["terms"]["prior"] != found["terms"]["prior"]
    same = [summary["terms"]["reconstruction"]["mean"] for summary in (found, other)]
    assert same[0] == pytest.approx(same[1], rel=1e-5)


def test_encoder_and_decoder_wait_for_the_prior(coder, tmp_path):
    """Begun at a trained VAE's weights, they are those until prior_updates are over, whatever the decay, then move."""
    begin = {"training__start_from": str(coder), "training__start_strict": False, "latent__hidden": (16,)}
    begin |= {"optimizer__weight_decay": 0.1, "optimizer__warmup": 0}
    experiment = build(joint_config(**begin, training__num_steps=5, latent__prior_updates=4, logging__every=1))
    first = experiment.initial_state().params
    with closing(Checkpoints(coder / "checkpoints")) as checkpoints:
        vae = build(vae_config(), Workdir(coder).record())
        theirs = vae.weights(vae.restore(checkpoints)[0])
    for part in ("encoder", "decoder"):
        for one, two in zip(jax.tree.leaves(first[part]), jax.tree.leaves(theirs[part]), strict=True):
            np.testing.assert_array_equal(one, two)
    state = train(experiment, Workdir(tmp_path / "run"), show=False)
    counts = {part: int(own.moments(state.optimizer[part])[2]) for part, own in experiment.optimizers.items()}
    assert counts == {"encoder": 1, "decoder": 1, "score": 5, "mixing": 5}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    sizes = [line["parameter_norm/decoder"] for line in lines]
    assert len(set(sizes[:4])) == 1 and sizes[4] != sizes[3]
    assert lines[3]["gradient_norm/encoder"] == 0 < lines[4]["gradient_norm/encoder"]
    assert len({line["parameter_norm/score"] for line in lines}) > 3


def test_a_network_that_is_left_out_stays_out(tmp_path):
    """Neither Adam nor weight decay moves the logit, and the prior of what was trained is N(0, I) to rounding."""
    own = {"latent__mixing": -15.0, "latent__prior_updates": 0, "optimizer__weight_decay": 0.1}
    config = joint_config(**own, optimizer__warmup=0, optimizer__learning_rate=0.1, training__num_steps=6)
    state = learn(config, tmp_path / "run", Pmap(jax.devices()[:1]))
    np.testing.assert_array_equal(state.params["mixing"]["logit"], -15.0)
    for tree in state.averages.values():
        np.testing.assert_array_equal(tree["mixing"]["logit"], -15.0)
    experiment = build(config)
    assert not np.array_equal(
        state.params["encoder"]["mean"]["bias"], experiment.init_params()["encoder"]["mean"]["bias"]
    )
    z, t = jax.random.normal(jax.random.key(0), (4, 3)), jax.numpy.full(4, 0.3)
    np.testing.assert_allclose(experiment.system.score(state.params)(z, t), -z, rtol=1e-5)


class TestFrozen:
    def test_the_scale_is_of_the_data_and_stands_in_the_run(self, coder, whole):
        """The standard deviation of 300 examples' latents; nothing of the data is read for it again."""
        record = Workdir(whole["frozen"][1]).record()
        assert record is not None
        experiment = build(latent_config(coder))
        scale = record["frozen"]["autoencoder"]["scale"]
        assert experiment.system.scale == scale  # pyright: ignore[reportAttributeAccessIssue]
        other = experiment.frozen["autoencoder"]
        x = experiment.kind.encode(
            jax.random.split(jax.random.key(0), 1500), np.asarray(experiment.data.train), training=False
        )
        mean, log_variance = other.experiment.system.encode(other.params, x)
        expected = np.sqrt(np.var(np.asarray(mean)) + np.mean(np.exp(log_variance)))
        assert scale == pytest.approx(expected, rel=0.1)
        again = build(latent_config(coder), record)
        assert "data" not in again.__dict__ and again.system.scale == scale  # pyright: ignore

    def test_one_that_changed_is_refused(self, own, tmp_path):
        learn(latent_config(own, training__num_steps=2), tmp_path / "run")
        experiment = build(vae_config(), Workdir(own).record())
        with closing(Checkpoints(Workdir(own).checkpoints)) as checkpoints:
            state, meta = experiment.restore(checkpoints)
            bent = jax.tree.map(lambda p: p + 0.01, state.averages)
            shutil.rmtree(own / "checkpoints")
            with closing(Checkpoints(Workdir(own).checkpoints)) as again:
                again.save(meta["step"], state._replace(averages=bent), meta)
        for training in (True, False):
            with pytest.raises(UsageError, match=r"frozen\.autoencoder=.* has changed since this run began"):
                build(latent_config(own), Workdir(tmp_path / "run").record(), training=training)

    def test_one_that_is_gone_is_missed_by_samples_too(self, own, tmp_path):
        learn(latent_config(own, training__num_steps=2), tmp_path / "run")
        shutil.rmtree(own)
        with pytest.raises(UsageError, match=r"frozen\.autoencoder=.* holds no trained run"):
            build(latent_config(own), Workdir(tmp_path / "run").record(), training=False)

    def test_one_of_other_data_or_another_system_is_refused(self, coder, whole, tmp_path):
        refused = [
            ({"data__image_size": 4}, r"its data are bytes of shape \(8, 8, 1\), and this run's bytes of shape"),
            ({"data__centered": True}, r"its data are brought to another range"),
            ({"data__uniform_dequantization": False}, r"was trained with data\.uniform_dequantization=True"),
            (
                {"frozen__autoencoder": str(whole["joint"][1])},
                r"is a run of system\.name='latent', which has .*'vae' or 'autoencoder'",
            ),
            ({"frozen__autoencoder": ""}, r"frozen\.autoencoder is empty, and the .*'vae' or 'autoencoder', as <run>"),
            ({"network__name": "ncsnpp"}, r"latents of shape \(3,\): network\.name='ncsnpp' takes \[H, W, C\]"),
        ]
        for changes, words in refused:
            with pytest.raises(UsageError, match=words):
                build(latent_config(coder, **changes))


@pytest.mark.parametrize("name", ["joint", "frozen"])
@pytest.mark.parametrize("student", ["distilled", "reflow", "consistency", "guided"])
def test_a_run_of_latents_is_no_teacher_and_no_guide_of_one_of_pictures(name, student, whole):
    part, run = "guide" if student == "guided" else "teacher", str(whole[name][1])
    own = {f"frozen__{part}": run, "data__centered": False, "data__random_flip": False}
    own |= {
        "distilled": {"distillation__steps": (4,), "sampling__solver": "few_step", "sde__name": "cosine"},
        "reflow": {"sde__name": "straight", "parametrization__prediction": "velocity"},
        "consistency": CONSISTENCY,
        "guided": {"guidance__scale": 2.0},
    }[student]
    words = rf"frozen\.{part}=.*{name} is a run of system\.name='latent', wh.*: name one of system\.name='score'"
    with pytest.raises(UsageError, match=words):
        build(tiny_config(system__name="score" if student == "guided" else student, **own))


REFUSED = [
    ({"training__t_min": 1e-2}, r"training\.t_min=0\.01 flatters: .* set it to 0\.0001 or less"),
    ({"vae__latent": (3, 3)}, r"vae\.latent=\(3, 3\) must be \(d,\), or \(height, width, channels\)"),
    ({"vae__free_bits": 1.0}, r"vae\.free_bits=1\.0 has no meaning for system\.name='latent'"),
    ({"parametrization__prediction": "velocity"}, r"prediction='velocity' has no meaning for system\.name='latent'"),
    ({"frozen__autoencoder": "runs/x"}, r"frozen\.autoencoder='runs/x' is not asked for by latent\.joint=True"),
    ({"latent__hidden": (8, 0)}, r"latent\.hidden=\(8, 0\) must be widths of 1 or more"),
    ({"network__hidden": (0,)}, r"network\.hidden=\(0,\) must be widths of 1 or more"),
    ({"latent__prior_updates": 12}, r"latent\.prior_updates=12 are all of training\.num_steps=12"),
    ({"sampling__decode_parts": 3}, r"sampling\.decode_parts=3 does not divide sampling\.batch_size=8"),
    ({"guidance__threshold": "static"}, r"guidance\.threshold='static' has no meaning for system\.name='latent'"),
    ({"network__name": "mlp"}, r"network\.name='mlp' is an encoder and a decoder, and system\.name='latent' trains"),
    ({"parametrization__label": "time"}, r"label='time' does not suit network\.name='perceptron'"),
    ({"latent__coder": "convolutional", "latent__ch_mult": (1,) * 5}, r"latent\.coder='convolutional' of this run's"),
    ({"latent__joint": False}, r"latent\.hidden=\(8,\) has no meaning for system\.name='latent', which takes encoder"),
    ({"system__name": "score"}, r"latent\.joint=True has no meaning for system\.name='score', which has no latents"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_it_has_not_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        validate(joint_config(**changes))


def test_a_bound_that_would_flatter_is_refused_of_a_frozen_autoencoder_too():
    config = latent_config("runs/vae", training__t_min=1e-3)
    validate(config)
    with pytest.raises(UsageError, match=r"training\.t_min=0\.001 flatters: .* set it to 0\.0001 or less"):
        check_likelihood(config)


@pytest.mark.parametrize("mode", ["report", "import", "export", "forecast"])
def test_modes_of_scores_are_refused(mode, tmp_path, capsys):
    more = {"import": [f"--checkpoint={__file__}"], "export": ["--format=jax"], "report": []}
    more["forecast"] = ["--config.parallel.topology=cpu"]
    line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run"), f"--mode={mode}", *more[mode]]
    assert main(line) == 2
    assert "system.name='latent' has another one inside of an autoencoder" in capsys.readouterr().err


def test_pictures_of_latents_have_a_u_net(coder):
    """Of [2, 2, 2] latents, with labels and an optimised grid."""
    network = {"name": "ncsnpp", "nf": 8, "ch_mult": (1,), "num_res_blocks": 1, "attn_resolutions": (2,)}
    own = {f"network__{name}": value for name, value in network.items()} | {"vae__latent": (2, 2, 2)}
    config = joint_config(**own, network__hidden=(400,), latent__hidden=(400,))
    config.latent.update(coder="convolutional", nf=4, ch_mult=(1, 1, 1), num_res_blocks=1)
    config.data.condition = ("label",)
    config.sampling.update(solver="ddim", times="optimised", num_steps=3)
    experiment = build(config)
    assert experiment.system.shape == (2, 2, 2)  # pyright: ignore[reportAttributeAccessIssue]
    found = Generator(experiment)(experiment.init_params(), 8, show=False)
    assert found.x.shape == (8, 8, 8, 1) and set(found.condition) == {"label"}
