"""What the processes of a run must have alike, compared before anything compiles: all end, and say what differs.

Different programs, or different numbers in one, would hang, abort or go on with wrong results.
"""

import hashlib
import json
import os
import pathlib
import platform
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from score_sde.devices.distributed import exchange, place, together
from score_sde.errors import UsageError

SETTINGS = (
    "jax_platforms", "jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl",
    "jax_threefry_partitionable", "jax_numpy_dtype_promotion", "jax_disable_jit", "jax_debug_nans",
)  # fmt: skip
"""Of jax, which the environment may set, and which decide a program or its numbers."""
NAMED, LONG = 5, 200
"""Differing facts that are named, and characters of a value that are compared as they stand."""
PATIENCE = 10.0
"""Seconds that a file written by one process may take to be seen by another."""


def agree(facts: Mapping[str, Any], remedy: str, partial: str = "\0") -> None:
    """UsageError, the same in all processes, that names those of the facts {name: JSON value} that are not alike.

    partial: how facts begin that not every process need have.
    """
    tables = exchange({name: _short(value) for name, value in facts.items()})
    if place().processes > 1 and (differing := differences(tables, partial)):
        more = f" and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
        raise UsageError(f"the processes differ in {', '.join(differing[:NAMED])}{more}: {remedy}")


def differences(tables: Sequence[Mapping[str, str]], partial: str = "\0") -> list[str]:
    """Of the processes' facts in their order, each that is not alike, with its values and who has them."""
    found = []
    for name in dict.fromkeys(name for table in tables for name in table):
        holders: dict[str, list[str]] = {}
        for process, table in enumerate(tables):
            if name not in table and name.startswith(partial):
                continue
            holders.setdefault(table.get(name, "missing"), []).append(str(process))
        if len(holders) > 1:
            values = (f"{value} in process {', '.join(who)}" for value, who in holders.items())
            found.append(f"{name} ({'; '.join(values)})")
    return found


def _short(value: Any) -> str:
    """A value as it is named and compared: of a long one the beginning, and a digest of the whole."""
    text = value if isinstance(value, str) and value else json.dumps(value)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return text if len(text) <= LONG else f"{text[: LONG // 2]}... ({len(text)} characters, SHA-256 {digest}...)"


def settings() -> dict[str, Any]:
    """Facts of jax's settings, known before there are devices."""
    return {name: jax.config.values[name] for name in SETTINGS if name in jax.config.values}


def sources(package: pathlib.Path) -> str:
    """A digest of a package's Python files, which tells two checkouts of one version apart."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def devices() -> dict[str, Any]:
    """Facts of this process's devices."""
    own = jax.local_devices()
    return {"the number of devices": len(own), "the kind of devices": own[0].device_kind}


def agree_on_folder(folder: pathlib.Path, name: str) -> None:
    """UsageError in all processes unless the folder, which need not exist, is one for all; nothing stays in it.

    name: what the user calls it.
    """
    if place().processes == 1:
        return
    folder = folder.absolute()
    above = next(p for p in (folder, *folder.parents) if p.is_dir())
    token = above / f".{secrets.token_hex(8)}"
    try:
        beneath, written = together(lambda: _written(token, folder) if place().process == 0 else None)
        alike = len(folder.parts) > len(beneath) and folder.parts[len(folder.parts) - len(beneath) :] == tuple(beneath)
        seen = alike and _appears((folder, *folder.parents)[len(beneath)] / written)
        told = exchange([seen, str(folder), platform.node()])
    finally:
        if place().process == 0:
            token.unlink(missing_ok=True)
    _, first, host = told[0]
    for process, (seen, theirs, other) in enumerate(told):
        if not seen:
            raise UsageError(
                f"{name} is {first} in process 0 (on {host}) and {theirs} in process {process} (on {other}), which are"
                " not one directory: name one of a file system that all of them share"
            )


def _written(token: pathlib.Path, folder: pathlib.Path) -> tuple[tuple[str, ...], str]:
    """Write the token and return which parts of the folder are still beneath its place, and its name."""
    try:
        token.touch()
    except OSError as error:
        raise UsageError(f"{token.parent} cannot be written ({error.strerror}): choose another directory") from None
    return folder.relative_to(token.parent).parts, token.name


def _appears(file: pathlib.Path) -> bool:
    """Whether the file is there, or comes within PATIENCE seconds."""
    until = time.monotonic() + PATIENCE
    while not (file.exists() or (file.parent.is_dir() and file.name in os.listdir(file.parent))):
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True
