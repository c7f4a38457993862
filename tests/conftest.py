"""Eight virtual CPU devices, strict rank promotion, hasty compilation; no program is compiled twice in one session."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
# Test workers inherit the folder from the process that starts them.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("SCORE_SDE_TEST_CACHE") or tempfile.mkdtemp()
os.environ["SCORE_SDE_TEST_CACHE"] = os.environ["JAX_COMPILATION_CACHE_DIR"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import jax
import pytest
from jax._src import compiler

from tests.processes import QUICK

gc.set_threshold(100_000, 20, 20)  # of millions of objects of traces most live on
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")  # what tests compute themselves, on accelerators


SLOWEST = (
    "test_loop.py",
    "test_distributed.py",
    "test_importing.py",
    "test_step.py",
    "test_experiment.py",
    "test_benchmarks.py",
    "test_remat.py",
    "test_solvers.py",
    "test_ode.py",
    "test_config.py",
    "test_main.py",
    "test_notebook.py",
    "test_image_likelihood.py",
    "test_report.py",
)
"""Files that come first, in this order: the last one keeps all workers but one idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["SCORE_SDE_TEST_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def quick_compilation() -> Iterator[None]:
    """Programs are compiled four times faster, since they run in milliseconds; not by SCORE_SDE_TEST_OPTIMISED=1."""
    if os.environ.get("SCORE_SDE_TEST_OPTIMISED"):
        yield
        return
    options = compiler.get_compile_options

    def quick(*args: Any, env_options_overrides: dict | None = None, **more: Any) -> Any:
        hasty = QUICK if jax.config.read("jax_disable_most_optimizations") else {}
        return options(*args, env_options_overrides=hasty | (env_options_overrides or {}), **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", quick)
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def optimised(quick_compilation: None) -> Iterator[None]:
    """Programs compiled as users' are, where their memory, their instructions or their time is the point."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def light_network():
    """A shallow network in the tiny experiment, for tests of what is around it."""
    from score_sde.experiment import objects
    from tests.light import NETWORKS

    with pytest.MonkeyPatch.context() as patch:
        for name, network in NETWORKS.items():
            patch.setitem(objects.NETWORKS, name, network)
        yield


@pytest.fixture
def float64():
    """Double precision and strict dtype promotion, for oracles and orders of convergence."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield
