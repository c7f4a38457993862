"""Array files as data: one .npy array, or an .npz file's arrays by name."""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from score_sde.data.account import Account
from score_sde.data.captions import CAPTION
from score_sde.data.npz import Header, headers, reason
from score_sde.data.recognise import kind
from score_sde.data.sources import Dataset
from score_sde.data.splits import TRAIN, Split, role, split
from score_sde.errors import UsageError, require
from score_sde.names import EMBEDDINGS, MASK

DTYPES = ("uint8", "float32", "int32")
PICTURES = ("uint16", "bool")
"""Further ones, of pictures of another range."""
IMAGES = "images"
"""Another name of the array to train on, where none says so."""

NAMES = {"label": ("label", "labels", "y", "targets"), CAPTION: (CAPTION, "captions")}
"""Other names of what conditions."""


def array_file(path: str, conditions: tuple[str, ...] = ()) -> Dataset:
    """The data of an .npy file, or of an .npz file's arrays: by their names (splits.py) to train on and held out.

    Arrays are uint8, float32 or int32 [N, ...], or uint16 or bool pictures; .npy files are memory-mapped. What no name
    says is for training is in `images`. A condition `c` of an .npz file is its array `c`, one entry for each example,
    and `test_c` (`val_c`, ...) for the held-out ones; labels are `labels` or `y` too, before or behind the part's name.
    Captions are texts; `embeddings` may have a `mask` beside them.
    Raises UsageError for a missing or unreadable file, an empty array, another dtype, and a condition that is missing.
    """
    file = pathlib.Path(path).expanduser()
    require(
        file.is_file(), f"data.path={path} is not a file: name an .npy or .npz file of uint8 images or other arrays"
    )
    try:
        return _read(path, file, conditions)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if (found := kind(file)) and "numpy" not in found.what:
            raise UsageError(f"data.path={path} is {found.what}: {found.way}") from None
        if isinstance(error, UsageError):  # a ValueError, which says itself what to do
            raise
        raise UsageError(
            f"data.path={path} cannot be read ({reason(error)}): write it with np.save or np.savez"
        ) from None


def _read(path: str, file: pathlib.Path, conditions: tuple[str, ...]) -> Dataset:
    known = headers(file)
    conditions += (MASK,) if EMBEDDINGS in conditions and MASK in known else ()
    found, passed = _chosen(path, known, conditions)
    named = {c: _name(path, known, c, found.train, "") for c in conditions}
    held = {c: _name(path, known, c, found.held_out, "test_") for c in conditions if found.held_out}
    for name in {found.train, found.held_out, *named.values(), *held.values()} & {*known}:
        require(not known[name].dtype.hasobject, _no_numbers(f"{path}:{name}".removesuffix(":")))
    loaded = {"": np.load(file, mmap_mode="r")} if "" in known else np.load(file)
    train = _checked(loaded[found.train], f"{path}:{found.train}".removesuffix(":"))
    test = np.zeros((0, *train.shape[1:]), train.dtype)
    if found.held_out:
        test = _checked(loaded[found.held_out], f"{path}:{found.held_out}", like=train)
    own, other = (
        {c: _condition(f"{path}:{name}", loaded[name], x, c) for c, name in names.items()}
        for names, x in ((named, train), (held if len(test) else {}, test))
    )
    return Dataset(train, test, own, other, account=Account(found.held_out, passed))


def _chosen(path: str, known: Mapping[str, Header], conditions: tuple[str, ...]) -> tuple[Split, dict[str, int]]:
    """The names of the arrays to train on and held out ("": none), and the examples of arrays that are passed over."""
    if "" in known:
        return Split("", "", ()), {}
    taken = {prefix + c for c in conditions for prefix in ("", "test_")}
    sizes = {name: header.shape[0] for name, header in known.items() if header.shape and name not in taken}
    named = [name for name in sizes if role(name) == TRAIN] or [name for name in sizes if name == IMAGES]
    require(named, _nameless(path, known))
    found = split(sizes, f"data.path={path}", named[0]) or Split(named[0], "", ())
    alike = lambda name: len(known[name].shape) > 1 and known[name].shape[1:] == known[found.train].shape[1:]
    beside = [n for n in sizes if (role(n) or n == IMAGES or alike(n)) and n not in found[:2]]
    return found, {f"in {name}": sizes[name] for name in beside}


