"""Locks of folders: who comes second is told who was first, a full disk is no fault of the folder."""

import errno
import json
import os
import platform
import subprocess
import sys

import pytest

from score_sde.errors import UsageError
from score_sde.storage import locks
from score_sde.storage.locks import locked


def test_a_folder_is_made_locked_and_free_again(tmp_path):
    folder = tmp_path / "run" / "samples" / "euler"
    with locked(folder):
        assert json.loads((folder / "lock.json").read_text())["pid"] == os.getpid()
        with pytest.raises(
            UsageError, match=f"{folder} is being written by process {os.getpid()} on {platform.node()}"
        ):
            locked(folder).__enter__()
    assert [path.name for path in folder.iterdir()] == ["lock"]
    with locked(folder):
        pass


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\x00", b"[]", b"{}"])
def test_whoever_it_is_who_holds_it(tmp_path, text):
    with locked(tmp_path):
        (tmp_path / "lock.json").write_bytes(text)
        with pytest.raises(UsageError, match="is being written by another process: wait for it"):
            locked(tmp_path).__enter__()


def test_a_full_disk_is_said_as_that(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "lock"))

    monkeypatch.setattr(locks.FileLock, "acquire", full)
    with pytest.raises(OSError, match="No space left"):
        locked(tmp_path).__enter__()


def test_no_room_for_the_name_of_who_holds_it_is_no_reason_to_stop(tmp_path, monkeypatch):
    (tmp_path / "lock.json").mkdir()
    with locked(tmp_path), pytest.raises(UsageError, match="another process"):
        locked(tmp_path).__enter__()


WINDOWS = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
sys.modules["fcntl"] = None
for module, names in ((os, "pread pwrite sched_getaffinity fork register_at_fork"), (signal, "pthread_sigmask SIGHUP")):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
import pathlib
from score_sde.data import tfrecord, workers
from score_sde.data.folder import zip_file
from score_sde.signals import ENDING, collected
from score_sde.storage.locks import locked

folder = pathlib.Path(sys.argv[1])
with locked(folder / "run"), collected() as caught, workers._signals_blocked():
    try:
        locked(folder / "run").__enter__()
    except ValueError as error:
        print(error)
print(len(ENDING), sorted(path.name for path in (folder / "run").iterdir()))
print(len(zip_file(str(folder / "pictures.zip")).train.read(0)))
"""


def test_without_what_windows_lacks(tmp_path):
    """fcntl, os.pread, os.register_at_fork, signal.pthread_sigmask, signal.SIGHUP and others, taken away."""
    import io
    import zipfile

    from PIL import Image

    encoded = io.BytesIO()
    Image.new("L", (8, 8)).save(encoded, "png")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as file:
        file.writestr("0.png", encoded.getvalue())
    command = [sys.executable, "-c", WINDOWS, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert said.returncode == 0, said.stderr
    refused, names, size = said.stdout.splitlines()
    assert "is being written by process" in refused
    assert names.startswith("2 ") and "lock.json" not in names
    assert size == str(len(encoded.getvalue()))
