import numpy as np
import pytest

from score_sde.storage.seals import NAME, Seals, decode, encode


@pytest.fixture
def sealed(tmp_path):
    seals = Seals(tmp_path)
    for name in ("a.txt", "b.bin"):
        (tmp_path / name).write_bytes(name.encode() * 40)
        seals.seal(name)
    return seals


def test_what_was_sealed_is_whole_and_what_was_not_is_said(sealed, tmp_path):
    assert sealed.whole("a.txt", "b.bin")
    (tmp_path / "c").write_text("new")
    assert sealed.fault("c") == "is not sealed"
    assert sealed.fault("d") == "is missing"
    sealed.forget("a.txt")
    assert sealed.fault("a.txt") == "is not sealed" and sealed.whole("b.bin")


def test_any_damage_is_found(sealed, tmp_path):
    draw = np.random.default_rng(0)
    content = (tmp_path / "a.txt").read_bytes()
    for _ in range(50):
        kind, place = draw.integers(3), int(draw.integers(len(content)))
        flipped = content[:place] + bytes([content[place] ^ (1 << int(draw.integers(8)))]) + content[place + 1 :]
        (tmp_path / "a.txt").write_bytes((flipped, content[:place], content + b"x")[kind])
        assert sealed.fault("a.txt") == "is damaged"
    (tmp_path / "a.txt").unlink()
    assert sealed.fault("a.txt") == "is missing"


def test_damaged_seals_vouch_for_nothing(sealed, tmp_path):
    content = (tmp_path / NAME).read_bytes()
    for place in range(0, len(content), 7):
        (tmp_path / NAME).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert sealed.fault("a.txt") == "is not sealed"
    (tmp_path / NAME).write_bytes(content)
    assert sealed.whole("a.txt")


def test_only_what_was_encoded_is_decoded():
    assert decode(encode({"files": {}})) == {"files": {}}
    for other in (b"", b"[]", b"{}", b"\xff\xfe", encode({"files": {}})[:-1]):
        assert decode(other) is None
