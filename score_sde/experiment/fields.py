"""Fields that a network is shown beside x: those of the data, and those that `sampling.condition` names."""

import functools
import pathlib

import numpy as np

from score_sde.data import npz
from score_sde.data.beside import Beside
from score_sde.data.sources import Dataset, gather
from score_sde.data.spec import statistics
from score_sde.data.splits import TRAIN, role
from score_sde.errors import UsageError, require
from score_sde.names import FIELD


def described_fields(dataset: Dataset, conditions: tuple[str, ...], sides: tuple[int, ...]) -> Beside | None:
    """The fields beside examples of these sides, where they condition; [H, W] has one channel. UsageError if not."""
    if FIELD not in conditions:
        return None
    own, held_out = dataset.condition[FIELD], dataset.held_out_condition.get(FIELD, np.zeros((0, 1)))
    found = tuple(int(n) for n in own.shape[1:])
    shape = (*found, 1) if len(found) == 2 else found
    require(
        len(shape) == 3 and shape[:2] == sides,
        f"the array {FIELD} has examples of shape {found} beside data of {sides[0]}x{sides[1]}: give it [N, H, W] or"
        " [N, H, W, C] of that height and width",
    )
    every = lambda part: gather(part, np.arange(len(part))).reshape(-1, *shape).astype(np.float32)
    mean, std, _ = statistics(Dataset(every(own), every(held_out)), (), (), masked=True)
    return Beside(shape, mean, std)


def asked_fields(path: str, beside: Beside) -> np.ndarray:
    """Standardised fields float32 [K, H, W, C] of an .npy file, or an .npz file's array `field`: held-out ones if any.

    Raises UsageError for a file that is missing, has none, or others than the network is shown.
    """
    place = pathlib.Path(path).expanduser()
    remedy = f"name an .npy file of them, or an .npz file with the array {FIELD}, as the data have it"
    require(
        path != "" and place.is_file(), f"sampling.condition={path!r} is no file, and samples are of fields: {remedy}"
    )
    state = place.stat()
    return _read(path, str(place), state.st_mtime_ns, state.st_size, beside)


@functools.lru_cache(maxsize=4)
def _read(path: str, place: str, time: int, size: int, beside: Beside) -> np.ndarray:
    """Of a state of the file, by its time and size, read once."""
    del time, size
    file = pathlib.Path(place)
    try:
        name = _name([*npz.headers(file)])
        require(name is not None, f"sampling.condition={path} has no array {FIELD}: add it, or name another file")
        loaded = np.load(file)
        found = loaded if name == "" else loaded[name]
    except npz.UNREADABLE as error:
        if isinstance(error, UsageError):
            raise
        why = npz.reason(error)
        raise UsageError(f"sampling.condition={path} cannot be read ({why}): write it by np.save") from None
    require(
        found.dtype.kind in "biuf" and len(found) > 0 and found[0].size == np.prod(beside.shape),
        f"sampling.condition={path} has fields of shape {found.shape[1:]} and dtype {found.dtype}: the network is shown"
        f" {beside.shape}",
    )
    return beside.standardised(found.reshape(-1, *beside.shape))


def _name(names: list[str]) -> str | None:
    """That of the fields: of an .npy file's only array "", else held-out ones' or `field`."""
    if names == [""]:
        return ""
    part = lambda name: role(name.removeprefix(FIELD)) or role(name.removesuffix(FIELD))
    own = [name for name in names if name != FIELD and FIELD in name and part(name) not in (None, TRAIN)]
    return next(iter([*sorted(own), *(name for name in names if name == FIELD)]), None)
