"""--mode sample: batches kept and gone on from, damage named and mended, samples that are not finite counted.

What draws is a function of the keys that costs nothing: what is tested is around it.
"""

import json
import os
import pathlib
import signal
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from score_sde.cli import modes
from score_sde.errors import NotFinite, UsageError
from score_sde.experiment import Experiment, build, sample_folder
from score_sde.experiment.generation import Generator
from score_sde.experiment.sample_folder import SampleFolder
from score_sde.rng import example_keys, positions, root_key
from score_sde.signals import Stopped
from score_sde.solvers.sampling import Samples
from score_sde.storage.locks import locked
from score_sde.storage.workdir import Workdir
from tests.disk import DAMAGES, Halted, damage, filled_in_turn, halted_in_turn
from tests.remembered import remembered
from tests.tiny import tiny_config, trained_run

pytestmark = pytest.mark.usefixtures("light_network")
COUNT, NAME = 36, "ancestral-4-seed0"
FILES = ("samples.npz", "grid.png", "settings.json")


@pytest.fixture(scope="module", autouse=True)
def drawn_for_nothing():
    """Sample k is noise of its own key, spoilt where asked for, and takes as many evaluations as its first bits say."""

    def draw(self, params, keys, condition=None, times=None):
        x = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(keys)
        bits = jax.vmap(jax.random.bits)(keys)
        spoilt = (bits % 8 == 0) & (self.config.sampling.snr > 1)  # a field that nothing here reads
        return Samples(jnp.where(spoilt[:, None, None, None], jnp.nan, x), (bits % 50).astype(jnp.int32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "draw", draw)
        with remembered():
            yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("runs") / "run", config())


@pytest.fixture
def run(trained, tmp_path):
    """The same run with a place of its own for samples."""
    workdir = Workdir(trained.path)
    workdir.samples = tmp_path / "samples"
    return workdir


def config(**changes):
    found = tiny_config(sampling__num_samples=COUNT)
    found.sampling.update(changes)
    return found


@pytest.fixture(scope="module")
def expected(trained, tmp_path_factory):
    """What an undisturbed run writes, by file."""
    workdir = Workdir(trained.path)
    workdir.samples = tmp_path_factory.mktemp("expected")
    assert modes.sample(config(), workdir) == 0
    return contents(workdir.samples / NAME)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "lock", "seals.json"])
    return {name: (folder / name).read_bytes() for name in (*FILES, "seals.json")}


def test_the_samples_are_those_of_the_generator(expected, trained, tmp_path):
    generated = Generator(build(config()))({}, COUNT, show=False)
    (tmp_path / "samples.npz").write_bytes(expected["samples.npz"])
    with np.load(tmp_path / "samples.npz") as arrays:
        np.testing.assert_array_equal(arrays["samples"], generated.x)
        np.testing.assert_array_equal(arrays["evaluations"], generated.counts)
        assert arrays["finite"].all() and arrays["finite"].shape == (COUNT,)
    settings = json.loads(expected["settings.json"])
    assert settings["evaluations"] == generated.evaluations and settings["not_finite"] == 0
    assert settings["sampling"]["num_samples"] == COUNT and settings["step"] == 1


def test_a_disk_that_is_full_from_some_write_on(run, expected, capfd):
    def ended():
        assert contents(run.samples / NAME) == expected

    assert filled_in_turn(lambda: modes.sample(config(), run), run.samples, ended, capfd, stride=4) > 5


def test_killed_at_any_operation_the_end_is_bitwise_the_same(run, expected, monkeypatch):
    assert halted_in_turn(lambda: modes.sample(config(), run), monkeypatch) > 20
    assert contents(run.samples / NAME) == expected


def test_a_signal_ends_it_behind_a_batch_and_the_same_command_goes_on(run, expected, monkeypatch):
    keep, kept = SampleFolder.keep, []

    def signalled(self, drawn):
        keep(self, drawn)
        kept.append(drawn.first)
        if len(kept) == 2:
            signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(SampleFolder, "keep", signalled)
    with pytest.raises(Stopped, match="stopped by SIGHUP after 16 of 36 samples, which are kept; the same command res"):
        modes.sample(config(), run)
    assert modes.sample(config(), run) == 0
    assert kept == [0, 8, 16, 24, 32]
    assert contents(run.samples / NAME) == expected


