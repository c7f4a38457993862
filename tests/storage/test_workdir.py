"""Whose directory it is: accepted, resumed or refused with nothing touched."""

import errno
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys

import pytest

from score_sde.config import default, flatten
from score_sde.errors import UsageError
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import Workdir, versions, write_json


def config(**fields):
    changed = default()
    changed.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return changed


@pytest.fixture
def claimed(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.claim(config())
    return workdir


def test_a_new_directory_is_accepted_and_not_made(tmp_path):
    Workdir(tmp_path / "a" / "b").check(config())
    Workdir(tmp_path).check(config())
    assert list(tmp_path.iterdir()) == []


def test_config_json_holds_the_resolved_config_and_the_versions(claimed):
    written = json.loads(claimed.config.read_text())
    assert sorted(written) == ["config", "versions"]
    assert flatten(written["config"]) == flatten(config())
    assert written["versions"] == versions()
    assert written["versions"]["jax"] == importlib.metadata.version("jax")
    assert sorted(p.name for p in claimed.path.iterdir()) == ["config.json", "seals.json"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"training__num_steps": 5},
        {"training__batch_size": 64},
        {"training__steps_per_call": 10, "sampling__solver": "rk45", "checkpoint__every": 3, "logging__every": 1},
    ],
)
def test_the_same_experiment_is_accepted(claimed, fields):
    claimed.check(config(**fields))


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"network__nf": 64}, ["network.nf (128 there, 64 here)"]),
        ({"network__ch_mult": (1, 2)}, ["network.ch_mult ((1, 2, 2, 2) there, (1, 2) here)"]),
        ({"seed": 1, "training__num_steps": 5}, ["seed (42 there, 1 here)"]),
        (
            {"sde__name": "ve", "optimizer__learning_rate": 1e-3, "optimizer__eps": 1e-3},
            ["sde.name (vp there, ve here)", "optimizer.eps (1e-08 there, 0.001 here)"],
        ),
    ],
)
def test_another_experiment_is_refused_by_its_fields(claimed, fields, named):
    before = claimed.config.read_bytes()
    with pytest.raises(UsageError, match=r"choose another --workdir, or remove it, as it has no checkpoint$"):
        claimed.check(config(**fields))
    (claimed.checkpoints / "5").mkdir(parents=True)
    with pytest.raises(UsageError, match="choose another --workdir") as error:
        claimed.check(config(**fields))
    assert all(name in str(error.value) for name in named)
    assert str(error.value).count(" there, ") == len(named)
    assert f"--workdir <another> --config.training.start_from={claimed.path}" in str(error.value)
    assert claimed.config.read_bytes() == before


def test_resumptions_are_appended_to_the_history(claimed):
    first = claimed.config.read_bytes()
    for steps in (5, 6):
        claimed.claim(config(training__num_steps=steps))
    lines = [json.loads(line) for line in claimed.history.read_text().splitlines()]
    assert [line["config"]["training"]["num_steps"] for line in lines] == [5, 6]
    assert lines[0]["versions"] == versions()
    assert claimed.config.read_bytes() == first


@pytest.mark.parametrize("name", ["checkpoints", "metrics.jsonl", "samples", "tensorboard", "config_history.jsonl"])
def test_a_foreign_directory_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=f"holds {name} but no config.json: choose an empty or new directory"):
        Workdir(tmp_path).check(config())


@pytest.mark.parametrize(
    "text", ["", '{"config": {"seed"', "[]", '{"versions": {}}', '{"config": 3}', "\ufeff", "null"]
)
def test_a_half_written_or_foreign_config_json_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json is not a config this program wrote: put it back from a"):
        Workdir(tmp_path).check(config())
    assert (tmp_path / "config.json").read_text() == text


@pytest.mark.parametrize("old, new", [(b'"seed": 42', b'"seed": 43'), (b"{", b"\xff"), (b"}", b"")])
def test_a_damaged_config_json_is_refused_as_that(claimed, old, new):
    """Even where it would be a config: what it says of the data, say, is believed elsewhere."""
    claimed.config.write_bytes(claimed.config.read_bytes().replace(old, new))
    for act in (lambda: claimed.check(config()), claimed.record):
        with pytest.raises(UsageError, match=r"config\.json is damaged: put it back from a copy, or choose another"):
            act()


def test_a_line_of_the_history_that_was_cut_off_stays_one_line(claimed):
    claimed.history.write_bytes(b'{"config": {"se\xff')
    claimed.claim(config(training__num_steps=5))
    first, second = claimed.history.read_bytes().splitlines()
    assert first == b'{"config": {"se\xff' and json.loads(second)["config"]["training"]["num_steps"] == 5


