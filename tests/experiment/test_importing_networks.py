"""EDM2's pickles and ADM's .pt by the command line alone: imported, sampled from, guided, trained on.

The files are written here in those layouts from recorded networks: this tests the layout, not the writer.
"""

import json
import pathlib
import re
import shlex
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.experiment import asking, build, objects
from score_sde.experiment.frozen import config_of
from score_sde.scores.parametrization import vp_levels
from score_sde.systems import Score
from tests import golden_nets
from tests.adapters.edm_files import write_pickle, write_torch
from tests.experiment.test_importing import shrinking
from tests.golden_files import relative_error
from tests.golden_nets import state
from tests.training.small import OneConvolution

CONFIG = """
from configs import published
from score_sde.config import default

def get_config():
    config = default()
    config.data.update(name="array", path={path!r}, image_size=8, num_channels=3)
    config.training.update(num_steps=1, batch_size=8)
    config.network.update(num_res_blocks=1, dropout=0.0)
    config.optimizer.update(warmup=0)
    config.logging.update(every=1, samples_every=0)
    {own}
    config.sampling.update(num_steps=2, num_samples=4, batch_size=4)
    return config
"""
EDM = """published.edm(config)
    config.training.update(num_steps=1, batch_size=8)
    config.network.dropout = 0.0
    config.network.update(ch_mult=(1, 1), attn_resolutions=(8,))"""
ADM = """config.sde.discrete = True
    config.parametrization.label = 'level'
    config.training.times = 'levels'
    config.network.update(ch_mult=(1, 1), attn_resolutions=(8,))
    config.sampling.update(solver='ancestral', times='levels', t_min=1e-3)"""


