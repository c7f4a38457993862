import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.budget import end_after
from benchmarks.vdm import halved, histogram_bits
from score_sde.signals import collected
from tests.processes import FLAGS

pytestmark = pytest.mark.certification
ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = ("--set", "network.nf=8", "--set", "network.ch_mult=(1,)", "--set", "network.attn_resolutions=()")


def run(script, *flags):
    environment = os.environ | {"XLA_FLAGS": FLAGS}
    command = [sys.executable, f"benchmarks/{script}.py", *TINY, *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def measured(script, path, *flags):
    finished = run(script, "--batch", "4", "--repeats", "1", "--json", str(path), *flags)
    assert finished.returncode == 0, finished.stderr
    text = path.read_text()
    assert str(path.parent) not in text and str(ROOT) not in text
    record = json.loads(text)
    assert record.keys() - {"operations"} == {"benchmark", "command", "date", "machine", "versions", "config", "rows"}
    assert record["machine"].keys() == {"cpu", "cores", "backend", "device"}
    assert record["config"]["network"]["nf"] == 8
    assert record["command"].startswith(f"python benchmarks/{script}.py --set network.nf=8")
    return record["rows"]


def assert_positive(row, *names):
    for name in names:
        assert math.isfinite(row[name]) and row[name] > 0, name


def test_smoke_train_step_grid_and_profile(tmp_path):
    """A cell of the grid is the row of a process of its own; the profile has operations of both passes."""
    flags = ("--steps-per-call", "2", "--remat", "blocks")
    (cell,) = measured("train_step", tmp_path / "grid.json", *flags, "--dtype", "bfloat16", "--grid")
    assert (cell["dtype"], cell["steps_per_call"], cell["remat"]) == ("bfloat16", 2, "blocks")
    assert_positive(cell, "step_ms_min", "temp_mb", "host_peak_mb")
    (row,) = measured("train_step", tmp_path / "profile.json", *flags, "--profile")
    assert_positive(row, "trace_s", "compile_s", "step_ms_min", "step_ms_median", "images_per_s", "gflop")
    assert_positive(row, "matmul_gflops", "efficiency", "host_peak_mb")
    operations = json.loads((tmp_path / "profile.json").read_text())["operations"]
    assert (row["remat"], len(operations)) == ("blocks", 10)
    assert all(operation["ms"] > 0 and 0 < operation["share"] < 1 for operation in operations)
    assert [operation["ms"] for operation in operations] == sorted((o["ms"] for o in operations), reverse=True)
    assert any("rematted_computation" in o["origin"] or "ResnetBlock" in o["origin"] for o in operations)


def test_smoke_sampling(tmp_path):
    (row,) = measured("sampling", tmp_path / "out.json", "--num-steps", "3", "--solver", "ancestral")
    assert row["evaluations"] == 4
    assert_positive(row, "trace_s", "compile_s", "evaluation_ms_min", "network_ms_min", "ratio", "images_per_s")
    assert_positive(row, "evaluation_ms_median", "network_ms_median", "host_peak_mb")


def test_smoke_adaptive(tmp_path):
    tolerances = ("--set", "sampling.rtol=0.1", "--set", "sampling.atol=0.1")
    rows = measured("adaptive", tmp_path / "out.json", *tolerances)
    assert [row["score"] for row in rows] == ["fresh", "exact"]
    for row in rows:
        assert row["per_sample_evaluations_max"] >= row["per_sample_evaluations_mean"] >= 8
        assert_positive(row, "batch_ms_min", "per_sample_ms_min", "scipy_ms_min", "per_sample_ratio", "scipy_ratio")


def test_smoke_data(tmp_path):
    rows = measured("data", tmp_path / "out.json", "--images", "40", "--pictures", "20", "--workers", "1")
    assert [row["source"] for row in rows] == ["memory", "cache", "folder", "workers 1"]
    for row in rows:
        assert_positive(row, "images_per_s")
    for row in rows[2:]:
        assert_positive(row, "decoding_per_s", "of_decoding")


def test_smoke_decoding(tmp_path):
    """Compared with itself."""
    rows = measured("decoding", tmp_path / "out.json", "--pictures", "20", f"--baseline={ROOT}")
    assert [row["opening"] for row in rows] == ["first", "again"]
    for row in rows:
        assert_positive(row, "seconds", "baseline_s", "ratio", "cpu_s", "baseline_cpu_s", "cpu_ratio")


CONFIG = """
from score_sde.config import load

def get_config():
    config = load("{name}")
    config.network.update(nf=4, ch_mult={levels}, num_res_blocks=1)
    config.training.batch_size = 4
    return config
"""


def test_smoke_latents(tmp_path):
    """Without torch: the encoding's cost beside a score's update."""
    flags = []
    for name, levels in (("autoencoder", (1, 1, 1)), ("latent", (1,))):
        (tmp_path / f"{name}.py").write_text(CONFIG.format(name=f"mnist_{name}", levels=levels))
        flags += [f"--{name}", str(tmp_path / f"{name}.py")]
    command = [sys.executable, "benchmarks/latents.py", *flags, "--rounds", "2", "--json", str(tmp_path / "out.json")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert_positive(row, "latent_ms", "score_ms", "ratio", "ratio_median")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--set", "network.nff=8"), "network.nff is not a config field: did you mean network.nf?"),
        (("--set", "network.nf"), "--set network.nf has no value"),
        (("--set", "network.nf='wide'"), "network.nf='wide' is of the wrong type"),
        (("--repeats", "0"), "--repeats 0 must be at least 1"),
        (("--config", "configs/none.py"), "--config=configs/none.py is not a file"),
        (("--json", "pyproject.toml"), "--json pyproject.toml exists"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2_before_jax(flags, said):
    code = (
        "import runpy, sys\n"
        "sys.argv[0] = 'benchmarks/sampling.py'\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    assert 'jax' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, *TINY, *flags]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"sampling: {said}") and finished.stderr.count("\n") == 1


def test_a_budget_ends_as_a_sigterm_after_its_cpu_time():
    since = time.process_time()
    with collected() as caught:
        end_after(0.2)
        while not caught.signum and time.process_time() - since < 10:
            pass
    assert caught.signum == signal.SIGTERM
    assert 0.15 < time.process_time() - since < 2


def test_halved_pictures_are_rounded_means():
    x = np.random.default_rng(0).integers(0, 256, (3, 4, 6)).astype(np.uint8)
    means = x[:, :2, 2:4].astype(float).mean((1, 2))
    np.testing.assert_array_equal(halved(x)[:, 0, 1], np.floor(means + 0.5))
    assert halved(np.full((1, 2, 2), 255, np.uint8)) == 255


def test_bits_of_histograms_are_those_of_their_counts():
    """A pixel that is 0 three times of four is 0 with (3 + 1) / (4 + 256)."""
    train = np.array([[0, 7], [0, 8], [0, 9], [1, 7]], np.uint8)
    bits = histogram_bits(train, np.array([[0, 7], [2, 9]], np.uint8))
    np.testing.assert_allclose(bits, -np.log2([4 * 3, 1 * 2]) / 2 + np.log2(260))
