"""A new run with the weights of another: bitwise the same ones, whatever else is changed, and recorded for good."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest

from score_sde.data.spec import Labels, Spec
from score_sde.devices.parallel import Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build, objects, starting
from score_sde.experiment.starting import named
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from tests.systems import game
from tests.tiny import tiny_config
from tests.training.small import OneConvolution


class Two(OneConvolution):
    """OneConvolution and one more behind it."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        return nn.Conv(x.shape[-1], (3, 3))(nn.Conv(x.shape[-1], (3, 3))(x))


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: OneConvolution() if c.network.nf == 8 else Two())
        yield


def run(folder, record=True, **changes):
    """The state that a run of 2 steps, or of more, leaves in the folder."""
    workdir = Workdir(folder)
    config = tiny_config(**{"training__num_steps": 2, "checkpoint__every": 2, **changes})
    experiment = build(config, workdir.record() if record else None)
    return train(experiment, workdir, generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of 4 steps with checkpoints of 2 and 4, whose average is not its parameters, and its last state."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    return folder, run(folder, training__num_steps=4)


def begun(text, **changes):
    return build(tiny_config(training__start_from=str(text), **changes))


def assert_same(found, expected):
    for (name, a), b in zip(named(found).items(), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_it_starts_with_the_average_to_the_bit_and_a_fresh_optimizer_at_step_0(first):
    folder, state = first
    found = begun(folder, optimizer__learning_rate=1e-5, ema__averages=("constant", "power")).initial_state()
    assert int(found.step) == 0 and sorted(found.averages) == ["constant", "power_0.050", "power_0.100"]
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (state.params, state.averages["warmup"]))))
    for tree in (found.params, *found.averages.values()):
        assert_same(tree, state.averages["warmup"])
    assert all(not np.any(x) for x in jax.tree.leaves(found.optimizer))


def test_an_origin_whose_average_is_not_done_is_told_of(tmp_path):
    """Of 0.9^2."""
    run(tmp_path, ema__averages=("constant",))
    said = str(begun(tmp_path).origin)
    assert "at step 2; 81 % of the average 'constant' is still the initial network; training.start_from=" in said
    assert "still" not in str(begun(f"{tmp_path}:raw").origin)


def test_raw_a_step_and_shards(first):
    folder, state = first
    assert_same(begun(f"{folder}:raw").initial_state().params, state.params)
    assert_same(begun(f"{folder}@4:raw").initial_state().params, state.params)
    other = begun(f"{folder}@2:raw").initial_state().params
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (other, state.params))))
    sharded = dataclasses.replace(begun(folder), strategy=Sharded(fsdp=0))
    assert_same(sharded.initial_state().params, state.averages["warmup"])


def test_the_origin_is_recorded_and_not_looked_at_again(first, tmp_path, capsys):
    shutil.copytree(first[0], tmp_path / "origin")
    origin, folder = tmp_path / "origin", tmp_path / "second"
    run(folder, training__start_from=str(origin))
    assert f"starting from the average 'warmup' of {origin} at step 4" in capsys.readouterr().err
    start = json.loads((folder / "config.json").read_text())["start"]
    assert (start["run"], start["step"], start["average"], len(start["checksum"])) == (str(origin), 4, "warmup", 64)
    shutil.rmtree(origin)
    run(folder, training__start_from=str(origin), training__num_steps=4)
    assert int(run(folder, training__num_steps=6).step) == 6  # nor need it be named again
    with pytest.raises(UsageError, match=r"differs in training\.start_from \(.*origin there, elsewhere here\)"):
        run(folder, training__start_from="elsewhere", training__num_steps=8)


def test_a_run_killed_before_its_first_checkpoint_starts_from_what_it_began_with(first, tmp_path):
    """Although the origin has gone on meanwhile, and is not named again; changed or gone, it is refused."""
    origin, folder = tmp_path / "origin", tmp_path / "second"
    shutil.copytree(first[0], origin)
    built = begun(origin)
    Workdir(folder).claim(built.config, **built.notes())
    run(origin, training__num_steps=6)
    again = build(tiny_config(), Workdir(folder).record())
    assert again.origin is not None and again.origin.record.step == 4
    assert_same(again.initial_state().params, first[1].averages["warmup"])
    shutil.rmtree(origin)
    with pytest.raises(UsageError, match=rf"training\.start_from={origin} holds no trained run"):
        build(tiny_config(), Workdir(folder).record()).initial_state()
    run(origin, training__num_steps=4, optimizer__learning_rate=0.5)
    with pytest.raises(UsageError, match=rf"training\.start_from={origin} has changed since this run began"):
        build(tiny_config(), Workdir(folder).record()).initial_state()


@pytest.fixture
def colours(tmp_path):
    np.save(tmp_path / "colours.npy", np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), "uint8"))
    return {"data__name": "array", "data__path": str(tmp_path / "colours.npy"), "data__num_channels": 3}


