"""Files that were made to do harm: to read other memory, to exhaust it, to alter this program. All are refused soon."""

import copy
import pathlib
import pickle
import resource
import zipfile

import numpy as np
import pytest

from score_sde.adapters import torch_pickle
from score_sde.adapters.torch_pickle import load, load_script
from score_sde.errors import UsageError
from tests.adapters.pickles import archive, number, numbers, scalar, storage, tensor, text, view

DAMAGED = "cannot be read as a PyTorch file"


def test_a_tensor_is_no_storage(tmp_path: pathlib.Path) -> None:
    """Its last element, repeated by stride 0, would pass for a storage of as many."""
    inner = view(storage(1000), numbers([1000]), numbers([0]), number(999))
    program = b"\x80\x02" + view(inner, numbers([1000]), numbers([1])) + b"."
    with pytest.raises(UsageError, match="made of something that is no storage"):
        load(archive(tmp_path / "a.pth", program, **{"0": bytes(4000)}))


@pytest.mark.parametrize(
    ("sizes", "strides", "dtype"), [((2, 2, 2), (2**62,) * 3, "i8"), ((2, 2), (255, 1), "u1"), ((2,), (255,), "u1")]
)
def test_numbers_of_numpy_do_not_wrap_around(sizes: tuple, strides: tuple, dtype: str, tmp_path: pathlib.Path) -> None:
    size, stride = (b"(" + b"".join(scalar(n, dtype) for n in ns) + b"t" for ns in (sizes, strides))
    program = b"\x80\x02" + view(storage(), size, stride) + b"."
    with pytest.raises(UsageError, match="lies outside its storage"):
        load(archive(tmp_path / "a.pth", program, **{"0": bytes(16)}))


def test_numbers_of_numpy_are_numbers(tmp_path: pathlib.Path) -> None:
    size, stride = (b"(" + scalar(n, "i8") + b"t" for n in (2, 2))
    program = b"\x80\x02" + view(storage(), size, stride, scalar(1, "u1")) + b"."
    file = archive(tmp_path / "a.pth", program, **{"0": np.arange(4, dtype=np.float32).tobytes()})
    np.testing.assert_array_equal(load(file), [1, 3])


def many_views(count: int) -> bytes:
    views = b"".join(view(storage(2**16), numbers([2**16]), numbers([1])) for _ in range(count))
    return b"\x80\x02](" + views + b"e."


