"""Labels: whose they are in training, held-out loss, sampling and likelihood; what is asked for, and refused."""

import json

import jax
import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.config.validation import validate
from score_sde.data.spec import Labels, Spec
from score_sde.data.stream import Batch
from score_sde.errors import UsageError
from score_sde.experiment import Experiment, build, objects
from score_sde.experiment.conditions import Conditions, parsed
from score_sde.experiment.generation import Generator
from score_sde.loop.heldout import HeldOut
from score_sde.rng import Purpose, child, example_keys, positions, root_key, uniform
from score_sde.storage.images import by_class, save_samples
from score_sde.storage.workdir import Workdir
from score_sde.systems.score import Dropped
from tests.gradients import NO_VIEW, shaken_state
from tests.systems import game
from tests.tiny import tiny_config, with_network
from tests.training.small import Labelled

SHARES = (0.1, 0.0, 0.6, 0.3)
SPEC = Spec((8, 8, 1), labels=Labels(SHARES, ("ant", "bee", "cat", "dog")))


def labelled(**changes) -> Experiment:
    """Digits and their labels, told to a network that adds a number for each."""
    config = tiny_config(data__condition=("label",), network__dropout=0.0, **changes)
    return with_network(build(config), Labelled())


def test_labels_of_samples_have_the_trainings_law_and_depend_on_seed_and_number_alone():
    conditions, position = Conditions(SPEC), positions(0, 20_000)
    found = np.asarray(conditions.of_samples("", 3, position)["label"])
    shares = np.bincount(found, minlength=4) / len(found)
    np.testing.assert_allclose(shares, SHARES, atol=4 * 0.5 / np.sqrt(len(found)))
    assert shares[1] == 0
    np.testing.assert_array_equal(conditions.of_samples("", 3, position[777:779])["label"], found[777:779])
    assert (np.asarray(conditions.of_samples("", 4, position)["label"]) != found).any()
    assert Conditions(Spec((8, 8, 1))).of_samples("", 3, position) == {}


def test_labels_may_be_asked_for():
    ask = lambda asked, first=0: Conditions(SPEC).of_samples(asked, 0, positions(first, 6))["label"].tolist()
    assert ask("2") == [2] * 6
    assert ask("dog, 0") == [3, 0] * 3
    assert ask(" each") == [0, 2, 3, 0, 2, 3]  # none has no example in training
    assert ask("each", 2**32 + 1) == [[0, 2, 3][(2**32 + 1 + i) % 3] for i in range(6)]
    assert parsed("sampling.label", "", SPEC.labels) == ()
    with pytest.raises(UsageError, match=r"sampling\.label=' ' names no class"):
        ask(" ")
    with pytest.raises(UsageError, match=r"sampling\.label=4 is no class: the data have 4, 0 to 3, or their names"):
        ask("1,4")
    with pytest.raises(UsageError, match=r"sampling\.label=cow is no class"):
        ask("cow")


def test_dropped_labels_become_the_null_label_by_the_examples_own_keys():
    keys = example_keys(root_key(0), positions(0, 4000))
    label = np.arange(4000) % 4
    found = np.asarray(Dropped(0.3, null=4)(keys, {"label": label})["label"])
    expected = np.asarray(uniform(child(keys, Purpose.CONDITION))) < 0.3
    np.testing.assert_array_equal(found, np.where(expected, 4, label))
    np.testing.assert_allclose(expected.mean(), 0.3, atol=0.03)
    np.testing.assert_array_equal(Dropped(0.3, 4)(keys[7:9], {"label": label[7:9]})["label"], found[7:9])
    assert Dropped(0.0, 4)(keys, {"label": label})["label"] is label


def test_the_stream_brings_every_examples_own_label():
    experiment = labelled()
    batch = experiment.stream.batches(5, 16, 2)
    numbers = experiment.stream.indices(5, 32).reshape(2, 16)
    np.testing.assert_array_equal(batch.condition["label"], experiment.data.condition["label"][numbers])
    np.testing.assert_array_equal(batch.x, experiment.data.train[numbers])
    assert build(tiny_config()).stream.batches(0, 4, 1).condition == {}


