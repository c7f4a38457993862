"""Foreign checkpoints become runs of ours: imported whole, sampled from, trained on; what does not fit is refused."""

import errno
import json
import pathlib
import pickle
import re
import shutil
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization

from benchmarks import import_checkpoint as benchmark
from score_sde.cli.main import main
from score_sde.errors import CheckpointError, UsageError
from score_sde.experiment import Experiment, build
from score_sde.experiment.importing import import_checkpoint, newest, read
from score_sde.storage import manifest
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from score_sde.systems import Score
from score_sde.training.optimizer import Optimizer
from tests.adapters.official import JAX_FILE, TORCH_FILE, config_of, experiment_of
from tests.golden_files import GOLDEN

ROOT = pathlib.Path(__file__).parents[2]
NAME = "ckpt_jax_expected"
CONFIG = """
from tests.adapters.official import config_of

def get_config():
    config = config_of("ckpt_jax_expected")
    config.data.update(name="array", path={path!r})
    config.training.update(num_steps=7, batch_size=8, steps_per_call=2)
    config.sampling.update(num_steps=2, num_samples=4, batch_size=4, t_min=1e-5)
    config.logging.update(every=7, samples_every=0)
    return config
"""


@pytest.fixture
def launch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command line with the goldens' config, in an empty directory, returning its exit code."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    images = tmp_path / "images.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8))
    config = tmp_path / "tiny.py"
    config.write_text(CONFIG.format(path=str(images)))
    return lambda *arguments: main(["launch.py", f"--config={config}", *map(str, arguments)])


def restored(experiment: Experiment, workdir: str | pathlib.Path) -> tuple[Any, dict[str, Any]]:
    with closing(Checkpoints(Workdir(workdir).checkpoints)) as checkpoints:
        return experiment.restore(checkpoints)


def shrinking(
    system: Score, params: Any, view: Any, keys: Any, x0: jax.Array, *more: Any, training: bool
) -> tuple[jax.Array, dict[str, Any]]:
    """The parameters' own size in the place of the network's loss, whose gradient takes long to compile."""
    return jnp.full(len(x0), sum(jnp.sum(p**2) for p in jax.tree.leaves(params))), {}


