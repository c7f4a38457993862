"""What processes must have alike is compared before anything compiles: the parts, and two real processes."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from score_sde.devices import agreement
from score_sde.devices.agreement import agree, agree_on_folder, differences, sources
from score_sde.devices.distributed import Place, exchange, together
from score_sde.errors import UsageError
from tests.disagreement import ARRAY, FIELDS
from tests.processes import ROOT, end, environment, free_address
from tests.processes import together as started


def test_differences_name_all_values_and_who_has_them():
    tables = [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "1", "b": "x", "c": "2"}]
    assert differences(tables) == [
        "b (x in process 0, 2; y in process 1)",
        "c (missing in process 0, 1; 2 in process 2)",
    ]
    assert differences(tables[:1]) == []


def told(monkeypatch, *tables: dict) -> str:
    """The complaint of process 0, when the processes have these facts."""
    monkeypatch.setattr(agreement, "place", lambda: Place(0, len(tables)))
    short = lambda table: {name: agreement._short(value) for name, value in table.items()}
    monkeypatch.setattr(agreement, "exchange", lambda mine: [mine, *map(short, tables[1:])])
    with pytest.raises(UsageError) as raised:
        agree(tables[0], "mend it")
    return str(raised.value)


def test_a_few_are_named_and_the_others_counted(monkeypatch):
    said = told(monkeypatch, dict.fromkeys("abcdefg", 1), dict.fromkeys("abcdefg", 2))
    assert said.startswith("the processes differ in a (1 in process 0; 2 in process 1), b (")
    assert said.endswith("and 2 more: mend it")


def test_long_values_that_differ_at_their_end_differ(monkeypatch):
    said = told(monkeypatch, {"a": "x" * 5000}, {"a": "x" * 4999 + "y"})
    assert len(said) < 500


def test_a_process_alone_agrees(tmp_path):
    agree({"a": 1}, "")
    agree_on_folder(tmp_path / "none" / "yet", "--workdir")
    assert exchange([1]) == [[1]]
    assert together(lambda: 2) == 2
    assert list(tmp_path.iterdir()) == []


def test_sources_are_told_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text("1")
    before = sources(tmp_path)
    assert before == sources(tmp_path)
    (tmp_path / "a" / "b.py").write_text("2")
    changed = sources(tmp_path)
    (tmp_path / "a" / "b.py").rename(tmp_path / "a" / "c.py")
    assert len({before, changed, sources(tmp_path)}) == 3


ONE = """
import json, pathlib, sys
from score_sde.cli import main, processes
from score_sde.devices import agreement, distributed
from score_sde.errors import CheckpointError, UsageError
from tests.disagreement import FIELDS

index, address, folder = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
distributed.start(address, 2, index, timeout=60)
agreement.PATIENCE = 0.5

def told(act):
    try:
        act()
    except (UsageError, CheckpointError) as error:
        return str(error)
    return ""

def run(*flags, workdir="run"):
    line = ["launch.py", "--config", "tests/light.py", "--workdir", str(folder / workdir)]
    a = main.parse([*line, *flags])
    return told(lambda: processes.agree(a.config, a.workdir, mode=a.mode, overwrite=a.overwrite))

def fail():
    if index == 1:
        raise CheckpointError("no room")
    return 5

said = {name: run(*([f"--config.{field}"] if index else [])) for name, field in FIELDS.items()}
said |= {"alike": run("--config.seed=7"), "free": run(f"--config.data.path={index}", f"--config.data.workers={index}")}
said |= {"mode": run("--mode", ("sample", "train")[index])}
said |= {"overwrite": run("--mode", "sample", *["--overwrite"] * index)}
said |= {"workdir": run(workdir=f"{index}/run"), "name": run(workdir=f"run{index}")}
large = "x" * 10**6
said |= {"raised": told(lambda: distributed.together(fail)), "large": distributed.exchange(large * index)[1] == large}
said |= {"first": distributed.together(lambda: index), "turns": [distributed.exchange(index + k) for k in range(3)]}
print(json.dumps(said))
distributed.leave(0)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> list[dict]:
    """What two real processes were told, each, when they differed."""
    folder, address = tmp_path_factory.mktemp("agreement"), free_address()
    for index in (0, 1):
        (folder / str(index)).mkdir()
    env = environment(folder / "cache")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": env}
    processes = [subprocess.Popen([sys.executable, "-c", ONE, str(i), address, folder], **pipes) for i in (0, 1)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert sorted(p.name for p in folder.iterdir()) == ["0", "1"]  # nothing was made, nothing stays
    return [json.loads(out) for out, _ in ended]


@pytest.mark.parametrize("section", FIELDS)
def test_a_field_of_each_section(said, section):
    assert said[0][section] == said[1][section]
    field, _, value = FIELDS[section].partition("=")
    assert f" differ in {field} (" in said[0][section]
    shown = value if value not in ("True", "False") else value.lower()
    assert f"; {shown.rstrip('.')}" in said[0][section]
    assert said[0][section].endswith("in process 1): give all the same flags, config, environment and versions")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("mode", "--mode (sample in process 0; train in process 1)"),
        ("overwrite", "--overwrite (false in process 0; true in process 1)"),
        ("workdir", "which are not one directory"),
        ("name", "which are not one directory"),
        ("alike", ""),
        ("free", ""),
    ],
)
def test_flags_and_the_workdir(said, case, expected):
    assert said[0][case] == said[1][case]
    assert expected in said[0][case]
    assert bool(expected) == bool(said[0][case])


def test_what_is_told_reaches_all(said):
    assert [one["raised"] for one in said] == ["no room (process 1)", "no room"]
    for one in said:
        assert one["first"] == 0
        assert one["turns"] == [[0, 1], [1, 2], [2, 3]]
        assert one["large"]


def test_data_that_differ_in_one_value_end_both_processes(tmp_path):
    """By way of the command line: the same sentence, exit code 2, and a workdir in which no run was begun."""
    images = np.random.RandomState(0).randint(0, 256, (64, 8, 8, 1), np.uint8)
    np.save(tmp_path / "0.npy", images)
    images[7, 3, 3, 0] ^= 1
    np.save(tmp_path / "1.npy", images)
    env, place = environment(tmp_path / "cache", config="tests/light.py"), tmp_path / "run"
    own = tuple((f"--config.data.path={tmp_path / name}.npy",) for name in "01")
    (code, one), (other, two) = (end(p) for p in started(place, env, *ARRAY, own=own))
    assert (code, other) == (2, 2), one + two
    assert one == two
    assert one.startswith("score-sde: the processes differ in values of training data (")
    assert not pathlib.Path(place).exists()
