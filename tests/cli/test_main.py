"""Every kind of bad input: one sentence with the value and the remedy, exit code 2, nothing written."""

import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from score_sde.cli.main import default_workdir, main, parse
from score_sde.config import default, flatten, load

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = str(ROOT / "configs" / "digits.py")

ALONE = {  # arguments that come without a good --config -> (the offending value, the remedy)
    "no config": ([], ["--config is missing"], "configs/digits.py"),
    "empty config": (["--config="], ["--config is missing"], "configs/digits.py"),
    "no config file": (["--config=nowhere.py"], ["nowhere.py", "not a file"], "configs/digits.py"),
    "config is a directory": (["--config=/"], ["--config=/", "not a file"], "configs/digits.py"),
}

NUM_STEPS = "did you mean config.training.num_steps?"

FIELDS = {  # {field: value} given on the command line
    "unknown field": ("training.num_stepz", "3", ["config.training.num_stepz"], NUM_STEPS),
    "unknown section": ("trainin.num_steps", "3", ["config.trainin.num_steps"], NUM_STEPS),
    "section as field": ("training", "3", ["config.training "], "did you mean"),
    "far from any field": ("zzz", "3", ["config.zzz"], "see --help"),
    "word for int": ("training.num_steps", "many", ["training.num_steps='many'"], "an integer, such as 1300000"),
    "float for int": ("training.num_steps", "1.5", ["training.num_steps='1.5'"], "an integer"),
    "word for float": ("optimizer.learning_rate", "fast", ["learning_rate='fast'"], "a finite number, such as 0.0002"),
    "nan": ("optimizer.learning_rate", "nan", ["learning_rate=nan"], "a finite number"),
    "word for bool": ("network.fir", "maybe", ["network.fir='maybe'"], "True or False"),
    "word for tuple": ("network.ch_mult", "wide", ["ch_mult=('wide',)"], "a tuple of integers, such as (1, 2, 2"),
    "floats for tuple of int": ("network.ch_mult", "(1.5,2)", ["ch_mult=(1.5, 2)"], "a tuple of integers"),
    "word for tuple of float": ("ema.power_stds", "wide", ["('wide',)"], "a tuple of finite numbers, such as"),
    "unquoted words": ("ema.averages", "warmup,power", ["contains 'warmup,power'"], "written as ('constant','power')"),
    "SDE": ("sde.name", "vpp", ["sde.name='vpp'"], "did you mean vp?"),
    "solver": ("sampling.solver", "euler_maryuama", ["solver='euler_maryuama'"], "did you mean euler_maruyama?"),
    "far from any solver": ("sampling.solver", "zzz", ["sampling.solver='zzz'"], "choose from auto, few_step, "),
    "data set": ("data.name", "cifar", ["data.name='cifar'"], "did you mean cifar10?"),
    "betas": ("sde.beta_max", "0.05", ["sde.beta_min=0.1", "sde.beta_max=0.05"], "raise sde.beta_max or lower"),
    "equal betas": ("sde.beta_max", "0.1", ["sde.beta_min=0.1", "sde.beta_max=0.1"], "raise sde.beta_max"),
    "sigmas": ("sde.sigma_min", "50", ["sde.sigma_min=50", "sde.sigma_max=50"], "raise sde.sigma_max"),
    "zero sigma": ("sde.sigma_min", "0", ["sde.sigma_min=0"], "choose"),
    "attention": ("network.attn_resolutions", "16", ["attn_resolutions contains 16"], "choose from [8, 4]"),
    "groups": ("network.nf", "36", ["network.nf=36", "144 channels"], "use an nf that is a multiple of 4, of 32"),
    "no group": ("network.nf", "3", ["network.nf=3", "of 3 channels"], "use an nf"),
    "odd size": ("data.image_size", "9", ["data.image_size=9"], "use a multiple of 2"),
    "negative seed": ("seed", "-1", ["seed=-1"], "must be 0 or more"),
    "long seed": ("seed", str(2**32), [f"seed={2**32}"], f"below {2**32}: give it another value"),
    "no steps": ("training.num_steps", "0", ["training.num_steps=0"], "must be at least 1"),
    "dropout": ("network.dropout", "1", ["network.dropout=1"], "must be in [0, 1)"),
    "learning rate": ("optimizer.learning_rate", "0", ["learning_rate=0"], "must be positive"),
    "t_min": ("sampling.t_min", "2", ["sampling.t_min=2"], "try 1e-3"),
    "one sample": ("evaluation.final_samples", "1", ["evaluation.final_samples=1"], "give it 0, or 2 or more"),
    "array without path": ("data.name", "array", ["data.path is empty"], "name an .npy or .npz file"),
    "batch size": ("training.batch_size", "100", ["training.batch_size=100", "8 devices"], "make it a multiple of 8"),
    "channels of the data": ("data.num_channels", "3", ["(8, 8, 1)", "(8, 8, 3)"], "set data.num_channels=1"),
}  # fmt: skip

FLAGS = {
    "misspelt flag": (["--wrkdir=x"], ["--wrkdir"], "did you mean --workdir?"),
    "unknown flag": (["--verbosity=3"], ["--verbosity"], "choose from --config, --workdir, --mode, --overwrite"),
    "mode": (["--mode=trian"], ["--mode=trian"], "did you mean train?"),
    "no mode": (["--mode="], ["--mode="], "choose from train, "),
    "stray argument": (["stray"], ["stray"], "see --help"),
    "overwrite": (["--overwrite"], ["--overwrite", "--mode=train"], "choose another --workdir"),
    "not a bool": (["--overwrite=maybe"], ["--overwrite=maybe"], "see --help"),
    "overwrite an import": (
        ["--overwrite", "--mode=import"],
        ["--overwrite", "--mode=import"],
        "choose another --workdir",
    ),
    "nothing to import": (["--mode=import"], ["--checkpoint is missing"], "such as --checkpoint model.pth"),
    "empty checkpoint": (["--mode=import", "--checkpoint="], ["--checkpoint is missing"], "name the file or directory"),
    "no such checkpoint": (
        ["--mode=import", "--checkpoint=nowhere.pth"],
        ["--checkpoint=nowhere.pth does not exist"],
        "name the file or directory",
    ),
    "checkpoint to train": (["--checkpoint=/"], ["--checkpoint=/", "--mode=train"], "add --mode=import"),
    "checkpoint to sample": (
        ["--checkpoint=/", "--mode=sample"],
        ["--checkpoint=/", "--mode=sample"],
        "add --mode=import",
    ),
    "nothing trained": (["--mode=sample"], ["holds no trained run"], "train first"),
    "missing value": (["--config.seed"], ["--config.seed"], "see --help"),
    "corrector of an adaptive solver": (
        ["--config.sampling.solver=rk45", "--config.sampling.corrector=langevin"],
        ["'langevin'", "'rk45'"],
        "set the corrector to 'none'",
    ),
    "label of Fourier embedding": (
        ["--config.network.embedding_type=fourier"],
        ["parametrization.label='time'"],
        "set parametrization.label='sigma'",
    ),
}

CONFIG_FILES = {  # text of the config file
    "syntax": ("def get_config(:\n", ["SyntaxError"], "mend line 1 of "),
    "name": ("def get_config():\n    return undefined\n", ["NameError: name 'undefined'"], "mend line 2 of "),
    "import": ("import nowhere_to_be_found\n", ["ModuleNotFoundError", "nowhere_to_be_found"], "mend line 1 of "),
    "multi-line error": ("raise KeyError('a' + chr(10) + 'b')\n", ["KeyError"], "mend line 1 of "),
    "in another file": ("import json\njson.loads('{')\n", ["JSONDecodeError"], "mend line 2 of "),
    "no get_config": ("x = 1\n", ["has no get_config()"], "write one, as in "),
    "not callable": ("get_config = 1\n", ["has no get_config()"], "write one"),
    "dict": ("def get_config():\n    return {}\n", ["returned a dict"], "return a ConfigDict"),
    "None": ("def get_config():\n    pass\n", ["returned a NoneType"], "return a ConfigDict"),
    "unknown field": (
        "from configs.digits import default as d\ndef get_config(c=d()):\n    c.sde.betamax = 1.0\n    return c\n",
        ["config.sde.betamax"],
        "did you mean config.sde.beta_max?",
    ),
    "missing section": (
        "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'seed': 1})\n",
        ["is missing from the config"],
        "build it from score_sde.config.default()",
    ),
    "wrong type": (
        "from score_sde.config import default\ndef get_config():\n    c = default()\n    c.seed = 'x'\n    return c\n",
        ["TypeError"],
        "mend line 4 of ",
    ),
}

ARRAYS = {  # what stands in the data file: bytes or arrays
    "rank": (np.zeros(4, np.uint8), ["rank 1", "(4,)"], "the first axis counts examples"),
    "dtype": (np.zeros((4, 8, 8, 1), np.float64), ["dtype float64"], "save pictures as uint8"),
    "not finite": (
        np.full((4, 8, 8, 1), np.nan, np.float32),
        ["256 of the data's 256 numbers"],
        "leave such examples out",
    ),
    "constant": (np.zeros((4, 8, 8, 1), np.float32), ["channel 0 of the data is constant"], "give data.std"),
    "a short signal": (np.arange(12, dtype=np.float32).reshape(4, 3), ["an example's sides=3"], "use a multiple of"),
    "five axes": (
        np.arange(128, dtype=np.float32).reshape(4, 2, 2, 2, 2, 2),
        ["(2, 2, 2, 2, 2)", "network.name='ncsnpp'"],
        "reshape the data",
    ),
    "tokens": (np.zeros((4, 8, 8), np.int32), ["data.kind='tokens'"], "trains on bytes or real numbers"),
    "grey pictures of another size": (
        np.zeros((4, 9, 9), np.uint8),
        ["(9, 9, 1)", "(8, 8, 1)"],
        "set data.image_size=9",
    ),
    "empty": (np.zeros((0, 8, 8, 1), np.uint8), ["no example"], "at least one"),
    "size": (np.zeros((4, 8, 8, 3), np.uint8), ["(8, 8, 3)", "(8, 8, 1)"], "set data.num_channels=3"),
    "names": ({"faces": np.zeros(1)}, ["['faces']"], "name its image array `train` or `images`"),
    "not an array": (b"hello", ["is text"], "np.loadtxt"),
    "objects": (np.array([None]), ["holds Python objects"], "np.save"),
}


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def refused(arguments: list[str], values: list[str], remedy: str, folder: pathlib.Path, capsys) -> None:
    before = tree(folder)
    start = time.monotonic()
    assert main(["launch.py", *arguments]) == 2
    assert time.monotonic() - start < 10
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch("score-sde: [^\n]+\n", captured.err), captured.err
    for text in (*values, remedy):
        assert text in captured.err
    assert tree(folder) == before


@pytest.fixture(autouse=True)
def compilation_cache(monkeypatch):
    """Keep main from turning on the user's compilation cache for the rest of this process."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


@pytest.fixture
def base(tmp_path):
    return ["--config", DIGITS, f"--workdir={tmp_path / 'runs' / 'new'}"]


@pytest.mark.parametrize("case", ALONE)
def test_missing_config(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(*ALONE[case], tmp_path, capsys)


@pytest.mark.parametrize("case", FIELDS)
def test_field(case, base, tmp_path, capsys):
    field, value, values, remedy = FIELDS[case]
    refused([*base, f"--config.{field}={value}"], values, remedy, tmp_path, capsys)


@pytest.mark.parametrize("case", FLAGS)
def test_flag(case, base, tmp_path, capsys):
    arguments, values, remedy = FLAGS[case]
    refused([*base, *arguments], values, remedy, tmp_path, capsys)


@pytest.mark.parametrize("case", CONFIG_FILES)
def test_config_file(case, tmp_path, capsys):
    text, values, remedy = CONFIG_FILES[case]
    file = tmp_path / "broken.py"
    file.write_text(text)
    named = [str(file)] if "config." not in values[0] and "the config" not in values[0] else []
    refused([f"--config={file}", f"--workdir={tmp_path / 'new'}"], [*values, *named], remedy, tmp_path, capsys)


@pytest.mark.parametrize("case", ARRAYS)
def test_data(case, base, tmp_path, capsys):
    content, values, remedy = ARRAYS[case]
    file = tmp_path / ("data.npz" if isinstance(content, dict) else "data.npy")
    if isinstance(content, dict):
        np.savez(file, **content)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content)
    refused([*base, "--config.data.name=array", f"--config.data.path={file}"], values, remedy, tmp_path, capsys)


def test_missing_data(base, tmp_path, capsys):
    arguments = [*base, "--config.data.name=array", f"--config.data.path={tmp_path / 'nowhere.npy'}"]
    refused(arguments, [str(tmp_path / "nowhere.npy"), "is not a file"], "name an .npy or .npz file", tmp_path, capsys)


@pytest.mark.parametrize("path", ["file/run", "file", "n" * 300])
@pytest.mark.parametrize("mode", ["train", "sample", "import"])
def test_unusable_workdir(path, mode, tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    remedy = "train first" if mode == "sample" and len(path) < 300 else "choose another directory"
    workdir = f"{tmp_path / path}"
    arguments = [f"--config={DIGITS}", f"--workdir={workdir}", f"--mode={mode}"]
    arguments += [f"--checkpoint={tmp_path / 'file'}"] * (mode == "import")
    refused(arguments, [workdir], remedy, tmp_path, capsys)


@pytest.mark.parametrize("mode", ["train", "sample"])
def test_workdir_of_another_experiment(mode, base, tmp_path, capsys):
    from score_sde.storage.workdir import Workdir

    workdir = Workdir(tmp_path / "runs" / "new")
    workdir.claim(parse(["launch.py", *base, "--config.network.nf=64"]).config)
    workdir.checkpoints.mkdir()
    arguments = [*base, f"--mode={mode}", "--config.training.num_steps=2"]
    refused(arguments, ["network.nf (64 there, 32 here)"], "choose another --workdir", tmp_path, capsys)


def test_workdir_without_a_checkpoint(base, tmp_path, capsys):
    from score_sde.storage.workdir import Workdir

    Workdir(tmp_path / "runs" / "new").claim(parse(["launch.py", *base]).config)
    refused([*base, "--mode=sample"], ["holds no trained run"], "train first", tmp_path, capsys)


def test_importing_into_a_run(base, tmp_path, capsys):
    """Even one of the same config without a checkpoint, which training may be about to write."""
    from score_sde.storage.workdir import Workdir

    Workdir(tmp_path / "runs" / "new").claim(parse(["launch.py", *base]).config)
    arguments = [*base, "--mode=import", f"--checkpoint={tmp_path}"]
    refused(arguments, ["holds a run already"], "choose a new directory", tmp_path, capsys)


def test_empty_workdir(tmp_path, capsys):
    refused([f"--config={DIGITS}", "--workdir="], ["--workdir="], "name a directory", tmp_path, capsys)


@pytest.mark.parametrize(
    "arguments, field, value",
    [
        (["--config.training.num_steps=7"], "training.num_steps", 7),
        (["--config.training.num_steps", "7"], "training.num_steps", 7),
        (["--config.network.ch_mult=1,2,2"], "network.ch_mult", (1, 2, 2)),
        (["--config.network.ch_mult=(1,2,2)"], "network.ch_mult", (1, 2, 2)),
        (["--config.network.attn_resolutions=()"], "network.attn_resolutions", ()),
        (["--config.ema.averages=('constant','power')"], "ema.averages", ("constant", "power")),
        (["--config.ema.averages=half_life"], "ema.averages", ("half_life",)),
        (["--config.ema.power_stds=(0.05,0.07)"], "ema.power_stds", (0.05, 0.07)),
        (["--config.ema.power_stds=0.05,0.07"], "ema.power_stds", (0.05, 0.07)),
        (["--config.network.fir=True"], "network.fir", True),
        (["--config.network.fir"], "network.fir", True),
        (["--noconfig.network.conditional"], "network.conditional", False),
        (["--config.optimizer.learning_rate=1e-3"], "optimizer.learning_rate", 1e-3),
        (["--config.optimizer.learning_rate=1"], "optimizer.learning_rate", 1.0),
        (["--config.data.path=a b=c.npy"], "data.path", "a b=c.npy"),
        (["--config.seed=1", "--config.seed=2"], "seed", 2),
    ],
)
def test_a_field_on_the_command_line_changes_it_alone(arguments, field, value):
    plain = flatten(parse(["launch.py", "--config", DIGITS]).config)
    changed = flatten(parse(["launch.py", *arguments, "--config", DIGITS]).config)
    assert {n: v for n, v in changed.items() if v != plain[n] or n == field} == {field: value}
    assert type(changed[field]) is type(plain[field])


def test_flags_and_their_defaults():
    arguments = parse(["launch.py", "-config", DIGITS])
    assert arguments[1:5] == (pathlib.Path("runs/digits"), "train", False, "")
    assert arguments.command == f"python launch.py --config {DIGITS} --workdir runs/digits"
    arguments = parse(["launch.py", f"--config={DIGITS}", "--mode", "sample", "--workdir", "x", "--overwrite"])
    assert arguments[1:5] == (pathlib.Path("x"), "sample", True, "")
    flags = ["--mode=import", f"--checkpoint={ROOT}", "--config.seed", "3", "--workdir=a b"]
    arguments = parse(["launch.py", f"--config={DIGITS}", *flags])
    assert arguments[1:5] == (pathlib.Path("a b"), "import", False, str(ROOT))
    assert arguments.command == f"python launch.py --config {DIGITS} --workdir 'a b' --config.seed 3"


@pytest.mark.parametrize(
    "config, workdir",
    [
        ("configs/digits.py", "runs/digits"),
        ("configs/vp/ddpm/cifar10.py", "runs/vp/ddpm/cifar10"),
        ("/somewhere/configs/ve/a.b.py", "runs/ve/a.b"),
        ("configs/configs/a.py", "runs/a"),
        ("configs/../mine.py", "runs/mine"),
        ("mine.py", "runs/mine"),
        ("/elsewhere/mine.py", "runs/mine"),
        ("configs.py", "runs/configs"),
    ],
)
def test_the_default_workdir_follows_the_configs_place(config, workdir):
    assert default_workdir(config) == workdir


@pytest.mark.parametrize("name", ["edm/cifar10_ddpmpp", "edm/cifar10_ddpmpp.py", "configs/edm/cifar10_ddpmpp.py"])
def test_our_own_configs_are_found_by_name_from_anywhere(name, tmp_path, monkeypatch):
    """Though another package is called configs there; their files import one another all the same."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise ImportError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = parse(["/bin/score-sde", f"--config={name}"])
    assert arguments.config.sde.name == "edm" and arguments.workdir == pathlib.Path("runs/edm/cifar10_ddpmpp")
    assert arguments.command.startswith(f"score-sde --config {name} --workdir")
    assert load(str(ROOT / "configs" / "edm" / "cifar10_ddpmpp.py")).sde.name == "edm"


def test_a_config_of_ones_own_goes_before_ours_and_may_import_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text("from configs.digits import get_config")
    (tmp_path / "digits.py").write_text(
        "from configs.mine import get_config as g\ndef get_config(c=g()):\n    c.seed = 3\n    return c"
    )
    modules = dict(sys.modules)
    assert [load(name).seed for name in ("digits.py", "digits")] == [3, 42]
    assert {name: module for name, module in sys.modules.items() if name.startswith("configs")} == {
        name: module for name, module in modules.items() if name.startswith("configs")
    }


def test_a_misspelt_config_is_told_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(["--config=configs/digitz.py"], ["nor a config that comes with"], "did you mean digits?", tmp_path, capsys)


def test_the_defaults_alone_are_told_of_a_config_for_small_pictures(tmp_path, capsys):
    (tmp_path / "c.py").write_text("from score_sde import default\nget_config = default")
    values = ["attn_resolutions contains 16", "default()'s network is for pictures of 32x32"]
    refused([f"--config={tmp_path / 'c.py'}", f"--workdir={tmp_path}"], values, "configs/digits.py", tmp_path, capsys)


def test_python_m_is_the_command_line(tmp_path):
    command = [sys.executable, "-m", "score_sde", "--config", "nothing"]
    found = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (2, "") and "--config=nothing is not a file" in found.stderr


