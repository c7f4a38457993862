"""Eight virtual CPU devices and strict rank promotion for every test."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64():
    """Double precision and strict dtype promotion, for oracles and orders of convergence."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield
