"""TensorFlow's frozen graphs without TensorFlow: constants by name, written here by hand; no length is believed."""

import pathlib
import random
import resource
import struct
from collections.abc import Sequence

import numpy as np
import pytest

from score_sde.adapters.frozen_graph import constants, fields, load
from score_sde.errors import UsageError

DRAW = np.random.default_rng(0)
WEIGHT = DRAW.standard_normal((3, 2, 4, 5), np.float32)


def varint(n: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have the eighth set."""
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def integer(number: int, value: int) -> bytes:
    """A field that is an integer, negative ones as 64 bits."""
    return varint(number << 3) + varint(value % 2**64)


def content(number: int, value: bytes) -> bytes:
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def shape(sizes: Sequence[int]) -> bytes:
    return content(2, b"".join(content(2, integer(1, n)) for n in sizes))


def raw(value: np.ndarray) -> bytes:
    """A TensorProto with its numbers as raw bytes."""
    return integer(1, 1) + shape(value.shape) + content(4, value.tobytes())


def node(name: str, tensor: bytes, op: bytes = b"Const") -> bytes:
    """A field of a graph: one node, of attributes `dtype`, a type, and `value`, the tensor."""
    dtype = content(5, content(1, b"dtype") + content(2, integer(6, 1)))
    value = content(5, content(1, b"value") + content(2, content(8, tensor)))
    return content(1, content(1, name.encode()) + content(2, op) + content(3, b"/device:CPU:0") + dtype + value)


def graph(constants: dict[str, np.ndarray]) -> bytes:
    """A graph of these constants between other nodes, and the versions at its end."""
    nodes = [node(name, raw(value)) for name, value in constants.items()]
    other = content(1, content(1, b"pool") + content(2, b"MaxPool") + content(3, b"conv"))
    return other + other.join(nodes) + content(4, integer(1, 22))


def test_constants_by_name(tmp_path: pathlib.Path) -> None:
    """Those asked for that are there, bit for bit."""
    file = tmp_path / "graph.pb"
    stored = {"conv/weight": WEIGHT, "scalar": np.float32(2.5), "empty": np.ones((0, 3), np.float32)}
    file.write_bytes(graph({**stored, "other": WEIGHT}))
    found = load(file, [*stored, "absent"])
    assert found.keys() == stored.keys()
    for name, value in stored.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


@pytest.mark.parametrize("packed", [True, False])
def test_floats_in_their_own_field(packed: bool) -> None:
    """Side by side, in two portions, or each as a field of four bytes."""
    parts = [WEIGHT.tobytes()[:80], WEIGHT.tobytes()[80:]] if packed else [struct.pack("<f", x) for x in WEIGHT.ravel()]
    floats = b"".join(content(5, part) if packed else varint(5 << 3 | 5) + part for part in parts)
    found = constants(node("a", integer(1, 1) + shape(WEIGHT.shape) + floats), ["a"])
    np.testing.assert_array_equal(found["a"], WEIGHT, strict=True)


def test_one_number_fills_a_shape() -> None:
    one = content(5, struct.pack("<f", 0.1))
    found = constants(node("a", integer(1, 1) + shape((2, 3)) + one), ["a"])
    np.testing.assert_array_equal(found["a"], np.full((2, 3), 0.1, np.float32), strict=True)
    enormous = constants(node("a", integer(1, 1) + shape((2**28, 2**28)) + one), ["a"])["a"]
    assert enormous.strides == (0, 0)


def test_nodes_that_are_no_constants() -> None:
    assert constants(node("a", raw(WEIGHT), b"Variable") + node("a", raw(WEIGHT)), ["a"]).keys() == {"a"}
    assert constants(b"", ["a"]) == {}


F32, FOUR = integer(1, 1), content(5, bytes(16))
DAMAGED = {
    "another dtype": (node("a", integer(1, 2) + shape((2,)) + content(4, bytes(16))), "its a has TensorFlow's dtype 2"),
    "no dtype": (node("a", shape((4,)) + FOUR), "dtype 0, not 1, which is float32"),
    "no tensor": (content(1, content(1, b"a") + content(2, b"Const")), "dtype 0"),
    "too few numbers": (node("a", F32 + shape((5,)) + FOUR), r"its a has 4 numbers for a shape of \(5,\)"),
    "too many numbers": (node("a", F32 + shape((3,)) + FOUR), r"its a has 4 numbers for a shape of \(3,\)"),
    "no numbers": (node("a", F32 + shape((3,))), "its a has 0 numbers"),
    "an unknown size": (node("a", F32 + shape((-1,)) + FOUR), "unknown size"),
    "sizes that wrap around": (node("a", F32 + shape((2**62, 4, 4)) + content(5, b"")), "its a has 0 numbers"),
    "sizes beyond all memory": (node("a", F32 + shape((2**62,) * 3) + content(5, bytes(4))), "ValueError"),
    "many dimensions": (node("a", F32 + shape((1,) * 9) + FOUR), "more than 8 dimensions"),
    "part of a number": (node("a", F32 + shape((4,)) + content(4, bytes(15))), "buffer size"),
    "an integer for a name": (content(1, integer(1, 5) + content(2, b"Const")), "its field 1 is not of the kind"),
    "an integer for a node": (integer(1, 5), "its field 1 is not of the kind"),
    "bytes for a dtype": (node("a", content(1, b"a") + FOUR), "its field 1 is not of the kind"),
    "two of a name": (node("a", raw(WEIGHT)) * 2, "two nodes called a"),
    "a length beyond its end": (b"\x0a\xff\xff\xff\xff\x7fabc", "ends before its fields"),
    "the longest length": (b"\x0a" + varint(2**64 - 1), "ends before its fields"),
    "a number of eleven bytes": (b"\x08" + b"\xff" * 10 + b"\x01", "does not end"),
    "a number cut off": (b"\x08\xff", "does not end"),
    "a tag alone": (b"\x0a", "does not end"),
    "a group": (b"\x0b\x0c", "wire type 3 is not in use"),
    "four bytes cut off": (b"\x0d\x00\x00\x00", "ends before its fields"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str, tmp_path: pathlib.Path) -> None:
    file, (written, said) = tmp_path / "graph.pb", DAMAGED[name]
    file.write_bytes(written)
    with pytest.raises(UsageError, match=rf"graph.pb cannot be read as a frozen TensorFlow graph .*{said}"):
        load(file, ["a"])


def test_truncated_anywhere() -> None:
    """Between two nodes a shorter graph is one too."""
    nodes = [node("b", raw(WEIGHT)), node("a", raw(WEIGHT[:1]))]
    written = b"".join(nodes)
    for length in range(1, len(written)):
        if length != len(nodes[0]):
            with pytest.raises(ValueError, match=r"ends|end"):
                constants(written[:length], ["a", "b"])
    assert constants(nodes[0], ["a", "b"]).keys() == {"b"}


def test_flipped_bytes_raise_nothing_else() -> None:
    written, draw, refusals = bytearray(graph({"a": WEIGHT[:1, :1, :1]})), random.Random(0), 0
    for i in range(len(written)):
        for _ in range(8):
            kept, written[i] = written[i], draw.randrange(256)
            try:
                constants(bytes(written), ["a"])
            except ValueError:
                refusals += 1
            written[i] = kept
    assert refusals > 200


def test_many_small_fields_take_little_memory() -> None:
    """Floats one by one, and constants that nobody asked for: a few bytes each."""
    single = varint(5 << 3 | 5) + bytes(4)
    written = node("a", integer(1, 1) + shape((100_000,)) + single * 100_000) + node("b", b"") * 30_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert constants(written, ["a"])["a"].nbytes == 400_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # of 1024 bytes


def test_a_long_file(tmp_path: pathlib.Path) -> None:
    """Not read at all; this one takes no room on the disk."""
    file = tmp_path / "graph.pb"
    with file.open("wb") as written:
        written.truncate(2**31)
    with pytest.raises(UsageError, match="it has 2147483648 bytes or more"):
        load(file, ["a"])


def test_fields_of_every_wire_type() -> None:
    message = integer(1, 300) + b"\x11" + bytes(8) + content(3, b"abc") + b"\x25" + bytes(4) + integer(2**29 - 1, -1)
    found = [(n, v if isinstance(v, int) else bytes(v)) for n, v in fields(memoryview(message))]
    assert found == [(1, 300), (2, bytes(8)), (3, b"abc"), (4, bytes(4)), (2**29 - 1, 2**64 - 1)]
