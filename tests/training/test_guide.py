"""What docs/training.md says of files, fields, codes and commands."""

import pathlib
import re
import shlex

import numpy as np

from benchmarks.train_step import __doc__ as benchmark
from score_sde.cli.main import HELP, parse
from score_sde.config import FREE_ON_RESUME, SCHEMA, choices
from score_sde.config.fields import FIELDS
from score_sde.config.validation import validate
from score_sde.devices.distributed import LOST_AFTER
from score_sde.devices.parallel import SMALL
from score_sde.loop.metrics import MetricsLog
from score_sde.storage.workdir import Workdir
from score_sde.training.step import BINS, Metrics

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "training.md").read_text()
BASH, TEXT = ("\n".join(re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)) for kind in ("bash", "text"))


def rows(head: str) -> list[str]:
    """The rows of the table that begins so."""
    table = GUIDE[GUIDE.index(head) :].split("\n\n")[0]
    return table.splitlines()[2:]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def expanded(line: str) -> str:
    """A line of a script with `trial` filled in, and 1 for every other variable."""
    (trial,) = re.findall(r'^trial="(.*?)"', BASH, re.DOTALL | re.MULTILINE)
    line = line.replace("${trial/digits/digits_edm}", trial.replace("digits", "digits_edm")).replace("$trial", trial)
    return re.sub(r"\$\w+", "1", line).replace("\n", " ")


def test_links_exist():
    for path, _, anchor in re.findall(r"\]\(([^)#]*)(#([\w-]+))?\)", GUIDE):
        text = (ROOT / "docs" / path).read_text() if path else GUIDE
        assert not anchor or anchor in anchors(text), (path, anchor)


def test_every_launch_command_parses_and_validates(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = [line.split("launch.py")[1] for line in BASH.replace("\\\n", " ").splitlines() if "launch.py" in line]
    assert len(lines) >= 10
    for line in lines:
        arguments = shlex.split(re.split("[;&]", expanded(line))[0])
        validate(parse(["launch.py", *arguments]).config)


def test_every_flag_exists():
    after = lambda program: "\n".join(line.split(program)[1] for line in GUIDE.splitlines() if program in line)
    launch, timed = re.findall(r" --(\w+)(?=[ =])", after("launch.py")), re.findall(r" --([\w-]+)", after("step.py"))
    assert {"coordinator", "grid", "profile"} <= {*launch, *timed}
    assert set(launch) <= set(re.findall(r"--(\w+)", HELP))
    assert set(timed) <= set(re.findall(r"--([\w-]+)", str(benchmark)))


def test_every_field_exists_with_its_default():
    sections = "|".join({name.split(".")[0] for name in SCHEMA if "." in name})
    named = re.findall(rf"`({sections})\.(?!json`)(\w+)(?:=(\w+))?`", GUIDE)
    assert len(named) > 30
    for section, field, value in named:
        name = f"{section}.{field}"
        assert name in SCHEMA, name
        assert not value or value in (choices(name) or (value,)), (name, value)
    for name, default in re.findall(r"^\| `([a-z.0-9_]+)=\w+` \| `?(\w+)`? \|", GUIDE, re.MULTILINE):
        assert str(SCHEMA[name]) == default, name


def test_what_may_change_on_resumption_is_all_there():
    (paragraph,) = re.findall(r"\*\*What may change on resumption:\*\*(.*?)\n\n", GUIDE, re.DOTALL)
    whole = {name for name in FIELDS if name and all(row.free for row in FIELDS[name].fields.values())}
    known = {name for name in FREE_ON_RESUME if name.split(".")[0] not in whole} | whole
    assert set(re.findall(r"`([\w.]+)`", paragraph)) == known


def test_the_log_has_these_fields(tmp_path):
    """What a processor counts; memory is counted elsewhere, and held-out losses come in lines of their own."""
    ones = np.ones(2, np.float32)
    log = MetricsLog(tmp_path / "m.jsonl", tmp_path / "tb", 0, [])
    for _ in range(2):
        log.add(Metrics(*[ones] * 5, *[np.ones((2, BINS), np.float32)] * 2), 4)
    line = log.flush(2)
    log.close()
    named = {row.split("`")[1] for row in rows("| field | unit | what |")}
    assert named - {"device_memory_mb", "held_out_loss_<name>"} == set(line) - {"device_memory_mb"}


def test_the_workdir_has_these_names():
    named = " ".join(row.split(" | ")[0] for row in rows("| in the workdir | |"))
    for path in vars(Workdir("")).values():
        assert path.name in named, path


def test_the_exit_codes_are_those_of_the_help():
    codes = HELP.split("exit codes:")[1].split("\n\n")[0]
    told = set(re.findall(r"\b\d+\b", codes))
    assert set(re.findall(r"\d+", " ".join(row.split("|")[1] for row in rows("| exit code | |")))) == told | {"1"}


def test_numbers_are_those_of_the_code():
    assert LOST_AFTER == 30
    assert "Thirty seconds after its last sign of life" in GUIDE
    assert f"{SMALL:,} elements" in GUIDE
    assert BINS == 10
    assert "in ten bins" in GUIDE
