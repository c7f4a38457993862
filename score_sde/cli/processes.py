"""What the command line says of several processes, and how they end alike. Free of jax until they meet."""

import os
import pathlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from score_sde.config import Config, flatten
from score_sde.devices.meeting import Hello, excuse, split
from score_sde.errors import require

FLAGS = ("coordinator", "num_processes", "process_id")
ALONE = ("import", "export")
"""Modes of one process."""
OWN_FIELDS = ("data.path", "data.cache", "data.cache_limit", "data.workers")
"""Those in which the processes of a run may differ."""

Processes = tuple[str | None, int | None, int | None]
"""Coordinator, number of processes and index of this one, None each where the cluster tells."""


def asked(given: dict[str, Any], mode: str) -> Processes | None:
    """What start() is to be told of the processes, None for a single one; UsageError for half of an answer."""
    address, count, index = (given[name] for name in FLAGS)
    said = [f"--{name}={given[name]}" for name in FLAGS if given[name] is not None]
    if not said:
        found = cluster() if given["distributed"] is None else given["distributed"]
        return (None, None, None) if found and mode not in ALONE else None
    require(
        len(said) == 3 and given["distributed"] is not False,
        f"{' '.join(said)} alone do not name a run of several processes: give --coordinator host:port, --num_processes"
        " and --process_id together, or none of them",
    )
    require(mode not in ALONE, f"--coordinator={address} does not go with --mode={mode}, which one process does")
    split(address)
    require(count >= 1, f"--num_processes={count} must be at least 1")
    require(0 <= index < count, f"--process_id={index} must lie between 0 and --num_processes - 1 = {count - 1}")
    return address, count, index


def cluster(environment: Mapping[str, str] = os.environ) -> str | None:
    """The cluster that started several processes of which this is one, None where nothing tells of it."""
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return "Slurm"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in environment:
        return "TPU pod"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    return None


def agree(config: Config, workdir: pathlib.Path, **said: Any) -> None:
    """UsageError in all processes where they would not be one run; said: the flags."""
    import score_sde
    from score_sde.devices import agreement
    from score_sde.storage.workdir import versions

    fields = {n: v for n, v in flatten(config).items() if n not in OWN_FIELDS}
    facts = {**{f"--{name}": value for name, value in said.items()}, **fields, **agreement.settings()}
    facts |= {f"the version of {name}": version for name, version in versions().items()}
    facts |= {"score_sde's own files": agreement.sources(pathlib.Path(score_sde.__file__).parent)}
    agreement.agree(facts, "give all the same flags, config, environment and versions")
    agreement.agree(agreement.devices(), "give all equally many devices of one kind")
    agreement.agree_on_folder(workdir.expanduser(), "--workdir")


def leave(processes: Processes, code: int, why: str) -> None:
    """End one process of several after a failure of its own: at once, as an orderly end would wait for the others."""
    address, count, index = processes
    with suppress(KeyboardInterrupt):
        if address and count and index is not None and code != 130:
            excuse(address, Hello(index, count, why))
    from score_sde.devices.distributed import end_now, farewell

    farewell(why)
    end_now(code)