def test_the_loss_sees_the_label_and_held_out_examples_keep_theirs():
    """With all labels dropped, training cannot tell them apart; the held-out loss can."""
    experiment = labelled(network__label_dropout=0.999999)
    params = shaken_state(experiment).params
    x, position = experiment.data.train[:16], positions(0, 16)
    loss = jax.jit(
        lambda label, held_out: experiment.loss(params, NO_VIEW, Batch(x, position, {"label": label}), held_out)[0],
        static_argnums=1,
    )
    zeros, ones = np.zeros(16, np.int32), np.ones(16, np.int32)
    np.testing.assert_array_equal(loss(zeros, False), loss(ones, False))
    assert (np.asarray(loss(zeros, True)) != np.asarray(loss(ones, True))).all()


def test_the_held_out_loss_takes_each_examples_own_label():
    experiment = labelled(evaluation__every=1, evaluation__num_images=24)
    params = shaken_state(experiment).params
    found = HeldOut(experiment)({"raw": params})["raw"]
    numbers = np.sort(np.random.RandomState(0).permutation(len(experiment.data.held_out))[:24])
    own = {"label": experiment.data.held_out_condition["label"][numbers]}
    batch = Batch(experiment.data.held_out[numbers], positions(0, 24), own)
    expected = experiment.loss(params, NO_VIEW, batch, held_out=True)[0].mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_samples_tell_their_labels_and_do_not_depend_on_the_batch():
    experiment = labelled(sampling__label="each")
    params = shaken_state(experiment).params
    several = Generator(experiment)(params, 11, show=False)
    alone = Generator(labelled(sampling__label="each", sampling__batch_size=11))(params, 11, show=False)
    assert several.condition["label"].tolist() == [*range(10), 0]
    assert np.abs(several.x.astype(int) - alone.x).max() <= 1
    of_nine = Generator(labelled(sampling__label="9"))(params, 10, show=False)
    assert np.abs(several.x[9].astype(int) - of_nine.x[9]).max() <= 1
    assert np.abs(several.x[:9].astype(int) - of_nine.x[:9]).max() > 1


def test_grids_are_in_rows_by_class(tmp_path):
    labels = np.array([2, 0, 2, 2, 0, 5])
    assert by_class(labels, 100).tolist() == [[1, 4, -1], [0, 2, 3], [5, -1, -1]]
    assert by_class(labels, 3).tolist() == [[1], [0], [5]]
    x = np.arange(6, dtype=np.uint8)[:, None, None, None] * 40 + np.zeros((6, 2, 2, 1), np.uint8)
    picture, _ = save_samples(tmp_path / "grid.png", x, labels)
    assert picture.size[0] == picture.size[1]


def trained(path, monkeypatch):
    """The config of a network that is told labels, and its run of two steps by the command line."""
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Labelled())
    config = tiny_config(data__condition=("label",), training__num_steps=2, network__dropout=0.0)
    config.network.label_dropout = 0.1
    workdir = Workdir(path / "run")
    assert modes.train(config, workdir) == 0
    return config, workdir


def test_the_command_line_draws_and_notes_labels(tmp_path, monkeypatch):
    config, workdir = trained(tmp_path, monkeypatch)
    labels = json.loads(workdir.config.read_text())["data"]["labels"]
    assert len(labels["frequencies"]) == 10 and sum(labels["frequencies"]) == pytest.approx(1)
    config.data.path = "gone"  # nothing is read where a run has its record
    config.sampling.label = "3,7"
    assert modes.sample(config, workdir) == 0
    with np.load(workdir.samples / "ancestral-4-seed0-label_3_7" / "samples.npz") as arrays:
        assert arrays["label"].tolist() == [3, 7] * 4


