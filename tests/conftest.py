"""Eight virtual CPU devices and strict rank promotion for every test; no program is compiled twice in one session."""

import os
import tempfile

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

# Workers inherit the folder from the process that starts them.
CACHE = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.TemporaryDirectory(prefix="score-sde-tests-")
if CACHE is not None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64():
    """Double precision and strict dtype promotion, for oracles and orders of convergence."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield
