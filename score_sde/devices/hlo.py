"""What an optimised program says of itself: the compiler's cycles, collectives, and how many operations it starts.

A loop's body counts as often as its trips, a branch as its dearest one; a trip count that is not known counts as one.
Trips that the compiler does not state are read off a condition that compares with a constant, as jax's loops count
from 0 by 1.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
NOTHING = (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
)
"""Operations that start nothing of their own."""

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_OPERATION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*?)\s([a-z][\w\-]*)\(")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_BELOW = re.compile(r"compare\(%?[\w.\-]+, %?([\w.\-]+)\), direction=LT")
_CONSTANT = re.compile(r"\s+%?([\w.\-]+) = s32\[\]\S* constant\((\d+)\)")
_CALLED = re.compile(r"(?:body|to_apply|calls)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{(.*?)\}")
_ARRAY = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")


class Collective(NamedTuple):
    """How often one kind runs, and the bytes of its results."""

    runs: int = 0
    bytes: int = 0


class Costs(NamedTuple):
    """cycles: the compiler's estimate, 0 where it makes none. operations: started, one after the other, by kind.

    unknown_loops: whose trips are not known.
    """

    cycles: int
    operations: Counter
    collectives: dict[str, Collective]
    unknown_loops: int = 0

    @property
    def kernels(self) -> int:
        """All operations that are started."""
        return sum(self.operations.values())


class _Operation(NamedTuple):
    kind: str
    shape: str
    line: str


def costs(text: str) -> Costs:
    """Of a compiled program's text (`Compiled.as_text`)."""
    computations, entry = _read(text)
    known: dict[str, Costs] = {}

    def of(name: str) -> Costs:
        if name not in known:
            known[name] = _sum(_costs(operation, of, trips) for operation in computations.get(name, ()))
        return known[name]

    def trips(loop: str) -> int | None:
        if said := _TRIPS.search(loop):
            return int(said[1])
        condition = _CONDITION.search(loop)
        return _bound(computations.get(condition[1], ())) if condition else None

    return of(entry)


def _read(text: str) -> tuple[dict[str, list[_Operation]], str]:
    """The operations of every computation, and which one is the program."""
    found: dict[str, list[_Operation]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if heading := _COMPUTATION.match(line):
            current = found.setdefault(heading[2], [])
            entry = heading[2] if heading[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (operation := _OPERATION.match(line)):
            current.append(_Operation(operation[2], operation[1], line))
    return found, entry


def _bound(condition: Iterable[_Operation]) -> int | None:
    """The constant below which a loop's counter stays, None where the condition is another."""
    lines = [operation.line for operation in condition]
    constants = {found[1]: int(found[2]) for line in lines if (found := _CONSTANT.match(line))}
    bounds = [constants.get(found[1]) for line in lines if (found := _BELOW.search(line))]
    return bounds[0] if len(bounds) == 1 else None


def _costs(operation: _Operation, of: Callable[[str], Costs], trips: Callable[[str], int | None]) -> Costs:
    kind, _, line = operation
    if kind == "while":
        called = _CALLED.search(line)
        body, count = of(called[1]) if called else _sum(()), trips(line)
        return body._replace(unknown_loops=body.unknown_loops + 1) if count is None else _times(body, count)
    if kind == "conditional":
        branches = _BRANCHES.search(line)
        names = re.findall(r"[\w.\-]+", branches[1]) if branches else re.findall(r"_computation=%?([\w.\-]+)", line)
        return max(map(of, names), key=lambda c: (c.cycles, c.kernels), default=_sum(()))
    if kind == "call" or (kind == "async-start" and "calls=" in line):
        called = _CALLED.search(line)
        return of(called[1]) if called else _sum(())
    cycles = _CYCLES.search(line)
    name = kind.removesuffix("-start")
    collective = {name: Collective(1, _bytes(operation.shape))} if name in COLLECTIVES else {}
    started = Counter() if kind in NOTHING or kind.endswith("-done") else Counter({kind: 1})
    return Costs(int(cycles[1]) if cycles else 0, started, collective)


def _sum(parts: Iterable[Costs]) -> Costs:
    cycles, operations, unknown = 0, Counter(), 0
    collectives: dict[str, Collective] = {}
    for part in parts:
        cycles, unknown = cycles + part.cycles, unknown + part.unknown_loops
        operations.update(part.operations)
        for name, (runs, size) in part.collectives.items():
            before = collectives.get(name, Collective())
            collectives[name] = Collective(before.runs + runs, before.bytes + size)
    return Costs(cycles, operations, collectives, unknown)


def _times(body: Costs, trips: int) -> Costs:
    operations = Counter({kind: count * trips for kind, count in body.operations.items()})
    collectives = {name: Collective(c * trips, size * trips) for name, (c, size) in body.collectives.items()}
    return Costs(body.cycles * trips, operations, collectives, body.unknown_loops)


def _bytes(shape: str) -> int:
    """Of the arrays of a shape, as f32[64,64]{1,0} or a tuple of such."""
    total = 0
    for dtype, sizes in _ARRAY.findall(shape):
        bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype[:4]) or 8)
        total += math.prod(int(n) for n in sizes.split(",") if n) * bits // 8
    return total
