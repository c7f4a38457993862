"""The degradation section: what the network is shown, by the exact posterior of Gaussian data, and what is refused."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from score_sde.cli import modes
from score_sde.config.system_checks import check_mode
from score_sde.config.validation import validate
from score_sde.data.sources import digits
from score_sde.data.stream import Batch
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.experiment.degrading import OPERATORS
from score_sde.experiment.generation import Generator
from score_sde.loop.heldout import HeldOut
from score_sde.networks.concatenating import Concatenating
from score_sde.rng import example_keys, positions, root_key
from tests.experiment.test_measuring import MEAN, SHAPE, STD, exact_posterior, fields
from tests.gradients import NO_VIEW, shaken_state
from tests.tiny import tiny_config, trained_run, with_network

A = np.kron(np.kron(np.kron(np.eye(2), [[0.5, 0.5]]), np.kron(np.eye(2), [[0.5, 0.5]])), np.eye(2))
"""Means of blocks of 2x2 pixels of flattened examples."""
LEVEL = 0.1


UNIT = np.diag(np.broadcast_to(STD, SHAPE).reshape(-1))
B = A @ UNIT / STD.mean()
"""What is shown of standardised examples: A x in the data's units, less that of the mean, over the mean unit."""


def gain(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """K and the covariance of standardised examples given K c, c = B x + noise n."""
    P = np.linalg.inv(UNIT) @ exact_posterior(A, np.zeros(8), 1e9)[1] @ np.linalg.inv(UNIT)
    K = P @ B.T @ np.linalg.inv(B @ P @ B.T + noise**2 * np.eye(8))
    return K, P - K @ B @ P


class Posterior(nn.Module):
    """The denoiser under EDM's SDE of standardised examples given what it is shown at a level, as it is told."""

    level: float

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        self.param("none", nn.initializers.zeros, (1,))
        alpha, noise = signal(self.level)
        K, covariance = gain(noise / alpha)
        variances, Q = np.linalg.eigh(covariance)
        mean = condition["image"].reshape(len(x), -1) @ jnp.asarray(K.T / alpha, x.dtype)
        mean += 100 * (condition["level"] - self.level)[:, None]
        v = jnp.asarray(np.maximum(variances, 0), x.dtype)[None]
        Q = jnp.asarray(Q, x.dtype)
        inner = (x.reshape(len(x), -1) - mean) @ Q * (v / (v + sigma[:, None] ** 2))
        return (mean + inner @ Q.T).reshape(x.shape)


def signal(level: float) -> tuple[float, float]:
    """alpha and sigma of the VP SDE with its published betas, 0.1 to 20."""
    alpha = np.exp(-(0.1 * level + 19.9 * level**2 / 2) / 2)
    return alpha, np.sqrt(1 - alpha**2)


@pytest.mark.parametrize("level", [0.0, LEVEL])
def test_samples_have_the_exact_posterior_given_what_is_shown(level, tmp_path):
    """Of real data with another unit for each channel; over the noise of what is shown, a mean of posteriors."""
    config = fields(tmp_path, degradation__name="box", degradation__noise=LEVEL, degradation__level=level)
    x = MEAN + STD * np.random.default_rng(2).standard_normal(SHAPE)
    np.savez(tmp_path / "y.npz", y=(A @ x.reshape(-1)).reshape(2, 2, 2))
    config.measurement.path = str(tmp_path / "y.npz")
    experiment = with_network(build(config), Posterior(level))
    drawn = Generator(experiment)(experiment.init_params(), 2048, show=False)
    assert set(drawn.condition) == {"measurement"} and drawn.x.dtype == np.float32
    alpha, sigma = signal(level)
    K, given = gain(sigma / alpha)
    mean = MEAN + STD * (K @ B @ ((x - MEAN) / STD).reshape(-1)).reshape(SHAPE)
    covariance = UNIT @ (given + (sigma / alpha) ** 2 * K @ K.T) @ UNIT
    found, spread = drawn.x.reshape(2048, -1), np.sqrt(np.diag(covariance))
    assert np.abs((found.mean(0) - mean.reshape(-1)) / spread).max() < 6 / np.sqrt(2048)
    scaled = np.cov(found.T) / spread[:, None] / spread[None]
    assert np.abs(scaled - covariance / spread[:, None] / spread[None]).max() < 0.15


def test_training_shows_what_samples_are_shown(tmp_path):
    """E[x_0 given c] by least squares of training's own conditions, of a narrow range of levels, is K c."""
    config = fields(tmp_path, degradation__name="box", degradation__noise=0.002)
    experiment = build(config)
    x = exact_fields(20_000)
    keys = example_keys(root_key(0), positions(0, len(x)))
    told = experiment.degradation.of_examples(keys, experiment.kind.encode(keys, jnp.asarray(x, jnp.float32)))
    assert told["image"].shape == (20_000, 2, 2, 2) and told["level"].min() >= 0 and told["level"].max() <= 0.002
    c, z = np.asarray(told["image"]).reshape(len(x), -1), ((x - MEAN) / STD).reshape(len(x), -1)
    solved = np.linalg.lstsq(c, z, rcond=None)[0]
    assert np.sqrt(np.mean((c @ solved - c @ gain(1e-3)[0].T) ** 2)) < 0.03
    # A file's pictures are brought to the same range.
    np.savez(tmp_path / "y.npz", y=(x[:3].reshape(3, -1) @ A.T).reshape(3, 2, 2, 2))
    config.measurement.path = str(tmp_path / "y.npz")
    plain = build(fields(tmp_path, degradation__name="box", measurement__path=config.measurement.path))
    shown = plain.conditions(positions(0, 3))["image"]
    np.testing.assert_allclose(shown.reshape(3, -1), z[:3] @ B.T, atol=1e-5)
    encoded = jnp.asarray(z[:3].reshape(3, *SHAPE), jnp.float32)
    np.testing.assert_allclose(shown, plain.degradation.of_examples(keys[:3], encoded)["image"], atol=1e-5)


def exact_fields(count: int) -> np.ndarray:
    prior = exact_posterior(A, np.zeros(8), 1e9)[1]
    x = np.random.default_rng(5).multivariate_normal(np.zeros(32), prior, count)
    return MEAN + x.reshape(count, *SHAPE)


def shown_digits(tmp_path, **changes):
    config = tiny_config(**{"degradation__name": "box", "sampling__num_samples": 6, "network__dropout": 0.0, **changes})
    config.data.random_flip = config.data.uniform_dequantization = False
    return config


class Light(nn.Module):
    """Shallow, of x and the picture that it is shown, told how noisy that is."""

    out_channels: int | None = None
    augment_dim: int = 0

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        told = [jnp.arcsinh(label)[:, None], *([condition["augment"]] if condition else [])]
        h = nn.Conv(8, (3, 3))(x) + nn.Dense(8)(jnp.concatenate(told, -1))[:, None, None]
        return nn.Conv(self.out_channels or x.shape[-1], (3, 3))(nn.swish(h))


@pytest.fixture
def light(monkeypatch):
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Light())


