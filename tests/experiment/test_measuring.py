"""The measurement section: what samples answer, by the exact posterior of Gaussian data, and what is refused."""

import json

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from score_sde.cli import modes
from score_sde.config.validation import validate
from score_sde.data.kinds import Bytes, Real
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.experiment.measuring import measured
from score_sde.rng import example_keys, positions, root_key
from tests.tiny import tiny_config, trained_run, with_network

pytestmark = pytest.mark.usefixtures("light_network")

SHAPE, MEAN, STD = (4, 4, 2), np.array([10.0, -3.0]), np.array([5.0, 0.5])
RHO = 0.8
"""Pixels of a row are correlated, rho^distance, and nothing else is."""
COVARIANCE = RHO ** np.abs(np.arange(4)[:, None] - np.arange(4)[None])


class Exact(nn.Module):
    """The denoiser of standardised Gaussian data, under EDM's SDE."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        self.param("none", nn.initializers.zeros, (1,))
        variances, basis = np.linalg.eigh(COVARIANCE)
        kept = jnp.asarray(variances)[None] / (jnp.asarray(variances)[None] + sigma[:, None] ** 2)
        inner = jnp.einsum("bhwc,wk->bhkc", x, jnp.asarray(basis, x.dtype))
        return jnp.einsum("bhkc,wk->bhwc", inner * kept[:, None, :, None].astype(x.dtype), jnp.asarray(basis, x.dtype))


def fields(tmp_path, **changes):
    """Standardised Gaussian fields in another unit for each channel."""
    x = MEAN + STD * np.random.default_rng(0).standard_normal((64, *SHAPE))
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    return tiny_config(
        data__name="array", data__path=str(tmp_path / "x.npy"), data__mean=tuple(MEAN), data__std=tuple(STD),
        data__random_flip=False, data__uniform_dequantization=False, sde__name="edm", training__times="log_normal",
        parametrization__prediction="denoiser", parametrization__label="log_sigma", network__dropout=0.0,
        sampling__solver="adams_2", sampling__times="log_snr", sampling__num_steps=60,
        sampling__t_min=0.01, sampling__num_samples=2048, sampling__batch_size=1024, network__attn_resolutions=(4,),
        **changes,
    )  # fmt: skip


def exact_posterior(A: np.ndarray, y: np.ndarray, sigma_y: float):
    """Mean and covariance of flattened examples in the data's units given y = A x + sigma_y n."""
    prior = np.kron(np.kron(np.eye(4), COVARIANCE), np.eye(2))
    unit = np.diag(np.broadcast_to(STD, SHAPE).reshape(-1))
    S, m = unit @ prior @ unit, np.broadcast_to(MEAN, SHAPE).reshape(-1)
    K = S @ A.T @ np.linalg.inv(A @ S @ A.T + sigma_y**2 * np.eye(len(A)))
    return m + K @ (y - A @ m), S - K @ A @ S


KNOWN = np.array([[1, 0, 0, 1]] * 4)
ROWS = {
    "inpaint": np.diag(np.repeat(KNOWN.reshape(-1), 2)).astype(float),
    "box": np.kron(np.kron(np.kron(np.eye(2), [[0.5, 0.5]]), np.kron(np.eye(2), [[0.5, 0.5]])), np.eye(2)),
    "matrix": np.random.default_rng(1).standard_normal((5, 32)),
}


