"""A file that grows: the longest beginning that was sealed counts, whatever befell the rest."""

import hashlib

import numpy as np
import pytest

from score_sde.storage.growing import MOST, Growing

PARTS = [f"line {i} of some length\n".encode() * (1 + i % 3) for i in range(12)]


def grown(path, parts=PARTS) -> Growing:
    file = Growing(path)
    file.start(parts[0])
    for part in parts[1:]:
        file.append(part)
    return file


def test_what_was_written_is_whole(tmp_path):
    file = grown(tmp_path / "new" / "a.csv")
    assert file.read() == (b"".join(PARTS), b"") and file.fault() is None
    assert Growing(file.path).fault() is None
    assert Growing(tmp_path / "nowhere").fault() is None


def test_any_damage_costs_what_follows_it_and_no_more(tmp_path):
    """Flips, cuts, and bytes more. Mended and written on, the file is the undisturbed one's, to the byte."""
    file, draw = grown(tmp_path / "a.csv"), np.random.default_rng(0)
    content, seals = file.path.read_bytes(), (tmp_path / "a.csv.seals.json").read_bytes()
    ends = np.cumsum([len(part) for part in PARTS])
    for _ in range(60):
        kind, place = draw.integers(3), int(draw.integers(len(content)))
        flipped = content[:place] + bytes([content[place] ^ (1 << int(draw.integers(8)))]) + content[place + 1 :]
        file.path.write_bytes((flipped, content[:place], content + b"unfinished")[kind])
        (tmp_path / "a.csv.seals.json").write_bytes(seals)
        kept = len(ends) if kind == 2 else int((ends <= place).sum())
        again = Growing(file.path)
        assert again.read()[0] == b"".join(PARTS[:kept])
        assert again.fault() == (None if kind == 2 else "is damaged")
        again.mend()
        for part in PARTS[kept:] if kept else PARTS[:0]:
            again.append(part)
        if kept:
            assert file.path.read_bytes() == content and Growing(file.path).fault() is None


def test_damaged_or_missing_seals_and_a_deleted_file_are_said(tmp_path):
    file, seals = grown(tmp_path / "a.csv"), tmp_path / "a.csv.seals.json"
    seals.write_bytes(seals.read_bytes()[:-3])
    assert file.fault() == "has damaged seals" and file.read()[0] == b""
    seals.unlink()
    assert file.fault() == "has no seals"
    file.start(b"header\n")
    file.path.unlink()
    assert file.fault() == "is missing"


def test_few_digests_are_kept_of_many_writings(tmp_path):
    parts = [b"%d\n" % i for i in range(300)]
    file = grown(tmp_path / "a.csv", parts)
    marks = file._sealed()
    assert len(marks) <= MOST and marks[-1] == [len(b"".join(parts)), hashlib.sha256(b"".join(parts)).hexdigest()]
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    assert 0.4 < len(file.read()[0]) / len(content) <= 0.5


def test_a_write_that_fails_is_not_whole(tmp_path, monkeypatch):
    """Whichever call fails, what was sealed before stays, and the file goes on."""
    import os

    for failing in ("fsync", "replace"):
        file = grown(tmp_path / f"{failing}.csv", PARTS[:3])
        with monkeypatch.context() as patch, pytest.raises(OSError) as raised:
            patch.setattr(os, failing, lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            file.append(PARTS[3])
        assert raised.value.filename
        again = Growing(file.path)
        assert again.read()[0] == b"".join(PARTS[:3])
        again.mend()
        again.append(PARTS[3])
        assert again.read() == (b"".join(PARTS[:4]), b"")