def test_import_sample_resume(launch: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line from an official file to new training steps: the first goes on where the file ended."""
    monkeypatch.setattr(Score, "losses", shrinking)
    assert launch("--mode=import", f"--checkpoint={JAX_FILE.parent}") == 0
    said = capsys.readouterr().out
    assert "imported into runs/tiny: checkpoint_5, an official JAX checkpoint at step 5: 12,287 parameters" in said
    assert "averaged (EMA) and raw, with Adam's moments" in said
    assert re.search(r"next: python launch.py --config \S+tiny.py --workdir runs/tiny --mode sample\n", said)
    assert json.loads(pathlib.Path("runs/tiny/config.json").read_text())["imported"]["file"] == "checkpoint_5"
    assert launch("--mode=sample") == 0
    with np.load("runs/tiny/samples/euler_maruyama-2-seed0/samples.npz") as samples:
        assert samples["samples"].shape == (4, 8, 8, 3)
    assert launch() == 0
    row = json.loads(pathlib.Path("runs/tiny/metrics.jsonl").read_text())
    assert row["step"] == 7
    assert row["learning_rate"] == pytest.approx(2e-4 * 6 / 5000)  # of the seventh update
    state, meta = restored(experiment_of(NAME), "runs/tiny")
    assert (meta["step"], meta["position"]) == (7, 56)
    assert {int(leaf) for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim == 0} == {7}


@pytest.mark.parametrize("file", [JAX_FILE, TORCH_FILE])
def test_what_is_restored_is_what_was_read(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    experiment = experiment_of(NAME)
    imported = import_checkpoint(experiment, file, Workdir(tmp_path / "run"))
    assert (imported.step, imported.parameters, imported.raw, imported.moments) == (5, 12_287, True, True)
    foreign, (state, meta) = read(experiment, file), restored(experiment, tmp_path / "run")
    assert meta == {"step": 5, "position": 5 * experiment.config.training.batch_size, "pending": []}
    expected = experiment.optimizers["score"].state_from_moments(foreign.params, foreign.mu, foreign.nu, np.int32(5))
    averages = {name: {"score": foreign.ema} for name in experiment.averages}
    both = (
        (state.averages, averages),
        (state.params, {"score": foreign.params}),
        (state.optimizer, {"score": expected}),
        (state.step, 5),
    )
    for ours, theirs in both:
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"grad_clip": -1.0, "warmup": 0}])
def test_adam_goes_on_where_it_was(options: dict[str, float]) -> None:
    """A state put together from moments makes the same next update as the state they came from."""
    optimizer = Optimizer(**options)  # pyright: ignore[reportArgumentType]
    params = {"a": jnp.arange(3.0), "GaussianFourierProjection_0": {"W": jnp.ones(2)}}
    state = optimizer.init(params)
    gradients = jax.tree.map(jnp.cos, params)
    for step in range(3):
        params, state = optimizer.update(gradients, state, params, jnp.int32(step))
    again = optimizer.state_from_moments(params, *(optax.tree.get(state, name) for name in ("mu", "nu", "count")))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    expected, found = (optimizer.update(gradients, s, params, jnp.int32(3)) for s in (state, again))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_file_without_moments(tmp_path: pathlib.Path) -> None:
    """Adam and training start afresh, from the average."""
    experiment = experiment_of(NAME)
    foreign = read(experiment, JAX_FILE)
    file = tmp_path / "params"
    file.write_bytes(serialization.msgpack_serialize(foreign.ema))
    imported = import_checkpoint(experiment, file, Workdir(tmp_path / "run"))
    assert "Adam starts afresh, and training from the average" in str(imported)
    state, meta = restored(experiment, tmp_path / "run")
    assert (meta["step"], int(state.step)) == (0, 0)
    jax.tree.map(np.testing.assert_array_equal, state.params, {"score": foreign.ema})
    jax.tree.map(np.testing.assert_array_equal, state.averages, {"constant": {"score": foreign.ema}})
    fresh = {"score": experiment.optimizers["score"].init(foreign.ema)}
    jax.tree.map(np.testing.assert_array_equal, state.optimizer, fresh)


@pytest.mark.parametrize("name", ["ncsnv2_64", "ddpm"])
def test_other_networks(name: str, tmp_path: pathlib.Path) -> None:
    config = config_of(NAME)
    config.network.update(name=name, nf=32, embedding_type="positional")
    experiment = build(config)
    params = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), experiment.abstract_state().params["score"])
    file = tmp_path / "params"
    file.write_bytes(serialization.msgpack_serialize(params))
    jax.tree.map(np.testing.assert_array_equal, read(experiment, file).ema, params)


def test_a_diffusers_model(tmp_path: pathlib.Path) -> None:
    config = config_of(NAME)
    config.network.update(nf=8, ch_mult=(1, 2, 2), attn_resolutions=(), progressive="output_skip")
    config.network.progressive_input = "input_skip"
    shutil.unpack_archive(GOLDEN / "diffusers" / "ncsnpp.zip", tmp_path / "model")
    imported = import_checkpoint(build(config), tmp_path / "model", Workdir(tmp_path / "run"))
    assert imported.source == "a diffusers UNet2DModel"
    state, _ = restored(build(config), tmp_path / "run")
    assert sum(leaf.size for leaf in jax.tree.leaves(state.averages)) == imported.parameters


def test_the_newest_of_a_directory(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("checkpoint_9", "checkpoint_10", "checkpoint_2.pth", "checkpoint_11_tmp", "checkpoint"):
        (folder / name).touch()
    assert newest(folder) == newest(tmp_path) == folder / "checkpoint_10"
    assert newest(folder / "checkpoint_9") == folder / "checkpoint_9"


def test_a_directory_that_cannot_be_listed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: pathlib.Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "iterdir", fail)
    with pytest.raises(UsageError, match=f"{tmp_path} cannot be read .Permission denied.: choose another one"):
        newest(tmp_path)
    with pytest.raises(UsageError, match=r"cannot be read .* choose another one"):
        newest("a" * 5000)


def test_names_of_a_file_are_shown_without_escape_codes(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "params"
    file.write_bytes(
        serialization.msgpack_serialize({**read(experiment_of(NAME), JAX_FILE).ema, "\x1b[2J": np.ones(2)})
    )
    with pytest.raises(UsageError, match=r"\\x1b\[2J, of shape \(2,\) there, is unknown here"):
        read(experiment_of(NAME), file)


def written(folder: pathlib.Path, dtype: Any) -> pathlib.Path:
    """A file of parameters, one of them of this dtype."""
    params = read(experiment_of(NAME), JAX_FILE).ema
    params["Conv_0"]["kernel"] = np.asarray(jnp.asarray(params["Conv_0"]["kernel"], dtype))
    file = folder / "params"
    file.write_bytes(serialization.msgpack_serialize(params))
    return file


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
def test_dtypes_that_no_parameter_has(dtype: str, tmp_path: pathlib.Path) -> None:
    """As in a checkpoint of ours, they are named, and not made float32 without a word."""
    with pytest.raises(UsageError, match=f"holds ema Conv_0/kernel of dtype {dtype}, and the config's are float32"):
        read(experiment_of(NAME), written(tmp_path, dtype))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_floats_are_cast_and_said(dtype: str, tmp_path: pathlib.Path) -> None:
    file = written(tmp_path, dtype)
    found = read(experiment_of(NAME), file).ema["Conv_0"]["kernel"]
    assert found.dtype == np.float32
    expected = jnp.asarray(read(experiment_of(NAME), JAX_FILE).ema["Conv_0"]["kernel"], dtype).astype(jnp.float32)
    np.testing.assert_array_equal(found, expected)
    imported = import_checkpoint(experiment_of(NAME), file, Workdir(tmp_path / "run"))
    assert str(imported).endswith(f"taken: its parameters as the average; {dtype} became float32")


def test_every_part_of_a_file_is_named(tmp_path: pathlib.Path) -> None:
    imported = import_checkpoint(experiment_of(NAME), TORCH_FILE, Workdir(tmp_path / "run"))
    assert (
        "taken: ema.shadow_params as the average, model.module as the parameters, optimizer as Adam's moments;"
        " not used: ema.decay, ema.num_updates, model.module.sigmas"
    ) in str(imported)
    noted = json.loads((tmp_path / "run" / "config.json").read_text())["imported"]
    assert ["ema.shadow_params", "the average"] in noted["taken"] and "ema.decay" in noted["unused"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_named_and_not_run(protocol: int, launch: Any, tmp_path: pathlib.Path, capsys: Any) -> None:
    """What names EDM's modules is read for a network; others are refused with the way."""
    file = tmp_path / "network-snapshot-200000.pkl"
    file.write_bytes(pickle.dumps({"ema": b"torch_utils.persistence"}, protocol))
    line = refused(launch, capsys, f"--checkpoint={file}")
    assert "has no network under 'ema': name network-snapshot-<number>.pkl of EDM or EDM2" in line
    file.write_bytes(pickle.dumps({"ema": np.zeros(3)}, protocol))
    line = refused(launch, capsys, f"--checkpoint={file}")
    assert "is a pickle and not one of torch.save" in line and "torch.save(model.state_dict(), 'model.pth')" in line


def contents(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(launch: Any, capsys: pytest.CaptureFixture, *arguments: Any) -> str:
    """The one line that refuses a command line, which leaves nothing behind."""
    before = contents(pathlib.Path())
    assert launch("--mode=import", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and contents(pathlib.Path()) == before
    (line,) = [line for line in captured.err.splitlines() if not line.startswith("reading ")]
    assert line.startswith("score-sde: ")
    return line


@pytest.mark.parametrize("file", [JAX_FILE, TORCH_FILE])
@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("network.nf=8", r"AttnBlockpp_0/GroupNorm_0/bias has shape \(4,\) there and \(8,\) here"),
        (
            "network.num_res_blocks=2",
            r"(ResnetBlockBigGANpp_\d+/\S+|all_modules.\d+.\S+), of shape \(.*\) there, is unknown here",
        ),
        ("data.num_channels=1", r"Conv_0/kernel has shape \(3, 3, 3, 4\) there and \(3, 3, 1, 4\) here"),
        (
            "network.progressive=output_skip",
            r"(Conv_1/kernel (has shape|is missing)|all_modules.\d+.\S+, of shape .* unknown)",
        ),
    ],
)
def test_another_architecture(file: pathlib.Path, field: str, said: str, launch: Any, capsys: Any) -> None:
    line = refused(launch, capsys, f"--checkpoint={file}", f"--config.{field}")
    assert re.search(said, line) and str(file) in line
    assert "choose the config that belongs to it, or give network.*" in line


def test_an_unconditional_config_names_what_it_does_not_know(launch: Any, capsys: Any) -> None:
    line = refused(launch, capsys, f"--checkpoint={JAX_FILE}", "--config.network.conditional=False")
    assert "Dense_0/bias, of shape (16,) there, is unknown here" in line


@pytest.mark.parametrize("part", ["params_ema", "target", "grad_sq_ema"])
@pytest.mark.parametrize(
    ("value", "said"), [(np.ones(3, np.float32), "has shape (3,) there"), (np.float32([[[[np.nan]]]]), "not finite")]
)
def test_one_wrong_array(part: str, value: np.ndarray, said: str, launch: Any, tmp_path: Any, capsys: Any) -> None:
    saved = serialization.msgpack_restore(JAX_FILE.read_bytes())
    optimizer, kernel = saved["optimizer"], lambda tree: tree["Conv_0"]["kernel"]
    if said == "not finite":
        value = np.full_like(kernel(saved["params_ema"]), np.nan)
    if part == "grad_sq_ema":
        kernel(optimizer["state"]["param_states"])[part] = value
    else:
        (saved["params_ema"] if part == "params_ema" else optimizer["target"])["Conv_0"]["kernel"] = value
    file = tmp_path / "checkpoint_1"
    file.write_bytes(serialization.msgpack_serialize(saved))
    line = refused(launch, capsys, f"--checkpoint={file}")
    assert said in line and "Conv_0/kernel" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: copy or download it again"),
        (b"hello", 'is no checkpoint of a known kind, or damaged (it begins with "hello")'),
        (JAX_FILE.read_bytes()[:1000], "cannot be read as an official JAX checkpoint"),
        (TORCH_FILE.read_bytes()[:1000], "cannot be read as a PyTorch file"),
        (b"PK\x03\x04", "cannot be read as a PyTorch file"),
        (b"\x80\x02\x8a\x0a", "cannot be read as a PyTorch file"),
        (b"\x80", "AttnBlockpp_0/GroupNorm_0/bias is missing there"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "cannot be read as a file of weights"),
    ],
)
def test_files_of_no_use(content: bytes, said: str, launch: Any, tmp_path: pathlib.Path, capsys: Any) -> None:
    file = tmp_path / "checkpoint_1"
    file.write_bytes(content)
    line = refused(launch, capsys, f"--checkpoint={file}")
    assert said in line and str(tmp_path) in line


