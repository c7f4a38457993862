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
    whole = table.path.read_bytes()
    table.path.write_bytes(whole[:-cut])
    assert len(table.rows()) == 1
    table.mend()
    table.append(ROWS[1:])
    assert table.path.read_bytes() == whole
    table.mend()
    assert table.path.read_bytes() == whole


def test_no_file_is_an_empty_table(tmp_path):
    assert PerImage(tmp_path / "nowhere.csv", ("index", "a")).rows().shape == (0, 2)
