"""Pickles by hand, as nobody's torch.save would write them, and the files around them."""

import pathlib
import zipfile
from collections.abc import Iterable


def archive(
    path: pathlib.Path, program: bytes, compression: int = zipfile.ZIP_STORED, **storages: bytes
) -> pathlib.Path:
    """A file like torch.save's around a pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", program)
        for key, content in storages.items():
            file.writestr(f"archive/data/{key}", content)
    return path


def number(n: int) -> bytes:
    return b"J" + n.to_bytes(4, "little", signed=True)


def text(t: str) -> bytes:
    return b"X" + len(t.encode()).to_bytes(4, "little") + t.encode()


def numbers(ns: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(number, ns)) + b"t"


def scalar(n: int, dtype: str) -> bytes:
    """A numpy scalar; `dtype` as u1 or i8."""
    content = text(n.to_bytes(int(dtype[1]), "little").decode("latin1"))
    made = b"cnumpy\ndtype\n(" + text(dtype) + b"tR" + b"c_codecs\nencode\n" + content + text("latin1") + b"\x86R"
    return b"cnumpy.core.multiarray\nscalar\n" + made + b"\x86R"


def storage(count: int = 4, kind: str = "Float", key: str = "0") -> bytes:
    named = text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key)
    return b"(" + named + text("cpu") + number(count) + b"tQ"


def view(storage: bytes, size: bytes, strides: bytes, offset: bytes = b"K\x00") -> bytes:
    """The call that makes a tensor of a storage."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + strides + b"\x89}tR"


def tensor(size: tuple, strides: tuple, offset: int = 0, count: int = 4, kind: str = "Float") -> bytes:
    """A pickle of one tensor of a storage "0"."""
    return b"\x80\x02" + view(storage(count, kind), numbers(size), numbers(strides), number(offset)) + b"."
