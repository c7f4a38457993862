"""The operations of a compiled program that take the most time, from a trace by JAX's own profiler."""

import pathlib
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks.common import Row

CONTAINERS = ("while", "call", "conditional")
"""Operations that only contain others, which are counted by themselves."""


def largest_operations(call: Callable[[], Any], program: Any, count: int = 10) -> tuple[Any, list[Row]]:
    """The call's result, and the `count` operations of the compiled program on which it spent the most time.

    share: of the time of all operations, which is more than the call's own where several run at once. origin: of which
    pass, and the end of the path that JAX gives the operation.
    """
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            result = jax.block_until_ready(call())
        (trace,) = pathlib.Path(folder).rglob("*.xplane.pb")
        spent = _durations(jax.profiler.ProfileData.from_file(str(trace)))
    total = sum(sum(times) for times in spent.values())
    ranked = sorted(spent.items(), key=lambda item: -sum(item[1]))[:count]
    text = program.as_text()
    return result, [
        {
            "operation": name,
            "calls": len(times),
            "ms": sum(times) / 1e6,
            "share": sum(times) / total,
            "origin": _origin(name, text),
        }
        for name, times in ranked
    ]


def _durations(profile: Any) -> dict[str, list[float]]:
    """Nanoseconds of every run of every operation."""
    spent = defaultdict(list)
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name is not None and re.split(r"[.\d]", str(name))[0] not in CONTAINERS:
                    spent[str(name)].append(event.duration_ns)
    return dict(spent)


def _origin(name: str, text: str) -> str:
    """The pass and the last parts of an operation's path in the program's text, "" where it has none."""
    found = re.search(rf'%?{re.escape(name)} = [^\n]*op_name="([^"]*)"', text)
    if found is None:
        return ""
    path = found.group(1)
    which = "backward" if "transpose(" in path else "forward" if "jvp(" in path else "update"
    return f"{which} {'/'.join(path.split('/')[-3:])}"
