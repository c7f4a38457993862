"""Optimised grids are found once for weights and settings, whatever program asks; damage is told and mended."""

import json

import jax
import numpy as np
import pytest

from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.experiment.kept_grids import KeptGrids
from score_sde.solvers import pilot
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")

SETTINGS = {"solver": "adams_3", "num_steps": 2, "t_min": 1e-3}
TIMES = np.array([1.0, 0.3, 1e-3], np.float32)


@pytest.fixture
def grids(tmp_path):
    """The folder's grids, and how often one was asked to be found."""
    asked = []

    def of(weights=1.0, **changed):
        find = lambda: asked.append(changed) or TIMES
        return KeptGrids(tmp_path / "grids")({"w": np.full(3, weights)}, {**SETTINGS, **changed}, find)

    return of, asked


def test_a_grid_is_found_once_and_is_the_same_to_the_bit(grids, tmp_path):
    of, asked = grids
    for _ in range(3):
        found = of()
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, TIMES)
    assert len(asked) == 1
    (file,) = (tmp_path / "grids").iterdir()
    content = json.loads(file.read_bytes())
    assert file.name.startswith("adams_3-2-") and content["settings"] == SETTINGS and len(content["weights"]) == 64


@pytest.mark.parametrize("changed", [{"weights": 2.0}, {"num_steps": 3}, {"solver": "unipc_2"}, {"t_min": 1e-4}])
def test_other_weights_or_settings_have_their_own(grids, tmp_path, changed):
    of, asked = grids
    of(), of(**changed), of(), of(**changed)
    assert len(asked) == 2 and len([*(tmp_path / "grids").iterdir()]) == 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "changed", "another's"])
def test_a_damaged_grid_is_told_and_made_again(grids, tmp_path, capsys, damage):
    of, asked = grids
    of()
    (file,) = (tmp_path / "grids").iterdir()
    whole = file.read_bytes()
    if damage == "another's":
        of(weights=2.0)
        (other,) = {*(tmp_path / "grids").iterdir()} - {file}
        file.write_bytes(other.read_bytes())
    else:
        damaged = {"flipped": bytes([whole[0] ^ 1]) + whole[1:], "cut": whole[:-9], "empty": b""}
        file.write_bytes(damaged.get(damage, whole.replace(b"0.3", b"0.4")))
    asked.clear()
    np.testing.assert_array_equal(of(), TIMES)
    fault = "of other settings" if damage == "another's" else "damaged"
    assert capsys.readouterr().err == f"{file} is {fault}: it is made again\n"
    assert len(asked) == 1 and file.read_bytes() == whole


def test_a_generator_flies_the_pilot_once_for_all_programs_of_a_run(tmp_path, monkeypatch):
    """Another start draws the same samples to the bit without a pilot; other weights have their own."""
    experiment = build(tiny_config(sampling__solver="adams_2", sampling__times="optimised", sampling__num_steps=3))
    params, flown = experiment.init_params(), []
    fly = pilot.optimised
    monkeypatch.setattr(pilot, "optimised", lambda *given, **options: flown.append(1) or fly(*given, **options))
    draw = lambda params: Generator(build(experiment.config), KeptGrids(tmp_path / "grids"))(params, 4, show=False).x
    first = draw(params)
    np.testing.assert_array_equal(draw(params), first)
    assert len(flown) == 1
    draw(jax.tree.map(lambda p: p + 0.01, params))
    assert len(flown) == 2 and len([*(tmp_path / "grids").iterdir()]) == 2
