"""Arrays whose axes are in another order than [N, H, W, C]: what they are, and the command that brings them there."""

import math
import pathlib
import zipfile

CHANNELS = (1, 3, 4)
"""Of pictures, and of latent ones."""


def advice(path: str, shape: tuple[int, ...], sides: tuple[int, int], images: bool) -> str:
    """What examples of this shape are, if not [H, W, C], and the way to bring the file there; "" if nothing says so.

    sides: the height and width that are asked for. images: they are bytes, so no axis of three stands for a side.
    """
    if len(shape) == 3 and shape[0] in CHANNELS and (shape[1] == shape[2] or shape[1:] == sides) and shape[2] > 4:
        return f"have shape {shape}, channels first: {_way(path, '.transpose(0, 2, 3, 1)', 'x.ndim == 4')}"
    if images and len(shape) == 3 and shape[1] in CHANNELS and shape[2] not in CHANNELS:
        return f"have shape {shape}, examples last: {_way(path, '.transpose(3, 0, 1, 2)', 'x.ndim == 4')}"
    if len(shape) == 1:
        return _rows(path, shape[0])
    return ""


def _rows(path: str, length: int) -> str:
    for channels in CHANNELS:
        side = math.isqrt(length // channels)
        if side > 1 and channels * side * side == length:
            bring = f".reshape(-1, {channels}, {side}, {side}).transpose(0, 2, 3, 1)"
            way = _way(path, bring, f"x.shape[1:] == ({length},)")
            return f"have shape ({length},), as rows of {channels}x{side}x{side} have: {way}"
    return ""


def _way(path: str, bring: str, which: str) -> str:
    """The command that brings an .npy file's array, or those of an .npz file that are such, in order."""
    place = pathlib.Path(path).expanduser()
    zipped = zipfile.is_zipfile(place)
    new = f"{place.stem}_nhwc{'.npz' if zipped else '.npy'}"
    load = f"np.load({str(place)!r})"
    one = f"np.save({new!r}, {load}{bring})"
    several = f"np.savez({new!r}, **{{k: x{bring} if {which} else x for k, x in {load}.items()}})"
    program = f'python -c "import numpy as np; {several if zipped else one}"'
    return f"`{program}`, then --config.data.name=array --config.data.path={new}"
