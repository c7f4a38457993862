"""Checkpoints: exact on any devices, finished or not there, damage and mismatches found, whatever is killed or full."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from score_sde.errors import CheckpointError, UsageError
from score_sde.storage import manifest, seals
from score_sde.storage.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[2]
LIKE = {"step": jax.ShapeDtypeStruct((), jnp.int32), "w": jax.ShapeDtypeStruct((3, 2), jnp.float32)}
STATE = {"step": jnp.int32(7), "w": jnp.arange(6.0).reshape(3, 2) / 7}
META = {"position": 2**40, "pending": [[0.1, 1e-45, 3.0]]}
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": ""}


def state_of(step):
    return {"step": jnp.int32(step), "w": jnp.arange(6.0).reshape(3, 2) / step}


def save(directory, *steps, **options):
    with closing(Checkpoints(directory, **options)) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), {"step": step})


def restored(directory, like=None, step=None):
    """The step of what is restored, whose bits are those that were saved."""
    with closing(Checkpoints(directory)) as checkpoints:
        state, meta = checkpoints.restore(like or LIKE, step)
    np.testing.assert_array_equal(state["w"], state_of(meta["step"])["w"])
    return meta["step"]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Checkpoints 1, 2 and 3, to be copied before they are changed."""
    directory = tmp_path_factory.mktemp("three")
    save(directory, 1, 2, 3)
    return directory


@pytest.fixture
def copied(three, tmp_path):
    for path, content in contents(three).items():
        target = tmp_path / path.relative_to(three)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tmp_path


def test_state_and_meta_come_back_bit_for_bit_and_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 7):
        checkpoints.save(step, STATE, META)
    checkpoints.close()
    before = contents(tmp_path)
    with closing(Checkpoints(tmp_path)) as again:
        again.save(7, state_of(8), {})  # finished already: nothing happens
        assert again.latest_step() == 7
        state, meta = again.restore(LIKE)
    assert contents(tmp_path) == before
    assert names(tmp_path) == ["2", "7"]
    assert meta == META
    for name, value in STATE.items():
        assert state[name].dtype == value.dtype
        np.testing.assert_array_equal(state[name], value)


