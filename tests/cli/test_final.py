"""The end of a training: its grid and figures sealed, damage named and mended, what is not finite counted."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from score_sde.cli import modes
from score_sde.data.sources import digits
from score_sde.errors import NotFinite, UsageError
from score_sde.experiment import build
from score_sde.experiment.generation import Generated
from score_sde.storage.locks import locked
from score_sde.storage.workdir import Workdir
from tests.disk import DAMAGES, damage, filled_in_turn, halted_in_turn
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")
PICTURE, FIGURES = "samples/final_00000000.png", "evaluation/final_00000000.json"
FILES = (PICTURE, FIGURES, "evaluation/seals.json")


@pytest.fixture(scope="module")
def experiment():
    return build(tiny_config(evaluation__final_samples=12))


@pytest.fixture(scope="module")
def state(experiment):
    return experiment.initial_state()


@pytest.fixture
def end(experiment, state, tmp_path):
    """A training's end in tmp_path/run, with so many spoilt samples; its exit code."""

    def act(spoilt: int = 0) -> int:
        def generator(params, count):
            finite = np.arange(count) >= spoilt
            x = np.where(finite[:, None, None, None], digits().held_out[:count], 0).astype(np.uint8)
            return Generated(x, 5.0, np.full(count, 5), {}, (1.0,), finite)

        modes.finish(experiment, generator, state, Workdir(tmp_path / "run"))
        return 0

    return act


@pytest.fixture
def expected(end, tmp_path):
    assert end() == 0
    found = contents(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    return found


def contents(run) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


def test_a_disk_that_is_full_from_any_write_on(end, expected, tmp_path, capfd):
    def ended():
        assert contents(tmp_path / "run") == expected

    assert filled_in_turn(end, tmp_path / "run", ended, capfd) > 8


def test_killed_at_any_operation_the_end_is_bitwise_the_same(end, expected, tmp_path, monkeypatch):
    assert halted_in_turn(end, monkeypatch) >= 5
    assert contents(tmp_path / "run") == expected


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_damaged_is_named_and_made_again(end, expected, tmp_path, capsys, name, kind):
    end()
    capsys.readouterr()
    damage(tmp_path / "run" / name, kind)
    assert end() == 0
    said = capsys.readouterr()
    assert contents(tmp_path / "run") == expected
    if name != FILES[2]:
        assert f"{name} is {'missing' if kind == 'gone' else 'damaged'}: it is made again" in said.err
    assert end() == 0
    assert "is complete at step 0" in capsys.readouterr().out


def test_a_run_of_earlier_versions_is_complete(end, tmp_path, capsys):
    end()
    (tmp_path / "run" / FILES[2]).unlink()
    before = (tmp_path / "run" / PICTURE).read_bytes()
    capsys.readouterr()
    end()
    assert "is complete" in capsys.readouterr().out and (tmp_path / "run" / PICTURE).read_bytes() == before
    assert (tmp_path / "run" / FILES[2]).exists()
    for name in FILES[:2]:
        (tmp_path / "run" / FILES[2]).unlink()
        damage(tmp_path / "run" / name, "other bytes")
        end()
        assert "is complete" not in capsys.readouterr().out and (tmp_path / "run" / PICTURE).read_bytes() == before


def test_what_is_not_finite_is_counted_marked_and_in_no_figure(end, expected, tmp_path, capsys):
    for _ in range(2):  # the second start only reads
        with pytest.raises(NotFinite, match=r"3 of the samples in .* are not finite numbers; try"):
            end(spoilt=3)
    assert modes.ended(lambda: end(spoilt=3)) == 6
    found = json.loads((tmp_path / "run" / FIGURES).read_text(), parse_constant=pytest.fail)
    assert (found["num_samples"], found["non_finite"]) == (12, 3)
    assert found["frechet_distance"] != json.loads(expected[FIGURES])["frechet_distance"] > 0
    assert "3 of 12 samples are not finite" in capsys.readouterr().out
    pixels, whole = (
        np.asarray(Image.open(tmp_path / "run" / PICTURE)),
        np.asarray(Image.open(_saved(tmp_path, expected))),
    )
    assert (pixels != whole).any() and (pixels == whole).mean() > 0.5


def _saved(tmp_path, expected):
    (tmp_path / "whole.png").write_bytes(expected[PICTURE])
    return tmp_path / "whole.png"


def test_two_programs_do_not_end_one_run(end, tmp_path):
    with locked(tmp_path / "run" / "evaluation"), pytest.raises(UsageError, match=f"by process {os.getpid()}"):
        end()