@pytest.mark.parametrize(("method", "name"), [("matched", "inpaint"), ("mmps", "box"), ("matched", "matrix")])
def test_samples_have_the_exact_posterior_in_the_datas_units(name, method, tmp_path):
    A = ROWS[name]
    shape = {"inpaint": SHAPE, "box": (2, 2, 2), "matrix": (5,)}[name]
    x = MEAN + STD * np.random.default_rng(2).standard_normal(SHAPE)
    y = A @ x.reshape(-1) + 0.3 * np.random.default_rng(3).standard_normal(len(A))
    part = {"inpaint": {"mask": KNOWN}, "box": {}, "matrix": {"matrix": A}}[name]
    np.savez(tmp_path / "y.npz", y=y.reshape(shape), sigma_y=0.3, **part)
    config = fields(tmp_path, measurement__name=name, measurement__path=str(tmp_path / "y.npz"))
    config.guidance.update(method=method, products=8)
    experiment = with_network(build(config), Exact())
    drawn = Generator(experiment)(experiment.init_params(), 2048, show=False)
    assert set(drawn.condition) == {"measurement"}
    mean, covariance = exact_posterior(A, y, 0.3)
    found = drawn.x.reshape(2048, -1)
    spread = np.sqrt(np.diag(covariance))
    assert np.abs((found.mean(0) - mean) / spread).max() < 6 / np.sqrt(2048)
    scaled = np.cov(found.T) / spread[:, None] / spread[None]
    assert np.abs(scaled - covariance / spread[:, None] / spread[None]).max() < 0.15


def digits(tmp_path, **changes):
    """A run of digits, two pictures of which are measured by means of blocks, or as `changes` says."""
    truth = np.arange(2 * 64).reshape(2, 8, 8, 1) % 200
    np.savez(tmp_path / "y.npz", y=truth.reshape(2, 4, 2, 4, 2, 1).mean((2, 4)), sigma_y=8.0, x=truth)
    measurement = {"measurement__name": "box", "measurement__path": str(tmp_path / "y.npz"), "measurement__samples": 3}
    return tiny_config(**{**measurement, "sampling__num_samples": 6, "guidance__method": "pigdm", **changes})


def test_the_command_line_answers_every_measurement_and_shows_it(tmp_path, capsys):
    config = digits(tmp_path)
    workdir = trained_run(tmp_path / "run", config)
    assert modes.sample(config, workdir) == 0
    said = capsys.readouterr()
    assert "posterior score: guidance.method=pigdm" in said.err and "answers.png: from left to right y" in said.out
    (folder,) = workdir.samples.iterdir()
    digest = measured(config.measurement, Bytes(False, True, True), (8, 8, 1)).digest
    assert folder.name == f"ancestral-4-seed0-box-pigdm-{digest[:8]}"
    with np.load(folder / "samples.npz") as arrays:
        assert arrays["measurement"].tolist() == [0, 0, 0, 1, 1, 1] and "y" not in arrays
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["measurement_sha256"] == digest and settings["posterior_score"] == "pigdm"
    with Image.open(folder / "answers.png") as picture:
        side = 8 * 6 + 2
        assert picture.size == (7 * side + 2, 2 * side + 2)  # y, three samples, mean, spread, truth
        pixels = np.asarray(picture)
    y = np.load(tmp_path / "y.npz")["y"][1, :, :, 0]
    shown = pixels[side + 2 + 3 : 2 * side : 6, 2 + 3 : side : 6][:8, :8]
    np.testing.assert_array_equal(shown, np.round(y).repeat(2, 0).repeat(2, 1))
    assert modes.sample(config, workdir) == 0
    assert "already holds" in capsys.readouterr().out


def test_a_sample_depends_on_its_own_measurement_alone_and_other_files_are_read_anew(tmp_path):
    config = digits(tmp_path, sampling__batch_size=6, guidance__method="matched")
    experiment = build(config)
    generator, params = Generator(experiment), experiment.init_params()
    before = generator(params, 6, show=False)
    y = np.load(tmp_path / "y.npz")["y"]
    np.savez(tmp_path / "y.npz", y=np.stack([y[0], 255 - y[1]]), sigma_y=8.0)
    after = generator(params, 6, show=False)
    np.testing.assert_array_equal(before.x[:3], after.x[:3])
    assert (before.x[3:] != after.x[3:]).any()
    with pytest.raises(
        UsageError, match=r"num_samples=7 is more than the 2 measurements .* set sampling.num_samples=6"
    ):
        generator(params, 7, show=False)


def test_particles_go_by_the_command_line_and_are_counted(tmp_path):
    config = digits(tmp_path, sampling__solver="exponential_euler_maruyama", guidance__particles=4)
    experiment = build(config)
    found = Generator(experiment)(experiment.init_params(), 6, show=False)
    assert found.finite.all() and found.evaluations == 4 * 5