def _nameless(path: str, known: Mapping[str, Header]) -> str:
    largest = max(sorted(known), key=lambda name: np.prod(known[name].shape), default="pictures")
    renamed = f"{{('train' if k == {largest!r} else k): x for k, x in np.load({path!r}).items()}}"
    write = f"import numpy as np; np.savez('named.npz', **{renamed})"
    return (
        f"data.path={path} holds {sorted(known)}: name its image array `train` or `images`, as by `python -c"
        f' "{write}"`, then --config.data.path=named.npz'
    )


def _no_numbers(where: str) -> str:
    write = "np.save('images.npy', np.stack([*pictures]).astype('uint8'))"
    return f"{where} holds Python objects and no numbers: {write} in the program that wrote it"


def _name(path: str, known: Mapping[str, Header], condition: str, part: str, prefix: str) -> str:
    """The name of the array that conditions a part's examples: of training examples first the condition's own."""
    bare = NAMES.get(condition, (condition,))
    wanted = role(part) or TRAIN
    found = [] if prefix else [name for name in bare if name in known]
    for name in known:
        rests = [rest for b in bare for rest in (name.lower().removeprefix(b), name.lower().removesuffix(b))]
        found += [name for rest in rests if rest != name.lower() and role(rest) == wanted]
    spelled = " or ".join(prefix + name for name in bare[:2])
    require(
        found,
        f"data.condition asks for {condition!r} and data.path={path} has no array {spelled} beside {sorted(known)}: add"
        " it, or leave the condition out",
    )
    return found[0]


def _condition(where: str, found: np.ndarray, examples: np.ndarray, condition: str) -> np.ndarray:
    """What conditions, one entry for each example; labels as int32 [N], captions as texts [N]."""
    require(
        len(found.shape) > 0 and len(found) == len(examples),
        f"{where} has shape {found.shape}: give one entry to each of the {len(examples)} examples",
    )
    if condition == CAPTION:
        require(
            found.dtype.kind == "U" and found.ndim == 1,
            f"{where} has shape {found.shape} and dtype {found.dtype}: save captions as np.array of texts",
        )
        return found
    if condition != "label":
        allowed = DTYPES if condition != MASK else ("bool", *DTYPES)
        require(
            found.dtype.name in allowed and found.dtype.isnative,
            f"{where} has dtype {found.dtype}: save what conditions as {', '.join(allowed)}",
        )
        return found
    within = found.dtype.kind in "iu" and 0 <= found.min(initial=0) <= found.max(initial=0) < 2**31
    require(
        found.size == len(examples) and within,
        f"{where} has shape {found.shape} and dtype {found.dtype}: give one integer of 0 or more to each of the"
        f" {len(examples)} images (of one-hot rows, their argmax(1)), or leave it out",
    )
    return found.reshape(-1).astype(np.int32)


def _checked(x: np.ndarray, where: str, like: np.ndarray | None = None) -> np.ndarray:
    order = f"of another byte order: save it by .astype('{x.dtype.name}')"
    require(x.dtype.isnative, f"{where} has dtype {x.dtype}, {order}")
    require(
        x.dtype.name in (*DTYPES, *PICTURES),
        f"{where} has dtype {x.dtype}: save pictures as uint8 or uint16, real numbers as float32, tokens as int32",
    )
    require(x.ndim > 1, f"{where} has rank {x.ndim} (shape {x.shape}): the first axis counts examples, the rest is one")
    require(like is not None or x.size > 0, f"{where} holds no example (shape {x.shape}): give it at least one")
    if like is not None:
        require(
            x.shape[1:] == like.shape[1:] and x.dtype == like.dtype,
            f"{where} has shape {x.shape} and dtype {x.dtype} but the training data {like.shape} and {like.dtype}: make"
            " both alike",
        )
    return x