def stopped_after(run, monkeypatch, batches: int, **changes) -> None:
    keep = SampleFolder.keep

    def halt(self, drawn):
        keep(self, drawn)
        if drawn.first // self.size + 1 == batches:
            raise Halted

    with monkeypatch.context() as patch:
        patch.setattr(SampleFolder, "keep", halt)
        with pytest.raises(Halted):
            modes.sample(config(**changes), run)


def test_unfinished_samples_are_kept_from_other_settings(run, expected, monkeypatch):
    """Of other settings they are refused and not mixed; more of the same goes on behind the whole ones."""
    stopped_after(run, monkeypatch, 3, num_samples=20)
    with pytest.raises(UsageError, match="holds unfinished samples of other settings or of another checkpoint"):
        modes.sample(config(t_min=0.1), run)
    with pytest.raises(UsageError, match=r"holds more samples than sampling\.num_samples=9, which would be"):
        modes.sample(config(num_samples=9), run)
    firsts = []
    keep = SampleFolder.keep
    monkeypatch.setattr(SampleFolder, "keep", lambda self, drawn: (firsts.append(drawn.first), keep(self, drawn)))
    assert modes.sample(config(), run) == 0
    assert firsts == [16, 24, 32]  # the third was of four samples
    assert contents(run.samples / NAME) == expected
    with pytest.raises(UsageError, match="holds samples of other settings or of another checkpoint: add --overwrite"):
        modes.sample(config(t_min=0.1), run)
    assert modes.sample(config(t_min=0.1), run, overwrite=True) == 0
    assert firsts[3:] == [0, 8, 16, 24, 32]
    assert json.loads((run.samples / NAME / "settings.json").read_text())["sampling"]["t_min"] == 0.1


