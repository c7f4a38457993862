"""The way from a file of another kind to data that are read here: a command, and what to name then."""

import pathlib
from collections.abc import Callable

Way = Callable[[str], str]
"""The file's path -> the way."""

CIFAR = ("cifar-10-batches-py", "cifar-100-python")
"""The folders in the archives of CIFAR's python versions, which are read."""


def array(program: str, writes: str = "images.npy") -> str:
    """The way of a program that writes an array file."""
    return f'`python -c "import numpy as np; {program}"`, then --config.data.name=array --config.data.path={writes}'


def pictures(program: str, them: str) -> str:
    """The way of a program that writes pictures into a folder; `them`: an expression, the bytes of each."""
    write = f"[open(f'pictures/{{i:07d}}.png', 'wb').write(x) for i, x in enumerate({them})]"
    return f"`python -c \"import os; os.makedirs('pictures'); {program}; {write}\"`, then --config.data.path=pictures"


def again(path: str) -> str:
    """Of what is not the file that was meant."""
    return "download or copy the file itself"


def named(path: str) -> str:
    """Of numpy's own files."""
    return f"name it with --config.data.name=array --config.data.path={path}"


def folder(path: str) -> str:
    """Of a zip or TFRecord file of pictures."""
    return f"name it with --config.data.name=folder --config.data.path={path}"


def prepared(path: str) -> str:
    """Of a set of TensorFlow Datasets."""
    return f"name it with --config.data.name=tfds --config.data.path={pathlib.Path(path).absolute()}"


def one_picture(path: str) -> str:
    """Of a picture alone."""
    return (
        f"put it with others into a folder, `mkdir pictures && cp {path} pictures`, then --config.data.name=folder"
        " --config.data.path=pictures"
    )


def film(path: str) -> str:
    """Of what no decoder here reads."""
    return "write its pictures as PNG or JPEG into a folder of their own, and name that"


def pickled(path: str) -> str:
    """By whoever wrote it."""
    save = "np.save('images.npy', pictures)"
    return f"{save} of uint8 [N, H, W, C] in the program that wrote it, then --config.data.path=images.npy"


def hdf5(path: str) -> str:
    """By h5py, which is not installed with us: the largest array in the file."""
    find = "f.visititems(lambda _, x: found.append(x) if hasattr(x, 'shape') else None)"
    save = "np.save('images.npy', max(found, key=lambda x: x.size)[()])"
    return f"`pip install h5py`, {array(f'import h5py; found = []; f = h5py.File({path!r}); {find}; {save}')}"


def idx(start: int, shape: tuple[int, ...]) -> Way:
    """Of numbers from a byte on."""
    read = lambda path: f"np.frombuffer(open({path!r}, 'rb').read()[{start}:], np.uint8).reshape({shape})"
    return lambda path: array(f"np.save('images.npy', {read(path)})")


def matlab(path: str) -> str:
    """The arrays of SVHN."""
    save = "np.savez('images.npz', train=m['X'].transpose(3, 0, 1, 2), labels=m['y'].ravel() % 10)"
    return f"of arrays as SVHN's, {array(f'import scipy.io; m = scipy.io.loadmat({path!r}); {save}', 'images.npz')}"


def text(path: str) -> str:
    """Of comma-separated numbers."""
    load = f"np.loadtxt({path!r}, delimiter=',', ndmin=2)"
    return f"of rows of numbers, {array(f'''np.save('images.npy', {load}.astype('float32'))''')}"


def parquet(path: str) -> str:
    """The first column with bytes."""
    column = "c = next(f.name for f in t.schema if 'struct<bytes' in str(f.type))"
    program = f"import pyarrow.parquet as pq; t = pq.read_table({path!r}); {column}"
    return (
        f"of encoded pictures, `pip install pyarrow`, {pictures(program, '''(x['bytes'] for x in t[c].to_pylist())''')}"
    )


def lmdb(path: str) -> str:
    """Values of 64 bytes or less are no pictures."""
    program = f"import lmdb; t = lmdb.open({path!r}, readonly=True, lock=False).begin()"
    them = "(v for k, v in t.cursor() if len(v) > 64)"
    return f"of encoded pictures, `pip install lmdb`, {pictures(program, them)}"


def hugging_face(path: str) -> str:
    """The pictures of a set saved to disk, those of its split `train` if it has some."""
    program = (
        f"import datasets; d = datasets.load_from_disk({path!r}); d = d.get('train', d) if isinstance(d, dict) else d;"
        " c = next(c for c, f in d.features.items() if isinstance(f, datasets.Image));"
        " d = d.cast_column(c, datasets.Image(decode=False))"
    )
    return f"`pip install datasets`, {pictures(program, '''(x[c]['bytes'] for x in d)''')}"


def torch(path: str) -> str:
    """A tensor."""
    save = f"np.save('images.npy', torch.load({path!r}, weights_only=True).numpy())"
    return f"of one tensor, {array(f'import torch; {save}')}"


def stack(path: str) -> str:
    """Of a folder of .npy files."""
    files = f"sorted(glob.glob({path + '/**/*.npy'!r}, recursive=True))"
    return array(f"import glob; np.save('images.npy', np.stack([np.load(f) for f in {files}]))")


def unpacked(command: str) -> Way:
    """By a command that unpacks into a folder."""
    return lambda path: f"`mkdir -p unpacked && {command.format(path)}`, then --config.data.path=unpacked"


def alone(command: str) -> Way:
    """By a command that unpacks one file to the place beside it."""
    return lambda path: f"`{command} {path}`, then --config.data.path={pathlib.Path(path).with_suffix('')}"


def tar(first: str) -> Way:
    """Of an archive, by the name of its first file."""
    inside = first.removeprefix("./").split("/")[0]
    if inside in CIFAR:
        return lambda path: f"`tar xf {path}`, then --config.data.path={inside}"
    return unpacked("tar xf {} -C unpacked")