@pytest.mark.parametrize("step", [-3, 2**31])
def test_steps_that_are_none(step: int, launch: Any, tmp_path: pathlib.Path, capsys: Any) -> None:
    saved = {**serialization.msgpack_restore(JAX_FILE.read_bytes()), "step": step}
    (tmp_path / "checkpoint_1").write_bytes(serialization.msgpack_serialize(saved))
    assert f"its step is {step}" in refused(launch, capsys, f"--checkpoint={tmp_path}")


def test_directories_of_no_use(launch: Any, tmp_path: pathlib.Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    line = refused(launch, capsys, f"--checkpoint={tmp_path / 'empty'}")
    assert "has neither checkpoint_<number> in it, nor config.json, nor unet/config.json" in line


def test_nothing_is_overwritten(launch: Any, tmp_path: pathlib.Path, capsys: Any) -> None:
    """Neither a run, even one of the same config, nor what has no config; a run is no checkpoint."""
    experiment, run = experiment_of(NAME), tmp_path / "here" / "run"
    import_checkpoint(experiment, JAX_FILE, Workdir(run))
    with pytest.raises(UsageError, match="holds a run already: choose a new directory"):
        import_checkpoint(experiment, JAX_FILE, Workdir(run))
    line = refused(launch, capsys, f"--checkpoint={JAX_FILE}", "--workdir=run")
    assert "--workdir run holds a run already" in line
    line = refused(launch, capsys, "--checkpoint=run", "--workdir=new")
    assert "run belongs to a run of this program: name run as --workdir" in line
    assert "--config.training.start_from=run" in line
    for part in ("checkpoints", "checkpoints/5"):
        assert "belongs to a run" in refused(launch, capsys, f"--checkpoint=run/{part}", "--workdir=new")
    (run / "config.json").unlink()
    line = refused(launch, capsys, f"--checkpoint={JAX_FILE}", "--workdir=run")
    assert "holds checkpoints but no config.json" in line


def test_a_failed_write_leaves_no_config(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that training does not begin at step 0 there, unnoticed."""

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manifest, "write", fail)
    run = Workdir(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"No space left on device\): there is no earlier one; free some space"):
        import_checkpoint(experiment_of(NAME), JAX_FILE, run)
    assert not run.config.exists()
    with pytest.raises(UsageError, match="holds an import that did not end: give the same command for it again"):
        run.check(experiment_of(NAME).config)
    monkeypatch.undo()
    import_checkpoint(experiment_of(NAME), JAX_FILE, run)
    assert restored(experiment_of(NAME), run.path)[1]["step"] == 5
    assert not run.importing.exists()


def test_smoke_benchmark(tmp_path: pathlib.Path) -> None:
    json_file = tmp_path / "out.json"
    tiny = ("--set", "network.nf=8", "--set", "network.ch_mult=(1,)", "--set", "network.attn_resolutions=()")
    program = str(ROOT / "benchmarks" / "import_checkpoint.py")
    assert benchmark.main([program, *tiny, "--json", str(json_file)]) == 0
    rows = json.loads(json_file.read_text())["rows"]
    assert [row["kind"] for row in rows] == ["jax", "torch"]
    for row in rows:
        assert row["parameters"] > 10_000 and row["seconds"] > row["import_s"] > row["read_s"] > 0
        assert row["peak_mb"] > 50 and row["file_mb"] > 16 * row["parameters"] / 1e6