@pytest.mark.parametrize("name", ["000000.npz", "000001.npz", "settings.json", "seals.json"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_batches_are_drawn_again(run, expected, monkeypatch, name, kind):
    stopped_after(run, monkeypatch, 2)
    damage(run.samples / NAME / "unfinished" / name, kind)
    assert modes.sample(config(), run) == 0
    assert contents(run.samples / NAME) == expected


@pytest.mark.parametrize("name", [*FILES, "seals.json"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_results_are_named_and_made_again(run, expected, capsys, name, kind):
    folder = run.samples / NAME
    folder.mkdir(parents=True)
    for file, data in expected.items():
        (folder / file).write_bytes(data)
    (folder / "lock").touch()
    damage(folder / name, kind)
    assert modes.sample(config(), run) == 0
    said = capsys.readouterr().err
    assert contents(folder) == expected
    if name == "seals.json":
        assert "grid.png is not sealed: it is made again" in said and "samples.npz" not in said
    else:
        assert f"{folder / name} is {'missing' if kind == 'gone' else 'damaged'}: it is made again" in said
    assert modes.sample(config(), run) == 0
    said = capsys.readouterr()
    assert "already holds these samples" in said.out and said.err == ""


def test_a_folder_of_before_there_were_seals_is_taken_over(run, capsys):
    """Its samples stay, to the byte; of other settings it is refused, as ever."""
    folder = run.samples / NAME
    folder.mkdir(parents=True)
    x = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1)).astype(np.uint8)
    np.savez_compressed(folder / "samples.npz", samples=x, evaluations=np.full(COUNT, 5, np.int32))
    before = (folder / "samples.npz").read_bytes()
    older = {name: value for name, value in config().sampling.to_dict().items() if name != "label"}  # a later field
    settings = {"sampling": older, "step": 1, "evaluations": 5.0}
    (folder / "settings.json").write_text(json.dumps({**settings, "step": 2}))
    with pytest.raises(UsageError, match="of another checkpoint"):
        modes.sample(config(), run)
    (folder / "settings.json").write_text(json.dumps(settings))
    assert modes.sample(config(), run) == 0
    assert (folder / "samples.npz").read_bytes() == before
    assert modes.sample(config(), run) == 0
    assert "already holds" in capsys.readouterr().out


def test_some_that_are_not_finite_are_counted_marked_and_said(run):
    spoilt = config(snr=2.0)
    keys = example_keys(root_key(0), positions(0, COUNT))
    bad = np.asarray(jax.vmap(jax.random.bits)(keys)) % 8 == 0
    assert 0 < bad.sum() < COUNT
    for _ in range(2):  # and at the second start, which draws nothing
        with pytest.raises(NotFinite) as error:
            modes.sample(spoilt, run)
        for words in (f"{bad.sum()} of 36 samples of sampling.solver='ancestral' are not finite", "solver='euler_mar"):
            assert words in str(error.value)
    folder = run.samples / NAME
    assert json.loads((folder / "settings.json").read_text())["not_finite"] == bad.sum()
    with np.load(folder / "samples.npz") as arrays:
        np.testing.assert_array_equal(arrays["finite"], ~bad)
    pixels = np.asarray(Image.open(folder / "grid.png"))
    board = np.kron((np.indices((8, 8)) // 2).sum(0) % 2 * 255, np.ones((6, 6)))
    for i in range(COUNT):
        top, left = 2 + i // 6 * 50, 2 + i % 6 * 50
        assert (pixels[top : top + 48, left : left + 48] == board).all() == bad[i]
    assert modes.ended(lambda: modes.sample(spoilt, run)) == 6


def test_where_nothing_is_finite_nothing_is_written(run, monkeypatch):
    nan = lambda self, params, keys, *_: Samples(jnp.full((len(keys), 8, 8, 1), jnp.nan), jnp.int32(5))
    monkeypatch.setattr(Experiment, "draw", nan)
    monkeypatch.setattr(modes, "ENOUGH", 16)
    with pytest.raises(NotFinite, match=r"not one of 16 samples of .*'ancestral' is a finite number, at its end alone"):
        modes.sample(config(), run)
    assert [path.name for path in (run.samples / NAME).iterdir()] == ["lock"]


def test_two_programs_do_not_draw_into_one_folder(run):
    with locked(run.samples / NAME), pytest.raises(UsageError, match=f"is being written by process {os.getpid()}"):
        modes.sample(config(), run)


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    """20 MB of samples pass through a fraction of that."""

    def peak(count: int) -> int:
        folder = SampleFolder(tmp_path / str(count), {"sampling": {"num_samples": count, "batch_size": 8}, "step": 1})
        tracemalloc.start()
        folder.resume(overwrite=False)
        for first in range(0, count, 8):
            x = np.full((8, 128, 128, 3), first % 256, np.uint8)
            ones = np.ones(8, np.int32)
            folder.keep(sample_folder.Drawn(first, x, ones, {"label": ones * (first % 3)}, ones > 0, 0.0))
        folder.finish()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(104)
    assert peak(416) < 1.1 * few < 20e6


def test_an_optimised_grid_is_found_once_for_all_starts(run, monkeypatch, tmp_path):
    """More samples of the same weights take the grid from the run's directory; other steps have their own."""
    found = []

    def times(self, params):
        found.append(self.config.sampling.num_steps)
        return jnp.linspace(1, 1e-3, self.config.sampling.num_steps + 1)

    monkeypatch.setattr(Experiment, "times", times)
    run.grids = tmp_path / "grids"
    for changes in ({}, {"num_samples": 2 * COUNT}, {"num_steps": 5}, {"num_steps": 5}):
        assert modes.sample(config(solver="adams_2", times="optimised", **changes), run, overwrite=True) == 0
    assert found == [4, 5]
    assert sorted(path.name.rsplit("-", 1)[0] for path in run.grids.iterdir()) == ["adams_2-4", "adams_2-5"]