REFUSED = [
    ({"data__condition": ("label",), "network__conditional": False}, r"set network\.conditional=True, not False"),
    ({"data__condition": ("low",)}, r"'low', which network\.name='ncsnpp' does not take: it takes \('label', 'c"),
    ({"data__condition": ("label",), "network__name": "ncsnv2_64"}, r"does not take: choose ncsnpp or ddpm"),
    ({"network__label_dropout": 0.1}, r"network\.label_dropout=0\.1 has no effect without labels"),
    ({"sampling__label": "3"}, r"sampling\.label='3' has no effect without labels"),
    ({"likelihood__label": "3"}, r"likelihood\.label='3' has no effect without labels"),
    ({"network__null_label": "zero"}, r"network\.null_label='zero' has no effect without labels"),
    ({"data__condition": ("label",), "network__null_label": "learned"}, "network.label_dropout=0.0 drops none"),
    ({"data__num_classes": 3}, r"data\.num_classes=3 has no effect without labels"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_labels_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        validate(tiny_config(**changes))


@pytest.mark.parametrize("section", ["sampling", "likelihood"])
def test_a_label_out_of_range_is_refused_before_anything_compiles(section):
    with pytest.raises(UsageError, match=rf"{section}\.label=10 is no class: the data have 10, 0 to 9"):
        build(tiny_config(**{"data__condition": ("label",), f"{section}__label": "10"}))


@pytest.mark.parametrize("held_out", [0, 4])
def test_arrays_with_labels_need_no_test_split(tmp_path, held_out):
    x = np.random.RandomState(0).randint(0, 256, (24, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", train=x, labels=np.arange(24)[:, None] % 3)
    config = tiny_config(data__condition=("label",), data__name="array", data__path=str(tmp_path / "x.npz"))
    config.data.held_out = held_out
    built = build(config)
    assert built.spec.labels is not None and built.spec.labels.count == 3
    own, other = built.data.condition["label"], built.data.held_out_condition
    assert len(own) == 24 - held_out and (len(other["label"]) == held_out if held_out else not other)
    for part, labels in ((built.data.train, own), (built.data.held_out, other.get("label", ()))):
        for image, label in zip(part[np.arange(len(part))], labels):
            assert label == np.flatnonzero((x == image).all((1, 2, 3)))[0] % 3


def test_labels_beyond_the_runs_classes_are_refused():
    """As of an import that was told of too few."""
    record = {"data": Spec((8, 8, 1), labels=Labels((0.5, 0.5))).to_json()}
    with pytest.raises(UsageError, match=r"there is a label 9 and classes 0 to 1: give the data it began with"):
        _ = build(tiny_config(data__condition=("label",)), record).data


def test_a_system_of_ones_own_takes_any_data_and_conditions(tmp_path):
    """Vectors with a mask and labels: what conditions comes with the batch, by name."""
    mask = np.random.RandomState(0).randint(0, 2, (24, 5)).astype(np.uint8)
    x = np.random.RandomState(1).normal(size=(24, 5)).astype(np.float32)
    np.savez(tmp_path / "x.npz", train=x, mask=mask, label=np.arange(24))
    config = tiny_config(data__condition=("mask", "label"), data__name="array", data__path=str(tmp_path / "x.npz"))
    config.data.update(random_flip=False, uniform_dequantization=False)
    config.logging.samples_every = 5
    with pytest.raises(UsageError, match=r"samples have labels, texts, .* set logging\.samples_every=0"):
        build(config, system=lambda config, spec, drawing, frozen: game.Game())
    config.logging.samples_every = 0
    built = build(config, system=lambda config, spec, drawing, frozen: game.Game())
    batch = built.stream.batches(0, 8, 1)
    numbers = built.stream.indices(0, 8)
    np.testing.assert_array_equal(batch.condition["mask"][0], mask[numbers])
    np.testing.assert_array_equal(batch.condition["label"][0], numbers)
    assert built.spec.shape == (5,) and built.spec.kind == "real"
    with pytest.raises(UsageError, match="'mask', which network"):
        build(config)


@pytest.mark.parametrize(("labels", "message"), [
    (np.array([0, 2**32 + 2, 1, 1]), "give one integer of 0 or more"),
    (np.array([0.0, 1.0, 1.0, 1.0]), "give one integer of 0 or more"),
    (np.array([0, 1, 77, 1]), r"the labels go up to 77 and there are 4 examples: number classes 0, 1"),
])  # fmt: skip
def test_labels_that_are_no_classes_are_refused(tmp_path, labels, message):
    np.savez(tmp_path / "x.npz", train=np.zeros((4, 8, 8, 1), np.uint8), labels=labels)
    config = tiny_config(data__condition=("label",), data__name="array", data__path=str(tmp_path / "x.npz"))
    with pytest.raises(UsageError, match=message):
        build(config)


def test_labels_where_there_are_none_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8, 1), np.uint8))
    config = tiny_config(data__condition=("label",), data__name="array", data__path=str(tmp_path / "x.npy"))
    with pytest.raises(UsageError, match=r"data\.condition asks for 'label' and .* has no array label or labels"):
        build(config)
