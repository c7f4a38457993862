"""PyTorch's files without PyTorch: all they may hold, both formats; what could run a program is refused by name."""

import builtins
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from score_sde.adapters.torch_pickle import LEGACY, load
from score_sde.errors import UsageError
from tests.adapters.official import TORCH_FILE
from tests.adapters.pickles import archive, tensor
from tests.golden_files import GOLDEN
from tests.golden_files import load as golden

FOLDER = GOLDEN / "diffusers"


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.pth"])
def test_everything_plain(name: str) -> None:
    saved, tensors = load(FOLDER / name), golden("torch", "diffusers")
    assert saved["tensors"].keys() == tensors.keys()
    for key, expected in tensors.items():
        found = saved["tensors"][key]
        assert found.dtype.name == key.removeprefix("torch.") or not key.startswith("torch.")
        np.testing.assert_array_equal(found.astype(np.float64), expected)
    assert saved["tensors"]["bfloat16"].dtype.name == "bfloat16"
    plain = {"list": [1, 2.5, None, True, "text", b"bytes"], "tuple": [1, [2]], "set": {3}, "big": 2**70}
    assert saved["plain"] == plain
    assert saved["special"] == {"size": [4, 6], "dtype": "torch.float32", "numpy": 0.25, "integer": 7}
    assert type(saved["special"]["numpy"]) is np.float64
    assert list(saved["module"]) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def test_no_torch_is_imported() -> None:
    code = f"""
import sys, pathlib
sys.modules["torch"] = None  # importing it raises
from score_sde.adapters.torch_pickle import load
print(load(pathlib.Path({str(TORCH_FILE)!r}))["step"])
"""
    environment = {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr


class Calls:
    """Pickled, it is a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def programs(marker: pathlib.Path) -> dict[str, bytes]:
    """Pickles that would make the file `marker`, or a class, and the names that they must be refused by."""
    command = f"touch {marker}"
    dump = lambda function, *arguments, protocol=2: pickle.dumps({"a": Calls(function, *arguments)}, protocol)
    touch = f"open({str(marker)!r}, 'w')"
    return {
        f"{os.system.__module__}.system": dump(os.system, command),
        f"{os.system.__module__}.system ": dump(os.system, command, protocol=4),
        "os.system": b"cos\nsystem\n(X%stR." % (len(command).to_bytes(4, "little") + command.encode()),
        "builtins.eval": dump(eval, touch),
        "builtins.exec": dump(exec, touch, protocol=5),
        "builtins.getattr": dump(builtins.getattr, "a", "upper"),
        "subprocess.Popen": dump(subprocess.Popen, ["touch", str(marker)], protocol=4),
        "torch.nn.modules.linear.Linear": b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81}b.",
        "torch.nn.Module": b"\x80\x02ctorch.nn\nModule\n)R.",
        "torch.load": b"\x80\x02ctorch\nload\n.",
        "torch.storage._load_from_bytes": b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
        "numpy.ndarray": b"\x80\x02cnumpy\nndarray\n.",
        "collections.OrderedDict.fromkeys": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        "builtins.set.__class__": b"\x80\x04\x8c\x08builtins\x8c\x0dset.__class__\x93.",
        "score_sde.adapters.torch_pickle._Unpickler": b"\x80\x02cscore_sde.adapters.torch_pickle\n_Unpickler\n.",
    }


@pytest.mark.parametrize("name", programs(pathlib.Path("/")))
@pytest.mark.parametrize("legacy", [False, True])
def test_programs_are_refused_by_name_and_not_run(name: str, legacy: bool, tmp_path: pathlib.Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / "model.pth"
    program = programs(marker)[name]
    if legacy:
        file.write_bytes(LEGACY + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + program)
    else:
        archive(file, program)
    with pytest.raises(UsageError, match=f"contains {name.strip()}, which is neither a tensor nor") as error:
        load(file)
    assert str(file) in str(error.value)
    assert not marker.exists()


def test_a_tensor_by_hand(tmp_path: pathlib.Path) -> None:
    content = np.arange(4, dtype=np.float32).tobytes()
    file = archive(tmp_path / "a.pth", tensor((2, 2), (1, 2)), **{"0": content})
    np.testing.assert_array_equal(load(file), [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    "program",
    [
        tensor((5,), (1,)),
        tensor((2, 2), (2, 2)),
        tensor((2,), (-1,), offset=1),
        tensor((-2,), (1,)),
        tensor((4,), (1,), offset=1),
        tensor((4,), (1,), offset=-1),
        tensor((1000,), (0,)),
        tensor((2**30, 2**30), (0, 0)),
        tensor((4,), (1, 1)),
        tensor((4,), (1,), count=5),
        tensor((4,), (1,), count=2**31 - 1, kind="Double"),
        b"\x80\x02K\x01Q.",
        b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR.",
        b"\x80\x02ctorch\nfloat32\n)R.",
        b"\x80\x02.",
        b"",
    ],
)
def test_tensors_that_leave_their_storage_and_other_nonsense(program: bytes, tmp_path: pathlib.Path) -> None:
    file = archive(tmp_path / "a.pth", program, **{"0": bytes(16)})
    with pytest.raises(UsageError, match="cannot be read as a PyTorch file"):
        load(file)


@pytest.mark.parametrize("original", [TORCH_FILE, FOLDER / "torch_zip.pth", FOLDER / "torch_legacy.pth"])
def test_truncated_anywhere(original: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content, file = original.read_bytes(), tmp_path / "a.pth"
    for length in [0, 1, 3, 20, *range(40, len(content), len(content) // 40), len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(UsageError, match=r"a.pth cannot be read as a PyTorch file .* copy or download it again"):
            load(file)


@pytest.mark.parametrize("original", ["torch_zip.pth", "torch_legacy.pth"])
def test_flipped_bytes_raise_nothing_else(original: str, tmp_path: pathlib.Path) -> None:
    content, file, refusals = bytearray((FOLDER / original).read_bytes()), tmp_path / "a.pth", 0
    for i in [*range(60), *range(60, len(content), 17)]:
        content[i] ^= 0x41
        file.write_bytes(content)
        content[i] ^= 0x41
        try:
            load(file)
        except UsageError:
            refusals += 1
    assert refusals > 60


@pytest.mark.parametrize("original", ["torch_zip.pth", "torch_legacy.pth"])
def test_something_behind_its_end(original: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "a.pth"
    for more in (b"a", bytes(100)):
        file.write_bytes((FOLDER / original).read_bytes() + more)
        with pytest.raises(UsageError, match="bytes follow its end"):
            load(file)


@pytest.mark.parametrize(
    "name",
    ["_utils _rebuild_tensor_v3", "_utils _rebuild_sparse_tensor", " ComplexFloatStorage", "storage UntypedStorage"],
)
def test_tensors_of_other_kinds(name: str, tmp_path: pathlib.Path) -> None:
    """Float8 among them: tensors, so the refusal does not say that they are none."""
    module, _, function = name.partition(" ")
    module = f"torch.{module}".rstrip(".")
    file = archive(tmp_path / "a.pth", f"\x80\x02c{module}\n{function}\n.".encode("latin1"))
    with pytest.raises(UsageError, match=f"contains {module}.{function}: a tensor .* convert it to float32"):
        load(file)


def test_a_flipped_number_in_a_tensor_is_noticed(tmp_path: pathlib.Path) -> None:
    file = pathlib.Path(shutil.copy(FOLDER / "torch_zip.pth", tmp_path))
    content = bytearray(file.read_bytes())
    content[content.index(np.arange(24, dtype=np.float32).tobytes()) + 6] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match="CRC"):
        load(file)


def test_another_zip_file(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    with pytest.raises(UsageError, match=r"is a zip archive, but not one of torch.save"):
        load(tmp_path / "a.npz")
