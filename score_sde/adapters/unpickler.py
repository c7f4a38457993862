"""A machine for pickles that makes plain containers, and of what they call only what it is told to know.

A pickle is a program for a stack machine, which may call any function that it names. This one runs the part of it that
torch.save needs, as pickletools decodes it; every other instruction is refused. It is safe with files made to do harm:
- A name stands for what `find` returns for it, and no object takes attributes from a file.
- Of classes it makes objects only of `Inert` and `Plain`, where `find` returns these, and without arguments.
- Tuples become lists, which nothing hashes: hashing deeply nested tuples exhausts Python's stack.
- The memo is a dict, and what calls may copy is bounded by an allowance, so that memory stays in proportion to the
  file.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

Find = Callable[[str], Any]
"""The full name of a class or function -> what stands for it."""
Refer = Callable[[list[Any]], Any]
"""A persistent identifier, of torch.save a storage -> what it refers to."""

LITERALS = {
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg and not opcode.stack_before and opcode.stack_after not in ([], [pickletools.anyobject])
}
"""Instructions that put the number, text or bytes on the stack that stand in them."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class Allowance:
    """The bytes that a file may take in memory: a few times its own, however often it names the same ones."""

    def __init__(self, size: int) -> None:
        self._left = 8 * size + 2**20

    def spend(self, size: int) -> None:
        """Take note of so many bytes; ValueError where they are too many."""
        self._left -= size
        if self._left < 0:
            raise ValueError("it would take many times its own size in memory")


class Unpickler:
    """One pickle: `run` makes the object it describes, ValueError or the like where it cannot."""

    def __init__(self, find: Find, refer: Refer, allowance: Allowance) -> None:
        self.find, self.refer, self.allowance = find, refer, allowance
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        """The object; the stream stands behind its pickle then."""
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in LITERALS:
                self.stack.append(argument)
            elif opcode.name in CONSTANTS:
                self.stack.append(CONSTANTS[opcode.name])
            elif opcode.name in INSTRUCTIONS:
                INSTRUCTIONS[opcode.name](self, argument)
            elif opcode.name != "STOP":
                raise ValueError(f"torch.save makes no use of the instruction {opcode.name}")
        return self.stack.pop()

    def take(self, count: int) -> list[Any]:
        """Take so many from the stack."""
        items = self.stack[-count:] if count > 0 else []
        del self.stack[len(self.stack) - len(items) :]
        return items

    def marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        return self.take(len(self.stack) - self.marks.pop())

    def call(self) -> None:
        """Call what was found under a name."""
        function, arguments = self.take(2)
        if not isinstance(arguments, list) or not callable(function):
            raise ValueError("it calls something that is no function")
        items = len(arguments) + sum(len(a) for a in arguments if isinstance(a, list))
        self.allowance.spend(8 * items + sum(len(a) for a in arguments if isinstance(a, str | bytes)))
        self.stack.append(function(*arguments))

    def make(self) -> None:
        """Make an object of a class: of modules, which have no arguments, of kinds of dict, and of nothing else."""
        kind, arguments = self.take(2)
        if kind not in (Inert, Plain) or not isinstance(arguments, list) or arguments:
            raise ValueError("torch.save makes no use of the instruction NEWOBJ")
        self.stack.append(kind())

    def build(self) -> None:
        """Offer a state to an object, which few take: PyTorch hangs the versions of modules on dicts."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Stateful):
            self.stack[-1].receive(state)


class Stateful:
    """What looks at the state that a pickle gives it."""

    __slots__ = ()

    def receive(self, state: Any) -> None:
        """ValueError where the state makes it something else than it stands for."""


class Inert(Stateful):
    """An object of a class that nobody here knows: it keeps its state, a dict, and does nothing."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}

    def receive(self, state: Any) -> None:
        """Keep it; ValueError where it is no dict."""
        if not isinstance(state, dict):
            raise ValueError("the state of an object is no dict")
        self.state = state


class Plain(dict[Any, Any]):
    """An object of a class that is a dict with more methods, of which nothing but the dict is kept."""

    def __init__(self) -> None:
        super().__init__()


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _memoize(machine: Unpickler, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


# The methods of list, dict and set are called by their classes, which refuse whatever else lies on the stack.
INSTRUCTIONS: dict[str, Callable[[Unpickler, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.marked(),
    "EMPTY_TUPLE": lambda m, _: m.stack.append([]),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "TUPLE": lambda m, _: m.stack.append(m.marked()),
    "LIST": lambda m, _: m.stack.append(m.marked()),
    "DICT": lambda m, _: m.stack.append(_pairs(m.marked())),
    "TUPLE1": lambda m, _: m.stack.append(m.take(1)),
    "TUPLE2": lambda m, _: m.stack.append(m.take(2)),
    "TUPLE3": lambda m, _: m.stack.append(m.take(3)),
    "APPEND": lambda m, _: (item := m.take(1)) and list.extend(m.stack[-1], item),
    "APPENDS": lambda m, _: (items := m.marked()) and list.extend(m.stack[-1], items),
    "ADDITEMS": lambda m, _: (items := m.marked()) and set.update(m.stack[-1], items),
    "SETITEM": lambda m, _: (pair := m.take(2)) and dict.update(m.stack[-1], _pairs(pair)),
    "SETITEMS": lambda m, _: (items := m.marked()) and dict.update(m.stack[-1], _pairs(items)),
    "PUT": _memoize,
    "BINPUT": _memoize,
    "LONG_BINPUT": _memoize,
    "MEMOIZE": _memoize,
    "GET": lambda m, index: m.stack.append(m.memo[index]),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "GLOBAL": lambda m, name: m.stack.append(m.find(name.replace(" ", ".", 1))),
    "STACK_GLOBAL": lambda m, _: m.stack.append(m.find(".".join([m.stack.pop(-2), m.stack.pop()]))),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.make(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(m.refer(m.stack.pop())),
}
