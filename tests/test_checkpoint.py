"""Checkpoints: exact, on any device, refused when absent."""

import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.checkpoint import Checkpoints
from score_sde.errors import UsageError

ROOT = pathlib.Path(__file__).parent.parent
LIKE = {"step": jax.ShapeDtypeStruct((), jnp.int32), "w": jax.ShapeDtypeStruct((3, 2), jnp.float32)}
STATE = {"step": jnp.int32(7), "w": jnp.arange(6.0).reshape(3, 2) / 7}
META = {"position": 2**40, "pending": [[0.1, 1e-45, 3.0]]}


def test_state_and_meta_come_back_bit_for_bit_and_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 7):
        checkpoints.save(step, STATE, META)
    checkpoints.save(7, STATE, META)  # again: nothing happens
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert again.latest_step() == 7
    state, meta = again.restore(LIKE)
    again.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "7"]
    assert meta == META
    for name, value in STATE.items():
        assert state[name].dtype == value.dtype
        np.testing.assert_array_equal(state[name], value)


def test_saved_on_one_device_restored_where_there_is_no_such_device(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, jax.device_put(STATE, jax.local_devices()[1]), META)
    checkpoints.close()
    code = f"""
import pathlib, jax, jax.numpy as jnp
from score_sde.checkpoint import Checkpoints
like = {{"step": jax.ShapeDtypeStruct((), jnp.int32), "w": jax.ShapeDtypeStruct((3, 2), jnp.float32)}}
state, _ = Checkpoints(pathlib.Path({str(tmp_path)!r})).restore(like)
print(jax.device_count(), int(state["step"]), float(state["w"].sum()))
"""
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    devices, step, total = done.stdout.split()
    assert (devices, step) == ("1", "7")
    np.testing.assert_allclose(float(total), 15 / 7, rtol=1e-6)


def test_restoring_from_nothing_is_a_clear_error(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(UsageError, match="no checkpoint"):
        checkpoints.restore(LIKE)
    checkpoints.close()
