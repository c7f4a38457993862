"""Files of named weights: safetensors and torch.save's, whole or in shards that an index puts together."""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from score_sde.adapters import torch_pickle
from score_sde.adapters.foreign import printable, reading
from score_sde.errors import UsageError, require

KIND = "a file of weights"
INDEX = ".index.json"
ENDINGS = (".safetensors", ".bin")
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(\.\w+)")


def is_safetensors(start: bytes) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON object, and the object."""
    return start[8:9] == b"{" and start[5:8] == bytes(3)


def names(stem: str) -> list[str]:
    """The names that weights of this stem may have, those first that are preferred."""
    return [f"{stem}{ending}{index}" for ending in ENDINGS for index in ("", INDEX)]


def load(path: pathlib.Path) -> dict[Any, Any]:
    """What a file of weights holds, or all shards of an index; UsageError where it is damaged or a part alone."""
    if path.name.endswith(INDEX):
        return _joined(path)
    if found := SHARD.fullmatch(path.name):
        index = path.with_name(f"{found[1]}{found[2]}{INDEX}")
        raise UsageError(f"{path} is one of several shards: name {index} instead, or the directory with both in it")
    return torch_pickle.load(path) if _is_torch(path) else _load_safetensors(path)


def load_folder(folder: pathlib.Path, *stems: str) -> tuple[dict[Any, Any], pathlib.Path]:
    """The weights of a directory, and the file that they stand in; UsageError where there are none, or two sets."""
    there = [folder / name for stem in stems for name in names(stem) if (folder / name).is_file()]
    shards = [p.name for p in folder.iterdir() if SHARD.fullmatch(p.name)]
    remedy = f"download the file ending in {INDEX} too" if shards else "download one of them"
    wanted = " or ".join(f"{stem}{ending}" for stem in stems for ending in ENDINGS)
    require(there, f"{folder} has no {wanted}: {remedy}")
    state = load(there[0])
    for index in (path for path in there[1:] if path.name == f"{there[0].name}{INDEX}"):
        _compare(state, there[0], index)
    return state, there[0]


def save(path: pathlib.Path, state: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file, of arrays that are contiguous."""
    safetensors.numpy.save_file(dict(state), path, metadata={"format": "pt"})


def _is_torch(path: pathlib.Path) -> bool:
    """By its first bytes; what begins as neither kind goes by its name."""
    with path.open("rb") as file:
        start = file.read(16)
    return start.startswith(torch_pickle.STARTS) or (not is_safetensors(start) and path.suffix != ENDINGS[0])


def _load_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    with reading(path, KIND), safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def _joined(index: pathlib.Path) -> dict[str, Any]:
    """All weights of an index."""
    places, state = _places(index), {}
    for file in sorted(set(places.values())):
        part = _shard(index, file)
        for name in (name for name, place in places.items() if place == file):
            require(
                name in part,
                f"{index} says that {printable(name)} is in {file}, which has it not: download both again",
            )
            state[name] = part[name]
    return state


def _places(index: pathlib.Path) -> dict[str, str]:
    """{weight: file}, of files beside the index alone."""
    with reading(index, "an index of weights"):
        places = json.loads(index.read_text())["weight_map"]
        for file in places.values():
            if pathlib.PurePath(file).name != file:
                raise ValueError(f"{file!r} is no name of a file beside it")
        return places


def _shard(index: pathlib.Path, file: str) -> dict[str, Any]:
    path = index.with_name(file)
    require(path.is_file(), f"{index.parent} lacks {printable(file)}, which {index.name} names: download it too")
    return torch_pickle.load(path) if _is_torch(path) else _load_safetensors(path)


def _compare(state: dict[str, Any], whole: pathlib.Path, index: pathlib.Path) -> None:
    """UsageError where an index beside a whole file is of other weights."""
    places = _places(index)
    why = next((f"{printable(str(name))} is in one alone" for name in sorted(state.keys() ^ places.keys())), "")
    for file in sorted(set(places.values())) if not why else ():
        if index.with_name(file).is_file():
            part = _shard(index, file)
            differing = (n for n in part if n in state and not np.array_equal(part[n], state[n]))
            why = why or next((f"{printable(n)} has other values in {file}" for n in differing), "")
    require(
        not why,
        f"{whole.parent} has both {whole.name} and {index.name}, which contradict one another ({why}): move away the"
        " one that is not this model's",
    )