@pytest.mark.parametrize("path", ["file", "file/run", "file/deep/run"])
def test_a_path_under_a_file_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match="is a file; choose another directory"):
        Workdir(tmp_path / path).check(config())


@pytest.mark.parametrize("trained", [False, True])
def test_an_impossible_name_is_refused(tmp_path, trained):
    with pytest.raises(UsageError, match="choose another directory"):
        Workdir(tmp_path / ("n" * 300)).check(config(), trained)


def test_an_unwritable_directory_is_refused(tmp_path, monkeypatch):
    """Permission is denied by hand: tests may run as root, whom the system denies nothing."""

    def denied(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    with pytest.raises(UsageError, match=r"cannot be used \(Permission denied\): choose another directory"):
        Workdir(tmp_path / "run").check(config())


def test_nothing_to_sample_from(claimed):
    with pytest.raises(UsageError, match="holds no trained run: train first"):
        claimed.check(config(), trained=True)
    claimed.checkpoints.mkdir()
    claimed.check(config(), trained=True)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workdir("~/run").path == pathlib.Path(tmp_path, "run")


HOLDER = """
import os, subprocess, sys, time
from score_sde.storage.workdir import Workdir

with Workdir(sys.argv[1]).lock():
    runs, started = os.pipe()
    if os.fork() == 0:
        os.write(started, b".")
        time.sleep(60)
    os.read(runs, 1)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    print(worker.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_dead_though_its_workers_live(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    root = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        assert holder.stdout is not None
        try:
            worker = int(holder.stdout.readline())
            held = (tmp_path / "run" / "lock.json").read_bytes()
            with pytest.raises(UsageError) as error, Workdir(tmp_path / "run").lock():
                pass
            assert f"process {holder.pid} on {platform.node()}, since 20" in str(error.value)
            assert "wait for it, stop it, or choose another directory" in str(error.value)
            assert (tmp_path / "run" / "lock.json").read_bytes() == held
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            os.kill(worker, 0)
            with Workdir(tmp_path / "run").lock():
                assert json.loads((tmp_path / "run" / "lock.json").read_text())["pid"] == os.getpid()
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_lock_is_released_by_its_block_and_leaves_a_free_directory(tmp_path):
    workdir = Workdir(tmp_path / "run")
    with workdir.lock(), pytest.raises(UsageError, match=f"written by process {os.getpid()} on"), workdir.lock():
        pass
    with pytest.raises(ZeroDivisionError), workdir.lock():
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), workdir.lock():  # the block's own error, not one of the directory
        (tmp_path / "nowhere").read_text()
    with workdir.lock():
        pass
    workdir.check_new()
    workdir.check(config())
    assert [p.name for p in workdir.path.iterdir()] == ["lock"]


def test_what_an_import_left_that_did_not_end_is_nothing_to_the_next_one(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.checkpoints.mkdir()
    with pytest.raises(UsageError, match="holds checkpoints but no config"):
        workdir.check_new()
    workdir.importing.touch()
    workdir.check_new()
    with pytest.raises(UsageError, match="holds an import that did not end: give the same command for it again"):
        workdir.check(config())


def test_where_there_are_no_locks_a_line_says_so(tmp_path, monkeypatch, capsys):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with Workdir(tmp_path).lock():
        assert capsys.readouterr().err == f"{tmp_path} cannot be locked: start no other program that writes there\n"


def test_a_directory_that_cannot_be_made_cannot_be_locked(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match="choose another directory"), Workdir(tmp_path / "file").lock():
        pass


def test_what_a_report_found_best_is_part_of_the_record_while_it_is_whole(tmp_path):
    workdir, found = Workdir(tmp_path), {"step": 3, "samples": 2, "best": {"10": {"solver": "ddim"}}}
    workdir.claim(default())
    assert "automatic" not in workdir.record()
    write_json(workdir.automatic, found)
    assert "automatic" not in workdir.record()  # nobody has vouched for it
    Seals(workdir.report).seal(workdir.automatic.name)
    assert workdir.record()["automatic"] == found
    workdir.automatic.write_text(workdir.automatic.read_text().replace("ddim", "heun"))
    assert workdir.record()["automatic"] == {"fault": f"{workdir.automatic} is damaged"}
    workdir.automatic.unlink()
    assert workdir.record()["automatic"] == {"fault": f"{workdir.automatic} is missing"}
    seals = Seals(workdir.report).path
    seals.write_bytes(seals.read_bytes() + b"x")
    assert workdir.record()["automatic"] == {"fault": f"{seals} is damaged"}