def test_what_does_not_fit_is_named_and_refused(first, colours):
    with pytest.raises(UsageError) as error:
        begun(first[0], **colours)
    named = (
        "score/Conv_0/bias is [1] there and [3] here; score/Conv_0/kernel is [3, 3, 1, 1] there and [3, 3, 3, 3] here"
    )
    assert f"does not fit this run's network: {named} (2 arrays in all)" in str(error.value)
    assert "start_strict" not in str(error.value)  # nothing would be left
    with pytest.raises(UsageError, match="does not fit"):
        begun(first[0], training__start_strict=False, **colours)


def test_what_does_not_fit_is_made_afresh_where_that_is_asked_for(first, tmp_path, capsys):
    folder, state = first
    more = {"network__nf": 16}
    with pytest.raises(UsageError, match=r"Conv_1/bias is not there and \[1\] here.*start_strict=False \(2 arrays\)"):
        begun(folder, **more)
    more["training__start_strict"] = False
    found, fresh = begun(folder, **more).initial_state(), build(tiny_config(network__nf=16)).init_params()
    average = state.averages["warmup"]["score"]
    assert_same(found.params, {"score": {"Conv_0": average["Conv_0"], "Conv_1": fresh["score"]["Conv_1"]}})
    run(tmp_path / "two", training__start_from=str(folder), **more)
    assert "made afresh: score/Conv_1/bias is not there and [1] here; score/Conv_1/kernel" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"score/Conv_1/bias is \[1\] there and not here"):
        begun(tmp_path / "two")
    assert_same(begun(tmp_path / "two", training__start_strict=False).initial_state().params["score"]["Conv_0"],
                begun(f"{tmp_path / 'two'}", **more).initial_state().params["score"]["Conv_0"])  # fmt: skip


def test_a_system_of_several_parts_starts_from_a_run_of_its_own(tmp_path):
    system = lambda c, s, drawing, frozen: game.Game()
    first = build(tiny_config(training__num_steps=2), system=system)
    state = train(first, Workdir(tmp_path / "first"), generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]
    config = tiny_config(training__start_from=f"{tmp_path / 'first'}:raw")
    assert_same(build(config, system=system).initial_state().params, state.params)


def test_learning_rate_changes_on_resumption_from_that_step_on(tmp_path, capsys):
    """Recorded with its step; the warm-up goes on by the count of updates: 4 of them, so 3/4 at the fourth."""
    changes = {"logging__every": 1, "training__num_steps": 2, "optimizer__learning_rate": 0.1}
    run(tmp_path, **changes)
    run(tmp_path, **changes | {"training__num_steps": 6, "optimizer__learning_rate": 0.01})
    assert "after step 2, with optimizer.learning_rate=0.01, which was 0.1" in capsys.readouterr().err
    run(tmp_path, **changes | {"training__num_steps": 7, "optimizer__learning_rate": 0.01})
    assert "after step 6\n" in capsys.readouterr().err
    history = [json.loads(line) for line in (tmp_path / "config_history.jsonl").read_text().splitlines()]
    assert [(line["step"], line["config"]["optimizer"]["learning_rate"]) for line in history] == [(2, 0.01), (6, 0.01)]
    rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(rates, [0, 0.025, 0.005, 0.0075, 0.01, 0.01, 0.01], rtol=1e-6)


def test_what_is_not_a_run_is_refused(first, tmp_path):
    for text, words in (
        ("nowhere", r"training\.start_from=nowhere holds no trained run: train it first"),
        (f"{first[0]}@3", r"checkpoint .*/3 is missing: choose from the finished ones, 2, 4"),
        (f"{first[0]}:constant", r"average 'constant' is not stored: .*warmup"),
        ("@", r"training\.start_from='@' is not understood|holds no trained run"),
    ):
        with pytest.raises(UsageError, match=words):
            begun(text)


def test_a_name_that_may_be_a_run_or_a_step(first, tmp_path):
    """A run called like another one's step is itself; where both are there, neither is guessed."""
    folder, _ = first
    twin = tmp_path / "first@2"
    shutil.copytree(folder, twin)
    assert begun(twin).origin.record.step == 4 and begun(f"{twin}@2").origin.record.step == 2
    shutil.copytree(folder, tmp_path / "first")
    with pytest.raises(UsageError, match=r"may be step 2 of .*first or the run .*first@2: write .*first@2@<step> for"):
        begun(twin)
    assert begun(f"{twin}@4").origin.record.step == 4


def test_a_part_of_a_run_is_named_as_its_step(first):
    folder, _ = first
    with pytest.raises(UsageError, match=rf"is a part of a run: write {folder}@2$"):
        begun(folder / "checkpoints" / "2")


def test_what_the_network_was_to_mean_otherwise_is_said(first):
    folder, _ = first
    said = str(begun(folder, data__centered=False, sde__name="subvp").origin)
    assert "trained otherwise: data.centered was True and is False, sde.name was vp and is subvp" in said
    assert "trained otherwise" not in str(begun(folder).origin)


def test_classes_of_other_names():
    cats = Spec((8, 8, 1), labels=Labels((0.5, 0.5), ("cat", "dog")))
    zebras = Spec((8, 8, 1), labels=Labels((0.5, 0.5), ("dog", "zebra")))
    assert "knows the classes cat, dog, and this run's are dog, zebra" in starting._other_classes(cats, zebras)
    assert starting._other_classes(cats, cats) == "" == starting._other_classes(Spec((8, 8, 1)), zebras)