def test_saved_on_one_device_restored_where_there_is_no_such_device(tmp_path):
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(7, jax.device_put(STATE, jax.local_devices()[1]), META)
    code = f"""
import pathlib, jax, jax.numpy as jnp
from score_sde.storage.checkpoint import Checkpoints
like = {{"step": jax.ShapeDtypeStruct((), jnp.int32), "w": jax.ShapeDtypeStruct((3, 2), jnp.float32)}}
state, _ = Checkpoints(pathlib.Path({str(tmp_path)!r})).restore(like)
print(jax.device_count(), int(state["step"]), float(state["w"].sum()))
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    devices, step, total = done.stdout.split()
    assert (devices, step) == ("1", "7")
    np.testing.assert_allclose(float(total), 15 / 7, rtol=1e-6)


def laid_out(devices, sharded):
    return NamedSharding(
        Mesh(np.asarray(jax.devices()[:devices]), ("data",)), PartitionSpec("data" if sharded else None)
    )


def test_from_eight_devices_to_four_to_one_bit_for_bit(tmp_path):
    """Sharded becomes replicated and back; the arrays come with the shardings asked for."""
    values = {"a": np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32), "b": np.arange(8, dtype=np.int32)}
    values["c"] = jnp.asarray(values["a"], jnp.bfloat16)
    layouts = [{n: laid_out(count, (n == "b") == flip) for n in values} for count, flip in ((8, True), (4, False))]
    layouts.append({n: SingleDeviceSharding(jax.devices()[5]) for n in values})
    state = jax.device_put(values, layouts[0])
    for step, layout in enumerate(layouts):
        with closing(Checkpoints(tmp_path)) as checkpoints:
            checkpoints.save(step, state, {})
            checkpoints.close()
            like = {n: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=layout[n]) for n, v in values.items()}
            state, _ = checkpoints.restore(like)
        for name, value in values.items():
            assert state[name].sharding == layout[name]
            assert state[name].dtype == value.dtype
            np.testing.assert_array_equal(np.asarray(state[name]), np.asarray(value))


def test_what_is_saved_may_be_donated_at_once(tmp_path):
    advance = jax.jit(lambda x: 2 * x + 1, donate_argnums=0)
    x = jnp.arange(2.0**20)
    with closing(Checkpoints(tmp_path, keep=4)) as checkpoints:
        for step in range(4):
            checkpoints.save(step, {"x": x}, {})
            x = advance(advance(x))
    with closing(Checkpoints(tmp_path)) as checkpoints:
        for step in range(4):
            state, _ = checkpoints.restore({"x": x}, step)
            expected = np.arange(2.0**20, dtype=np.float32)
            for _ in range(2 * step):
                expected = 2 * expected + 1
            np.testing.assert_array_equal(state["x"], expected)


def test_restoring_from_nothing_is_a_clear_error_and_makes_nothing(tmp_path):
    with closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        assert checkpoints.latest_step() is None
        with pytest.raises(UsageError, match=r"no checkpoint in .*: train there first"):
            checkpoints.restore(LIKE)
        with pytest.raises(UsageError, match=r"checkpoints/4 is missing: choose from the finished ones, none"):
            checkpoints.restore(LIKE, 4)
    assert names(tmp_path) == []


def test_every_so_many_steps_are_kept_beside_the_newest(tmp_path):
    save(tmp_path, *range(1, 12), keep=2, keep_every=4)
    assert sorted(map(int, names(tmp_path))) == [4, 8, 10, 11]
    save(tmp_path, 13, keep=1)
    assert names(tmp_path) == ["13"]


def test_a_kill_in_the_middle_of_removing_leaves_an_unfinished_one(copied, monkeypatch):
    def killed(path):
        next(path.rglob("_METADATA")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        manifest.remove(copied / "3")
    monkeypatch.undo()
    assert manifest.steps(copied) == {1: True, 2: True, 3: False}
    assert restored(copied) == 2


def test_one_flipped_bit_anywhere_is_found(copied, capsys):
    """In every file at least once; restoring passes over it."""
    draw, newest = random.Random(0), copied / "3"
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    assert newest / "manifest.json" in files
    for i in range(50):
        file = files[i % len(files)]
        content = file.read_bytes()
        place = draw.randrange(len(content))
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        with pytest.raises(manifest.Unsound):
            manifest.verify(newest, 3)
        if i >= 47:
            assert restored(copied) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"ignoring {newest}, which is damaged: {file.relative_to(newest)} is " in line
        file.write_bytes(content)
    manifest.verify(newest, 3)
    assert restored(copied) == 3


def longer(file):
    file.write_bytes(file.read_bytes() + b"0")


def another(file):
    file.with_name("more").write_bytes(b"")


DAMAGES = {
    "truncated": (lambda file: os.truncate(file, 5), r"state/_METADATA has 5 bytes, not \d+"),
    "longer": (longer, r"state/_METADATA has \d+ bytes, not"),
    "missing": (pathlib.Path.unlink, "state/_METADATA is missing"),
    "extra": (another, "state/more does not belong there"),
    "no manifest of ours": (lambda file: (file.parents[1] / "manifest.json").write_text("{}"), "manifest.json is dama"),
    "deep": (lambda file: (file.parents[1] / "manifest.json").write_text("[" * 10**6), "manifest.json is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_the_one_before_is_restored(damage, copied, capsys):
    do, said = DAMAGES[damage]
    do(copied / "3" / "state" / "_METADATA")
    assert restored(copied) == 2
    error = capsys.readouterr().err
    with pytest.raises(UsageError, match=rf"checkpoint \S+/3 is damaged \({said}") as refused:
        restored(copied, step=3)
    assert str(refused.value).split("(")[1].split(")")[0] in error


def test_a_manifest_of_another_step_or_format_finishes_nothing(copied):
    (copied / "3").rename(copied / "5")
    with pytest.raises(manifest.Unsound, match=r"manifest\.json belongs to step 3"):
        manifest.verify(copied / "5", 5)
    content = {"format": 99, "step": 2, "files": {}}
    (copied / "2" / "manifest.json").write_bytes(seals.encode(content))
    with pytest.raises(manifest.Unsound, match=r"format 99, and this program knows 1"):
        manifest.verify(copied / "2", 2)


def test_where_all_are_damaged_all_are_named(copied):
    for step in "123":
        (copied / step / "meta" / "metadata").unlink()
    with pytest.raises(UsageError) as error:
        restored(copied)
    assert all(f"{copied / step} (meta/metadata is missing)" in str(error.value) for step in "123")


def test_a_damaged_one_is_replaced_and_does_not_count_among_the_kept(copied):
    (copied / "3" / "meta" / "metadata").write_text("x")
    (copied / "3.orbax-checkpoint-tmp").mkdir()
    with closing(Checkpoints(copied, keep=2)) as checkpoints:
        checkpoints.restore(LIKE)
        assert checkpoints.latest_step() == 2
        assert "3.orbax-checkpoint-tmp" in names(copied)  # a reader changes nothing
        checkpoints.save(3, state_of(3), {"step": 3})
    assert names(copied) == ["2", "3"]
    assert restored(copied) == 3


def test_an_unfinished_one_is_ignored_and_replaced(copied, capsys):
    (copied / "3" / "manifest.json").rename(copied / "3" / "unfinished-manifest.json")
    with closing(Checkpoints(copied)) as checkpoints:
        assert checkpoints.latest_step() == 2
    assert restored(copied) == 2
    assert f"ignoring {copied / '3'}: unfinished" in capsys.readouterr().err
    with pytest.raises(UsageError, match="/3 is unfinished: choose from the finished ones, 1, 2"):
        restored(copied, step=3)
    save(copied, 3)
    assert restored(copied) == 3


def test_a_checkpoint_that_its_run_removes_while_it_is_read(copied, monkeypatch):
    """A reader beside a run that writes: what vanishes is not damaged, the next newest is taken."""
    verify, removed = manifest.verify, []

    def verify_slowly(directory, step):
        if not removed:
            removed.append(step)
            manifest.remove(directory)
        verify(directory, step)

    monkeypatch.setattr(manifest, "verify", verify_slowly)
    assert restored(copied) == 2
    assert removed == [3]


MISMATCHES = {
    "dtype": (
        {"w": jax.ShapeDtypeStruct((3, 2), jnp.bfloat16)},
        "holds w float32 [3,2] but the config asks for bfloat16",
    ),
    "shape": (
        {"w": jax.ShapeDtypeStruct((3, 4), jnp.float32)},
        "w float32 [3,2] but the config asks for float32 [3,4]",
    ),
    "extra": ({"v": {"kernel": jnp.ones(2)}}, "has no v/kernel but the config asks for v/kernel float32 [2] (1 of 3"),
    "missing": ({"w": None}, "holds w float32 [3,2] but the config does not ask for it (1 of 2 arrays differ)"),
    "structure": ({"w": {"0": LIKE["w"]}}, "holds w float32 [3,2] but the config does not ask for it (2 of 3"),
}


@pytest.mark.parametrize("kind", MISMATCHES)
def test_arrays_of_another_config_are_named(kind, three):
    change, said = MISMATCHES[kind]
    with pytest.raises(UsageError) as error:
        restored(three, LIKE | change)
    assert str(error.value).startswith(f"checkpoint {three / '3'} ")
    assert said in str(error.value)
    assert "use the config that it was trained with" in str(error.value)


KILLED = """
import os, pathlib, sys
import numpy as np, jax
from score_sde.storage.checkpoint import Checkpoints