BOMBS = {
    "the memo's largest index": (b"\x80\x02Nr\xff\xff\xff\xff.", ""),
    "nested tuples, hashed": (b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.", "unhashable"),
    "nested sizes, hashed": (b"\x80\x02})" + b"ctorch\nSize\n)R\x85" * 20_000 + b"Ns.", "unhashable"),
    "nested tuples in a set": (b"\x80\x04\x8f()" + b"\x85" * 200_000 + b"\x90.", "unhashable"),
    "a nested dtype": (
        b"\x80\x02(" + text("storage") + b")" + b"\x85" * 200_000 + text("0") + text("cpu") + b"K\x01tQ.",
        "",
    ),
    "a storage for many tensors": (many_views(100), "many times its own size"),
    "one list for many": (
        b"\x80\x02](" + b"N" * 2**16 + b"eq\x000" + b"ctorch\nSize\nh\x00\x85R" * 1000 + b".",
        "many times",
    ),
    "one text for many": (
        b"\x80\x02"
        + text("a" * 2**16)
        + b"q\x000"
        + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000
        + b".",
        "many times",
    ),
    "an array's numbers one by one": (
        b"\x80\x02cbuiltins\nset\n" + view(storage(2**16), numbers([2**16]), numbers([1])) + b"\x85R.",
        "no list",
    ),
    "an array for arguments": (
        b"\x80\x02cbuiltins\nset\n" + view(storage(2**16), numbers([2**16]), numbers([1])) + b"R.",
        "no function",
    ),
    "bytes that are not there": (b"\x80\x05\x96" + (10**10).to_bytes(8, "little") + b".", "expected 10000000000 bytes"),
    "dimensions": (tensor((1,) * 65, (1,) * 65), "more than 64 dimensions"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_little_memory(name: str, tmp_path: pathlib.Path) -> None:
    program, said = BOMBS[name]
    file = archive(tmp_path / "a.pth", program, **{"0": bytes(2**18)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load(file)
    except UsageError as error:
        assert DAMAGED in str(error) and said in str(error)
    else:
        assert not said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # of 1024 bytes


def test_compressed_entries(tmp_path: pathlib.Path) -> None:
    """A gigabyte of a pickle is a megabyte when compressed."""
    file = archive(tmp_path / "a.pth", b"\x80\x02" + b"N0" * 10**6 + b"N.", zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match="its entries are compressed"):
        load(file)


def test_many_entries_of_the_same_bytes(tmp_path: pathlib.Path) -> None:
    """Two names of one place in the archive; newer versions of zipfile refuse it on their own."""
    file = tmp_path / "a.pth"
    with zipfile.ZipFile(file, "w") as zipped:
        keys = [str(i) for i in range(100)]
        views = b"".join(view(storage(4, key=key), numbers([4]), numbers([1])) for key in keys)
        zipped.writestr("archive/data.pkl", b"\x80\x02](" + views + b"e.")
        zipped.writestr("archive/data/0", bytes(2**18))
        for key in keys[1:]:
            entry = copy.copy(zipped.getinfo("archive/data/0"))
            entry.filename = f"archive/data/{key}"
            zipped.filelist.append(entry)
    with pytest.raises(UsageError, match=DAMAGED):
        load(file)


def test_a_long_pickle(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pickle, "LONGEST", 1000)
    with pytest.raises(UsageError, match=r"its pickle has 1003 bytes, more than 1000"):
        load(archive(tmp_path / "a.pth", b"\x80\x02" + b"N0" * 500 + b"."))


def test_nothing_here_can_be_altered(tmp_path: pathlib.Path) -> None:
    """State is dropped, whether for attributes of a function or, in a pair, for its slots."""
    for name in ("_rebuild_parameter", "_rebuild_tensor_v2"):
        for state in (
            b"}" + text("__name__") + text("evil") + b"s",
            b"N}" + text("__name__") + text("evil") + b"s\x86",
        ):
            found = load(
                archive(tmp_path / "a.pth", f"\x80\x02ctorch._utils\n{name}\n".encode("latin1") + state + b"b.")
            )
            assert found.__module__ == torch_pickle.__name__ and found.__name__ != "evil"


@pytest.mark.parametrize("instruction", ["NEWOBJ", "OBJ", "INST", "EXT1", "FROZENSET", "PERSID", "DUP"])
def test_other_instructions(instruction: str, tmp_path: pathlib.Path) -> None:
    codes = {"NEWOBJ": b"\x81", "OBJ": b"o", "INST": b"ios\nsystem\n", "EXT1": b"\x82\x01", "FROZENSET": b"\x91"}
    code = {**codes, "PERSID": b"Pa\n", "DUP": b"2"}[instruction]
    with pytest.raises(UsageError, match=f"no use of the instruction {instruction}"):
        load(archive(tmp_path / "a.pth", b"\x80\x02cbuiltins\nset\n)" + code + b"."))


def test_objects_of_every_protocol(tmp_path: pathlib.Path) -> None:
    value = {"a": [1, -(2**40), 2.5, None, True, b"bytes", "x" * 300, ()], 3: {"s"}, "long": list(range(3000)), "e": {}}
    expected = {**value, "a": [*value["a"][:-1], []]}
    for protocol in range(6):
        assert load(archive(tmp_path / "a.pth", pickle.dumps(value, protocol))) == expected


def test_escape_codes_do_not_reach_the_terminal(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"contains \\x1b\[31mevil\\x1b\[2J.x, which") as error:
        load(archive(tmp_path / "a.pth", b"\x80\x02c\x1b[31mevil\x1b[2J\nx\n."))
    assert str(error.value).isprintable()


MODULE = (
    b"\x80\x02c__torch__.some\nNet\nq\x00"
    + text("a")
    + b"q\x01"
    + view(storage(), numbers([4]), numbers([1]))
    + b"q\x02000"
)
"""A class of TorchScript's, a name and a tensor, remembered as 0, 1 and 2."""
MADE = b"h\x00)\x81}"
"""A module and its state, still empty."""


def script(path: pathlib.Path, program: bytes) -> pathlib.Path:
    return archive(path, MODULE + program, **{"0": np.arange(4, dtype=np.float32).tobytes()})


def test_modules_of_a_script(tmp_path: pathlib.Path) -> None:
    """One inside another; what is neither a tensor nor a module is left out."""
    integers = text("stride") + b"ctorch.jit._pickle\nbuild_intlist\n]" + number(2) + b"a\x85R"
    inner = text("b.c") + MADE + b"(h\x01h\x02" + integers + b"K\x07Nub"
    found = load_script(script(tmp_path / "a.pt", MADE + b"(h\x01h\x02" + inner + text("training") + b"\x89ub."))
    assert list(found) == ["a", "b.c.a"]
    for value in found.values():
        np.testing.assert_array_equal(value, np.arange(4))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"cbuiltins\nset\n)\x81.", "no use of the instruction NEWOBJ"),
        (b"ctorch\nSize\n)\x81.", "no use of the instruction NEWOBJ"),
        (b"h\x00h\x02\x81.", "no use of the instruction NEWOBJ"),
        (b"h\x00K\x01\x85\x81.", "no use of the instruction NEWOBJ"),
        (MADE + b"N\x86\x81.", "no use of the instruction NEWOBJ"),
        (b"h\x00)}\x92.", "no use of the instruction NEWOBJ_EX"),
        (b"h\x00)\x81K\x01b.", "the state of an object is no dict"),
        (b"h\x00)\x81N}\x86b.", "the state of an object is no dict"),
        (b"\x81.", "cannot be read as a TorchScript archive"),
        (b"cos\nsystem\n)\x81.", "contains os.system, which is neither"),
        (b"c__torch__\nx\n0c__torch__x\ny\n.", "contains __torch__x.y, which is neither"),
        (b"ctorch.jit._pickle\nrestore_type_tag\n.", "contains torch.jit._pickle.restore_type_tag, which is neither"),
    ],
)
def test_scripts_make_modules_and_nothing_else(program: bytes, said: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=said):
        load_script(script(tmp_path / "a.pt", program))


def test_modules_are_for_scripts_alone(tmp_path: pathlib.Path) -> None:
    for program, name in ((MADE, "__torch__.some.Net"), (b"ctorch.jit._pickle\nbuild_intlist\n", "torch.jit._pickle")):
        start = MODULE if program == MADE else b"\x80\x02"
        with pytest.raises(UsageError, match=f"contains {name}.*, which is neither a tensor nor"):
            load(archive(tmp_path / "a.pth", start + program + b".", **{"0": bytes(16)}))


SHARED = b"".join(b"h%c0h%c)\x81}(X\x01\0\0\0bh%cX\x01\0\0\0ch%cubq%c" % (0, 0, i, i, i + 1) for i in range(3, 60))
MODULES = {
    "nested modules": (MADE + b"h\x01" + (MADE + b"h\x01") * 200_000 + b"h\x02" + b"sb" * 200_001 + b".", "many times"),
    "a long name for each of many": (
        (MADE + b"(h\x01h\x02" + text("b")) * 10_000 + b"N" + b"ub" * 10_000 + b".",
        "many times",
    ),
    "a module in itself": (MADE.replace(b"}", b"q\x03}") + text("b") + b"h\x03sb.", ""),
    "modules that share theirs, 2^57 ways": (MADE + b"h\x01h\x02sbq\x03" + SHARED + b".", ""),
    "a module for its name": (MADE + b"h\x00)\x81h\x02sb.", ""),
    "nested modules for names": (MADE + (b"h\x00)\x81}") * 100_000 + b"h\x00)\x81" + b"Nsb" * 100_000 + b"Nsb.", ""),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_take_little_memory(name: str, tmp_path: pathlib.Path) -> None:
    program, said = MODULES[name]
    file = script(tmp_path / "a.pt", program)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_script(file)
    except UsageError as error:
        assert said and said in str(error)
    else:
        assert not said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # of 1024 bytes
