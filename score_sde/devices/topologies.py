"""Devices that are not there, as compilers know them: TPU slices by libtpu, GPUs by what XLA is told of a card."""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import jax

from score_sde.devices.chips import Chip, chip
from score_sde.errors import UsageError, require

ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
"""Without these libtpu asks a metadata server that is not there, and logs that it does not answer."""


def devices(topology: str) -> Sequence[Any]:
    """Those of v5e:4x4, h100 or cpu, to be compiled for; UsageError for what is unknown, or cannot be compiled here."""
    found = chip(topology)
    if found.platform == "cpu":
        return jax.devices("cpu")
    from jax.experimental import topologies

    if found.platform == "tpu":
        require(
            importlib.util.find_spec("libtpu") is not None,
            f"parallel.topology={topology!r} takes the TPU's compiler, which is not installed: pip install '.[tpu]'",
        )
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        options: dict[str, Any] = {"topology_name": topology, "platform": "tpu", **found.options}
    else:
        require(
            importlib.util.find_spec("jax_cuda12_plugin") or importlib.util.find_spec("jax_cuda13_plugin"),
            f"parallel.topology={topology!r} takes XLA's compiler for GPUs, which is not installed: pip install"
            " '.[cuda12]'",
        )
        options = {"platform": "cuda", "target_config": card(found), "topology": "1x1x1"}
    try:
        return topologies.get_topology_desc(**options).devices
    except Exception as error:  # whatever a plugin says of a slice that there is not
        why = str(error).split("\n")[0]
        require(
            "lockfile" not in why,
            f"parallel.topology={topology!r} takes the TPU's compiler, which another process of this machine has, or"
            " had when it was killed: wait until it ends or, where there is no TPU, set ALLOW_MULTIPLE_LIBTPU_LOAD=1",
        )
        raise UsageError(f"parallel.topology={topology!r} is none that its compiler knows ({why})") from error


def card(gpu: Chip) -> str:
    """XLA's description of a GPU, a text of protocol buffers."""
    major, _, minor = (gpu.capability or "").partition(".")
    facts = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 * 2**10,
        "threads_per_core_limit": 2048,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "memory_bandwidth": int(gpu.bandwidth),
        "clock_rate_ghz": gpu.clock / 1e9,
        "device_memory_size": int(gpu.memory),
        "shared_memory_per_block_optin": gpu.card["shared_memory_per_core"] - 2**10,
        "registers_per_core_limit": 2**16,
        "registers_per_block_limit": 2**16,
        **gpu.card,
    }
    info = " ".join(f"{name}: {value}" for name, value in facts.items())
    return (
        f"gpu_device_info {{ {info} cuda_compute_capability {{ major: {major} minor: {minor or 0} }} }}"
        ' platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } runtime_version { major: 12 minor: 8 }'
        f' device_description_str: "{gpu.kind}"'
    )