def saves():
    checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
    step = (checkpoints.latest_step() or 0) + 1
    while True:
        parts = [np.random.default_rng([step, i]).random((500, 1000), np.float32) for i in range(10)]
        checkpoints.save(step, {f"w{i}": jax.numpy.asarray(part) for i, part in enumerate(parts)}, {"step": step})
        print("done", step - 1, flush=True)  # the one before; this one is under way
        step += 1

for _ in sys.stdin:  # each child starts at once, the imports being the parent's
    child = os.fork()
    if child == 0:
        saves()
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_a_kill_at_any_moment_loses_the_save_under_way_at_most(tmp_path):
    """20 MB, saved one after the other; six kills."""
    draw, steps, parts = random.Random(1), [0], 10
    like = {f"w{i}": jax.ShapeDtypeStruct((500, 1000), jnp.float32) for i in range(parts)}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes) as process:
        for saves in (1, 2, 3, 1, 2, 3):
            process.stdin.write("go\n")
            process.stdin.flush()
            said = [process.stdout.readline().split() for _ in range(1 + saves)]  # child and done, in any order
            time.sleep(draw.uniform(0, 0.4))
            os.kill(next(int(number) for word, number in said if word == "child"), signal.SIGKILL)
            while said[-1] != ["dead"]:
                said.append(process.stdout.readline().split())
            done = max([int(line[1]) for line in said if line[0] == "done"])
            with closing(Checkpoints(tmp_path)) as checkpoints:
                if (latest := checkpoints.latest_step()) is None:
                    assert done == 0
                    continue
                state, meta = checkpoints.restore(like)
            steps.append(meta["step"])
            assert steps[-1] == latest and latest in (done, done + 1) and latest >= steps[-2]
            for i in range(parts):
                expected = np.random.default_rng([latest, i]).random((500, 1000), np.float32)
                np.testing.assert_array_equal(state[f"w{i}"], expected)
        process.stdin.close()
    assert steps[-1] >= 6
    assert len([name for name in names(tmp_path) if name.isdecimal()]) <= 5
    with closing(Checkpoints(tmp_path, keep=1)) as checkpoints:
        checkpoints.save(10**6, STATE, META)
    assert names(tmp_path) == ["1000000"]


FULL = """
import pathlib, resource, signal, sys
import jax
from score_sde.storage.checkpoint import Checkpoints
from score_sde.errors import CheckpointError

states = [{f"w{j}": jax.random.normal(jax.random.key(i + j), (1000, 500)) for j in range(4)} for i in range(3)]
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
checkpoints.save(1, states[1], {})
checkpoints.close()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
checkpoints.save(2, states[2], {})
try:
    checkpoints.save(3, states[2], {})
except CheckpointError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
checkpoints.save(4, states[2], {})
checkpoints.close()
state, _ = checkpoints.restore(states[0])
assert all((state[name] == states[2][name]).all() for name in state)
"""


@pytest.mark.parametrize("limit", [1_000_000, 100])
def test_a_full_disk_is_told_and_hurts_no_earlier_checkpoint(limit, tmp_path):
    """Files cannot grow beyond a limit, of the arrays and of everything else; then there is space again."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(limit)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == (
        f"checkpoint {tmp_path}/2 cannot be written (File too large): the last good checkpoint 1 is intact; free some"
        " space or mend the disk, and start again\n"
    )
    # By which of Orbax's threads fails first, the unfinished directory of 2 is left there or not; no one reads it.
    assert [name for name in names(tmp_path) if not name.endswith("-tmp")] == ["1", "4"]
    manifest.verify(tmp_path / "1", 1)


def test_what_cannot_be_written_at_all(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        closing(Checkpoints(tmp_path / "file" / "checkpoints")) as checkpoints,
        pytest.raises(UsageError, match="Not a d"),
    ):
        checkpoints.save(1, STATE, META)


def test_a_failure_of_the_last_save_is_raised_by_close(tmp_path, monkeypatch):
    def full(directory, step):
        raise OSError(28, "No space left on device")

    save(tmp_path, 1)
    monkeypatch.setattr(manifest, "write", full)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, STATE, META)
    with pytest.raises(
        CheckpointError, match=r"/2 cannot be written \(No space left on device\): the last good checkp"
    ):
        checkpoints.close()
    checkpoints.close()
    assert names(tmp_path) == ["1"]


def test_what_a_failed_save_left_and_cannot_be_removed_yet_hides_no_earlier_checkpoint(tmp_path, monkeypatch):
    """As where another thread of it is still writing in the directory."""

    def full(directory, step):
        raise OSError(28, "No space left on device")

    def busy(directory):
        raise OSError(39, "Directory not empty")

    save(tmp_path, 1)
    monkeypatch.setattr(manifest, "write", full)
    monkeypatch.setattr(manifest, "remove", busy)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="the last good checkpoint 1 is intact"):
        checkpoints.save(2, STATE, META)
        checkpoints.close()


def test_a_save_that_has_failed_is_told_before_the_next_one(tmp_path, monkeypatch):
    def fail(directory, step):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write", fail)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, STATE, META)
    with pytest.raises(CheckpointError, match=r"/1 cannot be written \(No space left on device\): there is no earlier"):
        while True:
            checkpoints.check()
            time.sleep(0.01)
    checkpoints.check()
    checkpoints.close()


PAIR = """
import pathlib, sys
import jax, numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from score_sde.storage.checkpoint import Checkpoints
from score_sde.errors import CheckpointError, UsageError

directory, port, process = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
mesh = Mesh(np.array(jax.devices()), ("data",))
shardings = {"sharded": NamedSharding(mesh, PartitionSpec("data")), "replicated": NamedSharding(mesh, PartitionSpec())}

def values(step):
    return np.random.default_rng(step).normal(size=(8, 300)).astype(np.float32)

def state(step):
    w = values(step)
    return {n: jax.make_array_from_callback(w.shape, s, lambda index: w[index]) for n, s in shardings.items()}

def check(restored, meta, step):
    assert meta == {"step": step}, (meta, step)
    for name, array in restored.items():
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), values(step)[shard.index])

checkpoints = Checkpoints(directory, keep=2)
assert checkpoints.latest_step() is None
like = state(0)
for step in (1, 2, 3):
    checkpoints.save(step, state(step), {"step": step})
    checkpoints.save(step, state(0), {"step": 0})
checkpoints.close()
checkpoints = Checkpoints(directory, keep=2)
assert checkpoints.latest_step() == 3
restored, meta = checkpoints.restore(like)
check(restored, meta, 3)
assert {n: a.sharding for n, a in restored.items()} == shardings
restored, meta = checkpoints.restore({n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in like.items()})
check(restored, meta, 3)
assert all(a.devices() == {jax.local_devices()[0]} for a in restored.values())

multihost_utils.sync_global_devices("before")
if process == 0:
    file = max((directory / "3").rglob("ocdbt.process_1/d/*"), key=lambda path: path.stat().st_size)
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
multihost_utils.sync_global_devices("after")
check(*checkpoints.restore(like), 2)
for step, kind in ((3, UsageError), (9, UsageError)):
    try:
        checkpoints.restore(like, step)
        raise SystemExit("restored")
    except kind as error:
        print(error)

from score_sde.storage import manifest, seals
write = manifest.write
def full(directory, step):
    raise OSError(28, "No space left on device")
manifest.write = full
checkpoints.save(3, state(3), {"step": 3})
if process == 0:  # which alone has failed: the other would learn of it by its end
    try:
        checkpoints.save(4, state(4), {"step": 4})
        raise SystemExit("saved")
    except CheckpointError as error:
        print(error)
manifest.write = write
checkpoints.save(4, state(4), {"step": 4})
checkpoints.close()
check(*Checkpoints(directory).restore(like), 4)
"""


def test_two_processes_save_restore_and_fall_back_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = ENVIRONMENT | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", PAIR, str(tmp_path / "c"), port, process],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for process in "01"
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said[0][1] + said[1][1]
    lines = [[line for line in out.splitlines() if "[Gloo]" not in line] for out, _ in said]
    damaged, missing, full = lines[0]
    assert [line.removesuffix(" (process 0)") for line in lines[1]] == [damaged, missing]
    assert "c/3 is damaged (state/ocdbt.process_1/d/" in damaged
    assert "c/9 is missing: choose from the finished ones, 2, 3" in missing
    assert "c/3 cannot be written (No space left on device): the last good checkpoint 2 is intact" in full
    assert "ignoring" in said[0][1] and "ignoring" not in said[1][1]
    assert names(tmp_path / "c") == ["2", "4"]