NETWORKS = {
    "ncsnpp": {"progressive": "output_skip", "progressive_input": "input_skip", "ch_mult": (1, 2)},
    "ddpm": {"nf": 32, "ch_mult": (1,)},
    "adm": {"nf": 32, "ch_mult": (1,), "head_channels": 32},
    "dhariwal": {"nf": 8, "ch_mult": (1,), "attn_resolutions": ()},
    "edm2": {"nf": 8, "ch_mult": (1,), "attn_resolutions": ()},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_u_net_is_shown_the_picture_and_computed_as_it_is_alone(name, tmp_path):
    """Its output has x's channels; remat and scanned blocks reach it through the wrapper and change rounding alone."""
    noise = {"degradation__noise": 0.5} if name in ("ncsnpp", "dhariwal") else {}
    config = shown_digits(tmp_path, network__name=name, **noise)
    config.network.update({"attn_resolutions": (), "num_res_blocks": 1, **NETWORKS[name]})
    config.parametrization.label = "log_sigma" if name == "edm2" else "time"
    experiment = build(config)
    assert isinstance(experiment.score_system.network, Concatenating)
    params, keys = shaken_state(experiment).params, example_keys(root_key(0), positions(0, 2))
    x = experiment.kind.encode(keys, jnp.asarray(experiment.data.train[:2]))
    told = experiment.degradation.of_examples(keys, x)

    @functools.partial(jax.jit, static_argnames=("remat", "scan_blocks"))
    def of(told, **execution):
        return experiment.score_system.apply(params, told, **execution)(x, jnp.full(2, 0.3), jnp.full(2, 0.5))

    plain = of(told)
    assert plain.shape == x.shape
    other = of({**told, "image": told["image"].at[1].add(0.5)})
    np.testing.assert_allclose(other[0], plain[0], atol=1e-4)
    assert float(jnp.abs(other[1] - plain[1]).max()) > 1e-3
    same = of(told, remat="blocks", scan_blocks=True)
    np.testing.assert_allclose(same, plain, rtol=1e-3, atol=1e-4)
    if noise:
        assert float(jnp.abs(of({**told, "level": 1 - told["level"]}) - plain).max()) > 1e-4


def test_execution_reaches_the_network_inside(tmp_path):
    experiment = build(shown_digits(tmp_path))
    params = experiment.init_params()
    told = {"image": jnp.zeros((1, 4, 4, 1))}
    count = lambda **e: str(
        jax.make_jaxpr(lambda x: experiment.score_system.apply(params, told, **e)(x, jnp.ones(1), jnp.ones(1)))(
            jnp.zeros((1, 8, 8, 1))
        )
    ).count("remat")
    assert count(remat="blocks") > count()


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(("name", "shape"), [("box", (4, 4, 1)), ("bicubic", (4, 4, 1)), ("uncrop", (8, 8, 1))])
def test_held_out_loss_and_samples_of_the_datas_own(name, shape, tmp_path):
    experiment = build(shown_digits(tmp_path, degradation__name=name, degradation__noise=0.5, degradation__level=0.25))
    params = shaken_state(experiment).params
    held_out = HeldOut(experiment)
    assert np.isfinite(held_out({"raw": params})["raw"])
    drawn = Generator(experiment)(params, 6, show=False)
    assert drawn.condition["measurement"].tolist() == list(range(6)) and drawn.finite.all()
    answered = experiment.asked
    assert answered.stored.shape == (297, *shape) and answered.truth.shape == (297, 8, 8, 1)
    batch = Batch(experiment.data.train[:4], positions(0, 4), {})
    loss = jax.jit(lambda params: experiment.loss(params, NO_VIEW, batch)[0])(params)
    assert loss.shape == (4,) and np.isfinite(loss).all()


def test_what_is_shown():
    x = np.random.default_rng(0).uniform(size=(1, 8, 4, 3)).astype(np.float32)
    of = lambda name, factor: np.asarray(OPERATORS[name](factor, (8, 4, 3))(jnp.asarray(x)))
    np.testing.assert_allclose(of("box", 2), x.reshape(1, 4, 2, 2, 2, 3).mean((2, 4)), rtol=1e-5)
    assert of("bicubic", 4).shape == (1, 2, 1, 3)
    np.testing.assert_allclose(of("gray", 2), x @ np.array([[0.299], [0.587], [0.114]], np.float32), rtol=1e-5)
    middle = of("uncrop", 2)
    np.testing.assert_array_equal(middle[:, 2:6, 1:3], x[:, 2:6, 1:3])
    assert np.count_nonzero(middle) == 4 * 2 * 3


@pytest.mark.usefixtures("light")
def test_the_command_line_answers_a_files_pictures_and_shows_them(tmp_path, capsys):
    truth = np.arange(2 * 64).reshape(2, 8, 8, 1) % 200
    np.savez(tmp_path / "y.npz", y=truth.reshape(2, 4, 2, 4, 2, 1).mean((2, 4)), x=truth)
    config = shown_digits(tmp_path, measurement__path=str(tmp_path / "y.npz"), measurement__samples=3)
    workdir = trained_run(tmp_path / "run", config)
    assert modes.sample(config, workdir) == 0
    assert "answers.png: from left to right y" in capsys.readouterr().out
    (folder,) = workdir.samples.iterdir()
    assert folder.name.startswith("ancestral-4-seed0-box-")
    with np.load(folder / "samples.npz") as arrays:
        assert arrays["measurement"].tolist() == [0, 0, 0, 1, 1, 1] and not {"image", "level", "y"} & set(arrays)
    with Image.open(folder / "answers.png") as picture:
        assert picture.size == (7 * 50 + 2, 2 * 50 + 2)  # y, three samples, mean, spread, truth
    assert len(json.loads((folder / "settings.json").read_text())["measurement_sha256"]) == 64
    config.measurement.update(path="", samples=1)
    config.sampling.num_samples = 2
    assert modes.sample(config, workdir) == 0  # of the data's own pictures


@pytest.mark.usefixtures("light")
def test_a_sample_depends_on_its_own_picture_alone(tmp_path):
    y = np.arange(2 * 16).reshape(2, 4, 4) * 8
    np.savez(tmp_path / "y.npz", y=y)
    config = shown_digits(
        tmp_path, measurement__path=str(tmp_path / "y.npz"), degradation__noise=0.5, sampling__batch_size=2
    )
    config.degradation.level = 0.1
    experiment = build(config)
    generator, params = Generator(experiment), shaken_state(experiment).params
    before = generator(params, 2, show=False)
    np.savez(tmp_path / "y.npz", y=np.stack([y[0], 255 - y[1]]))
    after = generator(params, 2, show=False)
    np.testing.assert_array_equal(before.x[0], after.x[0])
    assert (before.x[1] != after.x[1]).any()
    config.degradation.level = 0.4
    assert (generator(params, 2, show=False).x != after.x).any()
    with pytest.raises(UsageError, match=r"num_samples=3 is more than the 2 measurements"):
        generator(params, 3, show=False)


FILES = [
    ({"y": np.zeros((2, 3, 3, 1))}, r"has y of shape \(2, 3, 3, 1\): .* give \[N, 4, 4, 1\]"),
    ({"x": np.zeros((2, 8, 8, 1))}, r"has no `y`: np\.savez\(path, y=\.\.\.\)"),
    ({"y": np.zeros((2, 4, 4, 1)), "sigma_y": 3.0}, r"has pictures with noise in them"),
    ({"y": np.full((2, 4, 4, 1), np.nan)}, r"not finite"),
    ({"samples": np.zeros((2, 8, 8, 1))}, r"give \[N, 4, 4, 1\]"),
]


@pytest.mark.parametrize(("arrays", "said"), FILES)
def test_files_that_do_not_fit_are_refused(arrays, said, tmp_path):
    np.savez(tmp_path / "y.npz", **arrays)
    experiment = build(shown_digits(tmp_path, measurement__path=str(tmp_path / "y.npz")))
    with pytest.raises(UsageError, match=said):
        experiment.conditions(positions(0, 2))
    (tmp_path / "y.npz").unlink()
    with pytest.raises(UsageError, match=r"is not a file: name an \.npz file with y, pictures as .*'box' leaves them"):
        experiment.conditions(positions(0, 2))


REFUSED = [
    ({"degradation__name": "none", "degradation__factor": 4}, r"factor=4 has no effect with degradation\.name='none'"),
    ({"degradation__name": "none", "measurement__path": "y.npz"}, r"measurement\.path='y\.npz' is for a measurement"),
    ({"degradation__name": "gray", "degradation__factor": 4}, r"factor=4 has no effect with degradation\.name='gray'"),
    ({"degradation__name": "uncrop", "degradation__enlarging": "nearest"}, r"enlarging=nearest has no effect"),
    ({"degradation__level": 0.1}, r"level=0\.1 has no effect with degradation\.noise=0\.0"),
    ({"degradation__level": 0.4, "degradation__noise": 0.3}, r"level=0\.4 is above degradation\.noise=0\.3"),
    ({"degradation__factor": 1}, r"factor=1 leaves the picture as it is"),
    ({"degradation__noise": 0.3, "network__name": "ddpm"}, r"cannot be: choose ncsnpp or dhariwal"),
    ({"degradation__noise": 0.3, "data__augmentation": 0.1}, r"set one of them to 0\.0"),
    ({"network__name": "ncsnv2_64"}, r"cannot be shown a picture beside x"),
    ({"measurement__name": "box", "measurement__path": "y.npz"}, r"measurement\.name='box' is for networks that"),
    ({"sampling__solver": "adams_3", "sampling__times": "optimised"}, r"choose another grid"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_does_not_go_together_is_refused(changes, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        validate(shown_digits(tmp_path, **changes))


@pytest.mark.parametrize("mode", ["likelihood", "import", "export"])
def test_modes_that_such_a_network_has_not(mode, tmp_path):
    with pytest.raises(UsageError, match=rf"--mode={mode} is not for degradation\.name='box': .*; use a run with"):
        check_mode(shown_digits(tmp_path), mode)
    check_mode(shown_digits(tmp_path, degradation__name="none"), mode)


def test_shapes_that_cannot_be_degraded_are_refused(tmp_path):
    for changes, said in (
        ({"degradation__factor": 3}, r"down-sampling by 3 does not fit examples of shape \(8, 8, 1\)"),
        ({"degradation__name": "gray"}, r"grey values are of pictures \[H, W, 3\]"),
        ({"degradation__name": "uncrop", "degradation__factor": 9}, r"degradation\.factor=9 leaves nothing"),
    ):
        with pytest.raises(UsageError, match=said):
            build(shown_digits(tmp_path, **changes))


@pytest.mark.usefixtures("light")
def test_a_cascade_is_one_command(tmp_path, capsys):
    """The run of small digits draws what the second one is shown: sample k of the one for sample k of the other."""
    small = shown_digits(tmp_path, degradation__name="none", data__image_size=4)
    small.network.attn_resolutions = (4,)
    first = trained_run(tmp_path / "small", small)
    config = shown_digits(tmp_path, measurement__path=str(tmp_path / "small"), measurement__samples=2)
    workdir = trained_run(tmp_path / "run", config)
    assert modes.sample(config, workdir) == 0
    (pictures,) = first.samples.iterdir()
    assert pictures.name == "ancestral-4-seed1" and config.measurement.path == str(pictures / "samples.npz")
    assert build(config).asked.stored.shape == (3, 4, 4, 1)
    (folder,) = workdir.samples.iterdir()
    with np.load(folder / "samples.npz") as arrays:
        assert arrays["measurement"].tolist() == [0, 0, 1, 1, 2, 2] and arrays["samples"].shape == (6, 8, 8, 1)
    config.measurement.path = str(tmp_path / "small")
    capsys.readouterr()
    assert modes.sample(config, workdir) == 0
    assert capsys.readouterr().out.count("already holds") == 2


@pytest.mark.usefixtures("light")
def test_a_cascade_of_pictures_that_do_not_fit_is_refused_before_any_is_drawn(tmp_path):
    large = shown_digits(tmp_path, degradation__name="none")
    first = trained_run(tmp_path / "large", large)
    workdir = trained_run(tmp_path / "run", shown_digits(tmp_path))
    for path, said in (
        (
            first.path,
            r"large draws bytes of shape \(8, 8, 1\), and this run's network is shown bytes of shape \(4, 4, 1",
        ),
        (tmp_path / "empty", r"empty holds no trained run"),
    ):
        if path != first.path:
            path.mkdir()
            (path / "config.json").write_text(first.config.read_text())
        with pytest.raises(UsageError, match=said):
            modes.sample(shown_digits(tmp_path, measurement__path=str(path)), workdir)
    assert not first.samples.exists()


def test_small_digits_are_means_of_blocks():
    large, small = digits(), digits(4)
    means = large.held_out.reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))
    assert small.train.shape == (1500, 4, 4, 1) and np.abs(small.held_out - means).max() <= 0.5