@pytest.fixture
def launch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(config's own lines) -> a command line in an empty directory, returning its exit code.

    The loss that trains is not the network's, whose gradient takes long to compile.
    """
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setattr(Score, "losses", shrinking)
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    np.savez("images.npz", images=draw.integers(0, 256, (16, 8, 8, 3), np.uint8), label=np.arange(16) % 5)

    def with_config(own: str) -> Any:
        pathlib.Path("tiny.py").write_text(CONFIG.format(path=str(tmp_path / "images.npz"), own=own))
        return lambda *arguments: main(["launch.py", "--config=tiny.py", *map(str, arguments)])

    return with_config


def flags_of(capsys: pytest.CaptureFixture) -> list[str]:
    """The flags that a refusal ends in, as a shell takes them."""
    return shlex.split(re.sub(r"\s+", " ", capsys.readouterr().err).partition(" add ")[2])


def go_on(launch: Any, flags: list[str], file: pathlib.Path, capsys: Any, *sampling: str) -> str:
    """Import, sample by two steps, train by one; what the import said."""
    assert launch("--mode=import", f"--checkpoint={file}", *flags) == 0
    said = capsys.readouterr().out
    assert launch("--mode=sample", *flags, *sampling) == 0
    (drawn,) = pathlib.Path("runs/tiny/samples").glob("*/samples.npz")
    with np.load(drawn) as samples:
        assert samples["samples"].shape == (4, 8, 8, 3)
    assert launch(*flags) == 0
    row = json.loads(pathlib.Path("runs/tiny/metrics.jsonl").read_text())
    assert row["step"] == 1 and np.isfinite(row["loss"])
    return said


def test_an_edm2_pickle(launch: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    name = "edm2_cond"
    file = write_pickle(tmp_path / "edm2.pkl", "Precond", "UNet", golden_nets.config(name), state(name), sigma_data=0.5)
    command = launch(EDM)
    assert command("--mode=import", f"--checkpoint={file}") == 2
    flags = flags_of(capsys)
    assert {"--config.network.name=edm2", "--config.network.head_channels=16", "--config.data.num_classes=5"} < {*flags}
    flags.append("--config.network.label_dropout=0.1")
    said = go_on(command, flags, file, capsys, "--config.sampling.label=3", "--config.guidance.scale=1.5")
    assert "edm2.pkl, a network pickle of EDM (Precond of UNet) at step 0: 181,483 parameters, taken for the av" in said
    assert "taken: ema as the average; not used: encoder, loss_fn, dataset_kwargs" in said


def test_a_network_of_adm(launch: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    name = "adm_unet_cond"
    file = write_torch(tmp_path / "adm.pt", state(name))
    command = launch(ADM)
    assert command("--mode=import", f"--checkpoint={file}") == 2
    flags = flags_of(capsys)
    assert {"--config.network.name=adm", "--config.parametrization.learned_variance=True"} < {*flags}
    flags.append("--config.network.head_channels=32")
    said = go_on(command, flags, file, capsys, "--config.sampling.label=3", "--config.sampling.variance=learned")
    assert "adm.pt, a network of ADM at step 0: 828,998 parameters, taken for the average" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "adm_classifier_attnpool",
            "is a classifier of ADM's: set system.name='classifier' and",
        ),
        ("adm_superres", "is shown 6 channels and makes 6, and the data have 3"),
    ],
)
def test_other_networks_of_adm(name: str, said: str, launch: Any, tmp_path: pathlib.Path, capsys: Any) -> None:
    file = write_torch(tmp_path / "adm.pt", state(name))
    assert launch(ADM)("--mode=import", f"--checkpoint={file}") == 2
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)


CLASSIFIER = """config.system.name = 'classifier'
    config.data.update(condition=('label',), num_classes=4)
    config.training.times = 'levels'
    config.sde.discrete = True
    config.parametrization.label = 'level'
    config.network.update(name='adm_encoder', nf=32, ch_mult=(1, 1), attn_resolutions=())"""


@pytest.mark.parametrize(("name", "heads"), [("adm_classifier_attnpool", 32), ("adm_classifier_adaptive", 16)])
def test_a_classifier_of_adm_guides(
    name: str, heads: int, launch: Any, tmp_path: pathlib.Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imported, it gives the recorded logits and gradient as frozen.classifier of a run on the same chain."""
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: OneConvolution())
    file, command = write_torch(tmp_path / "adm.pt", state(name)), launch(CLASSIFIER)
    own = [f"--config.network.head_channels={heads}", "--workdir=runs/classifier"]
    assert command("--mode=import", f"--checkpoint={file}", *own) == 2
    flags = [*flags_of(capsys), *own]
    pool = "adaptive" if "adaptive" in name else "attention"
    assert (f"--config.network.pool={pool}" in flags) == (pool != "attention")
    assert command("--mode=import", f"--checkpoint={file}", *flags) == 0
    said = capsys.readouterr().out
    assert "a network of ADM at step 0" in said and "next: frozen.classifier=runs/classifier of a run of" in said
    led = ["--config.frozen.classifier=runs/classifier", "--config.guidance.classifier_scale=2.0"]
    led += ["--config.sampling.label=3", "--config.sampling.solver=ancestral"]
    command = launch(ADM)
    assert command() == 0
    assert command("--mode=sample", *led) == 0
    assert "4 samples of 4 network evaluations each" in capsys.readouterr().out.splitlines()[-1]
    config = config_of(json.loads(pathlib.Path("runs/tiny/config.json").read_text()))
    config.frozen.classifier = "runs/classifier"
    config.guidance.classifier_scale, config.sampling.label = 2.0, "3"
    experiment, golden = build(config), golden_nets.arrays(name)
    log_prob = asking.classifier(experiment.drawing.parts, {}, {"label": golden["y"].astype(np.int32)})
    logits = jax.jit(asking.logits(experiment.drawing.parts, {}))
    t = vp_levels(1000).time(experiment.sde, jnp.asarray(golden["timesteps"], jnp.float32))
    x = jnp.asarray(golden_nets.nhwc(golden["x"]), jnp.float32)
    assert relative_error(logits(x, t), golden["output"]) < 10 * golden_nets.TOLERANCES["ADM"]
    slope = jax.jit(jax.grad(lambda x: log_prob(x, t).sum()))(x)
    assert relative_error(golden_nets.nchw(slope), golden["grad_log_prob"]) < 10 * golden_nets.TOLERANCES["ADM"]


def test_what_is_no_classifier_of_adm(launch: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    file = write_torch(tmp_path / "adm.pt", state("adm_unet_cond"))
    assert launch(CLASSIFIER)("--mode=import", f"--checkpoint={file}", "--config.network.head_channels=32") == 2
    assert "is a U-Net of ADM's, no classifier" in re.sub(r"\s+", " ", capsys.readouterr().err)
