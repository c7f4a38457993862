"""The constants of a frozen TensorFlow graph, read without TensorFlow from the wire format of protocol buffers.

A message is fields one after another, each a tag (8 * number + wire type) and a value: an integer of seven bits a byte,
or so many bytes, which are a text, numbers side by side, or a message. The messages, by the numbers of their fields
(tensorflow/core/framework, graph.proto, node_def.proto, attr_value.proto, tensor.proto, tensor_shape.proto):

    GraphDef 1 nodes | NodeDef 1 name, 2 op, 5 attributes (1 key, 2 AttrValue) | AttrValue 8 tensor
    TensorProto 1 dtype, 2 shape, 4 raw content, 5 floats | TensorShapeProto 2 dimensions (1 size)

Nothing is believed: a length that a file states is compared with what is left of it, and arrays are views of its bytes.
"""

import math
import pathlib
from collections.abc import Collection, Iterator
from typing import TypeVar

import numpy as np

from score_sde.adapters.foreign import printable, reading

KIND = "a frozen TensorFlow graph"
LONGEST = 2**31
"""Bytes of a message: protocol buffers have no longer ones."""
FLOAT32 = 1
"""TensorFlow's number of the dtype."""
DIMENSIONS = 8
"""More than any constant here has."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types: how the value of a field is written."""
NONE = memoryview(b"")
"""What a field of bytes holds that is left out."""
Value = TypeVar("Value", int, memoryview)


def load(path: pathlib.Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The constants of these names that the graph has, float32, little-endian.

    Raises UsageError for a damaged file, and for a constant among them of another dtype.
    """
    with reading(path, KIND):
        if path.stat().st_size >= LONGEST:
            raise ValueError(f"it has {LONGEST} bytes or more")
        return constants(path.read_bytes(), names)


def constants(graph: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of a GraphDef, as views of its bytes; ValueError where it is none."""
    wanted, found = {name.encode(): name for name in names}, {}
    for node in _values(memoryview(graph), 1, memoryview):
        name = wanted.get(bytes(_last(node, 1, NONE)))
        if name is not None and _last(node, 2, NONE) == b"Const":
            if name in found:
                raise ValueError(f"it has two nodes called {name}")
            found[name] = _tensor(name, _constant(node))
    return found


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of every field: an integer, or the bytes that it takes; ValueError where they do not fit."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == BYTES:
            size, place = _varint(message, place)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is not in use")
        if size > len(message) - place:
            raise ValueError("it ends before its fields")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """(the unsigned integer of at most ten bytes that begins there, where it ends)."""
    value = 0
    for i, byte in enumerate(message[place : place + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, place + i + 1
    raise ValueError("a number in it does not end")


def _values(message: memoryview, number: int, kind: type[Value]) -> Iterator[Value]:
    """The values of a repeated field; ValueError where they are of another kind."""
    for found, value in fields(message):
        if found == number:
            if not isinstance(value, kind):
                raise ValueError(f"its field {number} is not of the kind that it has in a graph")
            yield value


def _last(message: memoryview, number: int, default: Value) -> Value:
    """The value of a field: of several the last counts, without one the default."""
    found = default
    for value in _values(message, number, type(default)):
        found = value
    return found


def _constant(node: memoryview) -> memoryview:
    """The tensor of a constant, which its attribute `value` is."""
    entries = (entry for entry in _values(node, 5, memoryview) if _last(entry, 1, NONE) == b"value")
    return _last(_last(next(entries, NONE), 2, NONE), 8, NONE)


def _tensor(name: str, tensor: memoryview) -> np.ndarray:
    """A TensorProto as an array; one number alone fills its shape, without taking memory for it."""
    if (dtype := _last(tensor, 1, 0)) != FLOAT32:
        raise ValueError(f"its {printable(name)} has TensorFlow's dtype {dtype}, not {FLOAT32}, which is float32")
    shape, values = _shape(_last(tensor, 2, NONE)), np.frombuffer(_content(tensor), "<f4")
    if values.size == 1:
        return np.broadcast_to(values[0], shape)
    if values.size != math.prod(shape):
        raise ValueError(f"its {printable(name)} has {values.size} numbers for a shape of {shape}")
    return values.reshape(shape)


def _shape(shape: memoryview) -> tuple[int, ...]:
    sizes: list[int] = []
    for dimension in _values(shape, 2, memoryview):
        sizes.append(_last(dimension, 1, 0))
        if len(sizes) > DIMENSIONS or sizes[-1] >= 2**63:  # -1, not known, is written as 2**64 - 1
            raise ValueError(f"a constant in it has more than {DIMENSIONS} dimensions, or one of unknown size")
    return tuple(sizes)


def _content(tensor: memoryview) -> memoryview | bytearray:
    """The numbers: raw, or else all that stand in the field for floats, together or one by one."""
    if raw := _last(tensor, 4, NONE):
        return raw
    floats = bytearray()
    for part in _values(tensor, 5, memoryview):
        floats += part
    return floats