def test_auto_puts_most_noise_where_much_is_known_and_much_is_not(tmp_path, capsys):
    config = digits(tmp_path, sampling__solver="auto", sampling__num_steps=250, guidance__method="auto")
    workdir = trained_run(tmp_path / "run", config)
    found = build(config).drawing
    assert found.measured and found.choice
    u = found.measured.unknown(0.25)
    assert 0.75 < u < 1  # a quarter as many numbers as pixels
    fields = {"solver": "peaked_sde", "times": "peaked", "center": 0.5, "num_steps": 249, "corrector": "none"}
    assert found.choice.fields == {**fields, "churn": round(1 + 12.8 * u * (1 - u), 3)}
    config.sampling.num_steps = 6
    assert modes.sample(config, workdir) == 0
    said = capsys.readouterr().err
    assert "auto: solver=peaked_sde, times=peaked" in said and "posterior score: guidance.method=matched" in said
    config.guidance.update(particles=2, method="pigdm")
    assert modes.sample(config, workdir) == 0
    assert "of 6 network evaluations each" in capsys.readouterr().out


@pytest.mark.parametrize("solver", ["ddrm", "dps", "pgdm", "diffpir", "repaint", "replacement"])
def test_every_rule_of_steps_goes_by_the_command_line(solver, tmp_path):
    name = {"measurement__name": "inpaint"} if solver == "repaint" else {}
    config = digits(tmp_path, sampling__solver=solver, guidance__method="none", **name)
    if name:
        np.savez(tmp_path / "y.npz", y=np.zeros((2, 8, 8, 1)), mask=np.eye(8), sigma_y=0.0)
    experiment = build(config)
    found = Generator(experiment)(experiment.init_params(), 6, show=False)
    assert found.finite.all() and found.evaluations == (13 if solver == "repaint" else 5)
    if solver == "repaint":
        assert (found.x[:, np.arange(8), np.arange(8)].astype(int) <= 3).all()


@pytest.mark.parametrize(
    "kind", [Bytes(False, True, True), Bytes(False, False, False), Real(False, (2.0, 3.0), (0.5, 4.0))]
)
def test_units_are_those_of_decoding(kind):
    stored = (
        np.random.default_rng(0).integers(0, 255, (5, 4, 4, 2)).astype(np.uint8 if kind.unit == "bits" else np.float32)
    )
    keys = example_keys(root_key(0), positions(0, 5))
    a, b = kind.units
    told = a + b * np.asarray(kind.encode(keys, jnp.asarray(stored)), np.float64)
    np.testing.assert_allclose(told, stored, atol=0.51 if kind.unit == "bits" and kind.dequantization else 1e-4)


FILES = [
    ({"y": np.zeros((2, 4, 4, 1))}, "box", r"has no `sigma_y`: np.savez"),
    ({"sigma_y": 1.0}, "box", r"has no `y`"),
    ({"y": np.zeros((2, 4, 4, 1)), "sigma_y": -1.0}, "box", r"has sigma_y=-1\.0: .* give 0 or more"),
    ({"y": np.zeros((2, 4, 4, 1)), "sigma_y": np.ones(2)}, "box", r"has sigma_y of shape \(2,\): give one number"),
    (
        {"y": np.zeros((2, 3, 3, 1)), "sigma_y": 1.0},
        "box",
        r"has y of shape \(2, 3, 3, 1\), which is no whole fraction",
    ),
    ({"y": np.zeros((2, 8, 8, 1)), "sigma_y": 1.0}, "inpaint", r"has no `mask`, which measurement\.name='inpaint'"),
    ({"y": np.zeros((2, 8, 8, 1)), "sigma_y": 1.0, "mask": np.ones((4, 4))}, "inpaint", r"the mask has shape \(4, 4\)"),
    ({"y": np.zeros((2, 4, 8, 1)), "sigma_y": 1.0, "mask": np.ones((8, 8))}, "inpaint", r"give \[N, 8, 8, 1\]"),
    (
        {"y": np.full((2, 8, 8), np.nan), "sigma_y": 1.0, "mask": np.ones((8, 8))},
        "inpaint",
        r"not finite: leave them out",
    ),
    ({"y": np.zeros((2, 8, 8)), "sigma_y": 1.0, "kernel": np.ones(4)}, "blur", r"odd number of taps"),
    ({"y": np.zeros((2, 5)), "sigma_y": 1.0, "matrix": np.ones((5, 63))}, "matrix", r"give \[M, 64\]"),
    ({"y": np.zeros((2, 8, 8)), "sigma_y": 1.0}, "gray", r"grey values are of pictures \[H, W, 3\]"),
    ({"y": np.zeros((2, 4, 4)), "sigma_y": 1.0, "x": np.zeros((3, 8, 8, 1))}, "box", r"a truth x of another shape"),
    ({"y": np.array(["a"]), "sigma_y": 1.0}, "box", r"`y` of dtype <U1, which are no real numbers"),
]


@pytest.mark.parametrize(("arrays", "name", "said"), FILES)
def test_files_that_do_not_fit_are_refused(arrays, name, said, tmp_path):
    config = digits(tmp_path, measurement__name=name)
    np.savez(tmp_path / "y.npz", **arrays)
    with pytest.raises(UsageError, match=said):
        measured(config.measurement, Bytes(False, True, True), (8, 8, 1))


def test_what_is_no_file_of_arrays_is_refused(tmp_path):
    config = digits(tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    array = (tmp_path / "one.npy").read_bytes()
    for content, said in (
        (b"what", "cannot be read"),
        (array, "cannot be read"),
        (None, "is not a file: name an .npz file"),
    ):
        (tmp_path / "y.npz").unlink()
        if content:
            (tmp_path / "y.npz").write_bytes(content)
        with pytest.raises(UsageError, match=said):
            measured(config.measurement, Bytes(False, True, True), (8, 8, 1))


def test_what_is_not_measured_may_be_anything_and_a_unit_of_one_is_told(tmp_path):
    config = digits(tmp_path, measurement__name="inpaint")
    y = np.where(np.eye(8) > 0, 0.5, np.nan)[None]
    np.savez(tmp_path / "y.npz", y=y, mask=np.eye(8), sigma_y=0.1)
    found = measured(config.measurement, Bytes(False, False, True), (8, 8, 1))
    assert found.note.startswith("y lies between 0 and 0.5, and the data's units are bytes")
    assert found.y.shape == (1, 8, 8, 1) and found.y[0, 0, 1] == 0
    np.testing.assert_allclose(found.y[0, 0, 0], 0.5 / 127.5 - 1, rtol=1e-6)


REFUSED = [
    ({"measurement__path": ""}, r"measurement\.name='box' has no file"),
    ({"measurement__name": "none"}, r"measurement\.path='.*' is for a measurement"),
    ({"measurement__name": "none", "measurement__path": "", "measurement__samples": 1}, r"guidance\.method='pigdm' is"),
    ({"guidance__method": "none"}, r"leaves the measurement out"),
    ({"sampling__solver": "ddrm"}, r"would both hold the measurement"),
    ({"sampling__solver": "repaint", "guidance__method": "none"}, r"repairs masks, not measurement\.name='box'"),
    ({"guidance__products": 5}, r"guidance\.products=5 has no effect on guidance\.method='pigdm'"),
    ({"guidance__repeats": 5}, r"guidance\.repeats=5 has no effect"),
    ({"guidance__particles": 5}, r"particles=5 go by steps of sampling\.solver='exponential_euler_maruyama'"),
    ({"sampling__solver": "ddrm", "guidance__method": "none", "sampling__corrector": "langevin"}, r"knows nothing of"),
    ({"sampling__solver": "adams_3", "sampling__times": "optimised"}, r"choose another grid"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_does_not_go_together_is_refused(changes, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        validate(digits(tmp_path, **changes))
