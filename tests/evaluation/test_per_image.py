"""A table of images: what was written comes back, whatever the end of the process that wrote it."""

import pathlib

import numpy as np
import pytest

from score_sde.evaluation.per_image import PerImage

ROWS = np.array([[7, 3.25, np.nan], [2**40, -1e-7, 1 / 3]])


@pytest.fixture
def table(tmp_path: pathlib.Path) -> PerImage:
    made = PerImage(tmp_path / "new" / "table.csv", ("index", "a", "b"))
    made.start()
    made.append(ROWS)
    return made


def test_rows_come_back(table):
    np.testing.assert_allclose(table.rows(), ROWS, rtol=1e-8)
    assert table.path.read_text() == "index,a,b\n7,3.25,\n1099511627776,-1e-07,0.333333333\n"


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_line_that_was_cut_off_is_dropped(table, cut):
    """Of a file with seals the whole writing, here both rows; of one of earlier versions the line alone."""
    whole = table.path.read_bytes()
    table.path.write_bytes(whole[:-cut])
    assert len(table.rows()) == 0
    table.mend()
    table.append(ROWS)
    assert table.path.read_bytes() == whole
    table.path.write_bytes(whole[:-cut])
    (table.path.parent / "table.csv.seals.json").unlink()
    assert len(table.rows()) == 1
    table.mend()
    table.append(ROWS[1:])
    assert table.path.read_bytes() == whole
    table.mend()
    assert table.path.read_bytes() == whole and table.fault() is None


def test_other_bytes_are_no_rows(table):
    """In a file without seals, which nothing else tells of."""
    (table.path.parent / "table.csv.seals.json").unlink()
    whole = table.path.read_bytes()
    for other in (b"\xff\xfe\x00", b"1,2\n", b"1,2,3,4\n", b"one,2,3\n", b'1,"2\n', b"\n", "1,2,\u0663\n".encode()):
        table.path.write_bytes(whole + other + b"9,9,9\n")
        assert len(table.rows()) == 2
    table.path.write_bytes(b"\xff\xfe" + whole)
    assert len(table.rows()) == 0
    table.mend()
    assert table.path.read_text() == "index,a,b\n"


def test_no_file_is_an_empty_table(tmp_path):
    assert PerImage(tmp_path / "nowhere.csv", ("index", "a")).rows().shape == (0, 2)