def test_a_config_file_is_read_anew(tmp_path):
    """No module of an earlier one stays behind."""
    for seed in (3, 4):
        file = tmp_path / "config.py"
        file.write_text(
            f"import configs.digits as d\ndef get_config(c=d.get_config()):\n    c.seed = {seed}\n    return c\n"
        )
        assert parse(["launch.py", f"--config={file}"]).config.seed == seed


def launch(*arguments: str, cwd: pathlib.Path, code: str = "") -> tuple[subprocess.CompletedProcess, float]:
    start = time.monotonic()
    command = [sys.executable, *(["-c", code] if code else [str(ROOT / "launch.py")]), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done, time.monotonic() - start


@pytest.mark.parametrize("field, limit", [("training.num_stepz=1", 3), ("training.batch_size=100", 6)])
def test_process_refuses_at_once(field, limit, tmp_path):
    """The second needs jax, to count the devices: 1.7 s on an idle machine."""
    done, seconds = launch(f"--config={DIGITS}", f"--config.{field}", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("score-sde: [^\n]+\n", done.stderr)
    assert list(tmp_path.iterdir()) == []
    assert seconds < limit


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_field_and_needs_no_jax(flag, tmp_path):
    code = "import sys; from score_sde.cli.main import main; rc = main(sys.argv)"
    code += "; print('jax' in sys.modules); sys.exit(rc)"
    done, _ = launch(flag, cwd=tmp_path, code=code)
    assert (done.returncode, done.stderr) == (0, "")
    *text, jax_imported = done.stdout.splitlines()
    assert jax_imported == "False"
    listed = {
        line.split("=")[0].strip().removeprefix("--config.") for line in text if "--config." in line and "<" not in line
    }
    assert listed == set(flatten(default()))
    for name in ("--config", "--workdir", "--mode", "--overwrite", "--checkpoint", "exit codes"):
        assert any(name in line for line in text)


def test_help_of_a_section_and_a_reader_that_has_seen_enough(tmp_path):
    """Piped into head, the help ends in silence."""
    done, _ = launch("--help", "sampling", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    fields = [line for line in done.stdout.splitlines() if line.startswith("  --config.")]
    assert len(fields) == sum(name.startswith("sampling.") for name in flatten(default()))
    assert all(line.startswith("  --config.sampling.") for line in fields)
    command = f"{sys.executable} {ROOT / 'launch.py'} --help | head -1"
    piped = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (piped.returncode, piped.stderr, piped.stdout.count("\n")) == (0, "", 1)
    done, _ = launch("--help", "sampler", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean sampling?" in done.stderr
