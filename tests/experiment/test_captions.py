"""Captions of runs: in training, held-out loss, sampling and likelihood; what is asked for, kept and refused."""

import pathlib
import re
import shlex

import jax
import numpy as np
import pytest

from score_sde.cli.main import parse
from score_sde.cli.naming import samples_name
from score_sde.config.validation import validate
from score_sde.data.captions import TextSpec
from score_sde.data.spec import Labels, Spec
from score_sde.errors import UsageError
from score_sde.experiment import Experiment, build
from score_sde.experiment.captions import asked_texts
from score_sde.experiment.conditions import Conditions
from score_sde.experiment.generation import Generator
from score_sde.guidance.classifier_free import with_null
from score_sde.loop.heldout import HeldOut
from score_sde.rng import Purpose, child, example_keys, positions, root_key, uniform
from score_sde.systems.score import Dropped
from tests.gradients import NO_VIEW, shaken_state
from tests.tiny import tiny_config, with_network
from tests.training.small import Told

WORDS = ("a", "cat", "dog", "the")
SPEC = Spec((8, 8, 1), text=TextSpec(3, WORDS, ("a cat", "the dog", "dog")))


def config(**changes):
    own = {"data__name": "digit_pairs", "data__height": 8, "data__width": 16, "data__random_flip": False}
    own |= {"data__condition": ("caption",), "network__text_resolutions": (8,), "network__text_width": 8}
    return tiny_config(**own | {"network__dropout": 0.0} | changes)


def told(**changes) -> Experiment:
    """Pairs of digits and their captions, told to a network that adds a number for each word that is there."""
    return with_network(build(config(**changes)), Told())


def captions(*asked, seed=0, count=6, first=0, spec=SPEC) -> list[str]:
    found = Conditions(spec).of_samples("", seed, positions(first, count), *asked)
    return spec.text.decode(jax.tree.map(np.asarray, found)).tolist()


def test_captions_of_samples_have_the_trainings_law_and_depend_on_seed_and_number_alone():
    found = captions(seed=3, count=9000)
    for caption in SPEC.text.captions:
        np.testing.assert_allclose(found.count(caption) / 9000, 1 / 3, atol=0.03)
    assert captions(seed=3, count=2, first=777) == found[777:779]
    assert captions(seed=4, count=50) != found[:50]
    both = Conditions(Spec((8, 8, 1), labels=Labels((0.5, 0.5)), text=SPEC.text)).of_samples("", 3, positions(0, 900))
    mine = SPEC.text.decode(both)
    shares = [np.mean(np.asarray(both["label"])[mine == caption]) for caption in SPEC.text.captions]
    np.testing.assert_allclose(shares, 0.5, atol=0.15)  # of draws of their own
    assert mine.tolist() == found[:900]


def test_captions_may_be_asked_for(tmp_path):
    assert captions("The cat!") == ["the cat"] * 6
    assert captions("a cat. the") == ["a cat the"] * 6
    file = tmp_path / "asked.txt"
    file.write_text("a cat\n\nthe dog\n")
    assert captions(str(file)) == ["a cat", "", "the dog"] * 2
    assert captions(str(file), first=2**32 + 1, count=2) == [
        ["a cat", "", "the dog"][(2**32 + 1 + i) % 3] for i in (0, 1)
    ]
    with pytest.raises(UsageError, match=r"sampling\.caption='a cow' has the word 'cow', which no caption"):
        captions("a cow")
    with pytest.raises(
        UsageError, match=r"sampling\.caption='no/such\.txt' is no file: name one with a caption a line"
    ):
        captions("no/such.txt")
    file.write_text("")
    with pytest.raises(UsageError, match="is empty: write a caption a line"):
        captions(str(file))
    file.write_text("a cot")
    with pytest.raises(UsageError, match=r"has the word 'cot', .*: did you mean cat"):
        captions(str(file))


def test_embeddings_are_asked_for_by_a_file(tmp_path):
    file, rows = tmp_path / "rows.npz", np.arange(12.0).reshape(2, 3, 2)
    np.savez(file, embeddings=rows, mask=[[1, 1, 0], [1, 1, 1]])
    text = TextSpec(3, width=2)
    spec = Spec((8, 8, 1), text=text)
    found = Conditions(spec).of_samples("", 0, positions(0, 3), str(file))
    np.testing.assert_array_equal(found["embeddings"], rows[[0, 1, 0]])
    assert found["mask"].tolist() == [[True, True, False], [True] * 3, [True, True, False]]
    np.savez(file, embeddings=rows[:, :2])
    with pytest.raises(UsageError, match=r"embeddings of shape \(2, 2, 2\): the network reads \[K, 3, 2\]"):
        asked_texts(str(file), text)
    with pytest.raises(UsageError, match=r"sampling\.caption is empty, .*: name an \.npz file"):
        Conditions(spec).of_samples("", 0, positions(0, 3))
    with pytest.raises(UsageError, match=r"cannot be read .*: name an \.npz file with embeddings"):
        asked_texts("a cat", text)
    np.savez(file, embeddings=rows, captions=["a cat", "the dog"])
    assert asked_texts(str(file), text)["mask"].all()


def test_files_of_no_embeddings_are_refused(tmp_path):
    file, rows, text = tmp_path / "rows.npz", np.arange(12.0).reshape(2, 3, 2), TextSpec(3, width=2)
    np.savez_compressed(file, embeddings=rows)
    whole = file.read_bytes()
    torn = bytes(b ^ 255 if 60 < i < 120 else b for i, b in enumerate(whole))
    np.save(tmp_path / "rows.npy", rows)
    contents = {"part": whole[:-30], "torn": torn, "array": (tmp_path / "rows.npy").read_bytes(), "empty": b""}
    for name, content in contents.items():
        file.write_bytes(content)
        with pytest.raises(UsageError, match=r"rows\.npz' cannot be read \(.+\): name an \.npz file with embeddings"):
            asked_texts(str(file), text)
            raise AssertionError(name)
    for kept, mask in ((rows.astype(str), np.ones((2, 3))), (rows, np.full((2, 3), "yes"))):
        np.savez(file, embeddings=kept, mask=mask)
        with pytest.raises(UsageError, match=r"has \w+ of dtype <U\d+: give it real numbers"):
            asked_texts(str(file), text)


def test_dropped_texts_are_null_as_those_of_the_other_score_by_the_examples_own_keys():
    keys, n = example_keys(root_key(0), positions(0, 400)), 400
    condition = {"label": np.arange(n) % 4, "tokens": np.ones((n, 3), np.int32), "mask": np.ones((n, 3), bool)}
    found = jax.tree.map(np.asarray, Dropped(0.3, null=4)(keys, condition, text=True))
    expected = np.asarray(uniform(child(keys, Purpose.CONDITION))) < 0.3
    np.testing.assert_array_equal(found["mask"], np.repeat(~expected[:, None], 3, 1))
    np.testing.assert_array_equal(found["label"] == 4, expected)
    assert found["tokens"] is not None and found["tokens"].all()
    null = with_null(condition, 4, text=True)
    assert null["mask"][:n].all() and not null["mask"][n:].any() and (null["label"][n:] == 4).all()
    np.testing.assert_array_equal(null["tokens"], np.ones((2 * n, 3)))


def test_the_stream_and_the_held_out_loss_bring_every_examples_own_caption():
    experiment = told(evaluation__every=1, evaluation__num_images=24, network__label_dropout=0.999999)
    text, data = experiment.spec.text, experiment.data
    batch = experiment.stream.batches(5, 16, 2)
    numbers = experiment.stream.indices(5, 32)
    found = {name: value.reshape(32, 4) for name, value in batch.condition.items()}
    assert text.decode(found).tolist() == data.condition["caption"][numbers].tolist()
    params = shaken_state(experiment).params
    one, other = (
        experiment.loss(params, NO_VIEW, batch._replace(x=batch.x[0], position=batch.position[0], condition=c))[0]
        for c in ({n: v[0] for n, v in batch.condition.items()}, {n: v[1] for n, v in batch.condition.items()})
    )
    np.testing.assert_array_equal(one, other)  # dropped
    found = HeldOut(experiment)({"raw": params})["raw"]
    chosen = np.sort(np.random.RandomState(0).permutation(len(data.held_out))[:24])
    own = text.encode(data.held_out_condition["caption"][chosen])
    of = lambda condition: experiment.loss(
        params, NO_VIEW, batch._replace(x=data.held_out[chosen], position=positions(0, 24), condition=condition), True
    )[0].mean()
    np.testing.assert_allclose(found, of(own), rtol=1e-5)
    assert abs(float(of({**own, "tokens": own["tokens"][::-1]})) - found) > 1e-5


def test_samples_tell_their_captions_and_do_not_depend_on_the_batch(tmp_path):
    file = tmp_path / "asked.txt"
    file.write_text("three left of seven\nnine left of\n\n")
    experiment = told(sampling__caption=str(file), sampling__batch_size=8)
    params = shaken_state(experiment).params
    several = Generator(experiment)(params, 11, show=False)
    alone = Generator(told(sampling__caption=str(file), sampling__batch_size=11))(params, 11, show=False)
    assert several.condition["caption"].tolist() == [*(["three left of seven", "nine left of", ""] * 4)[:11]]
    assert set(several.condition) == {"caption"} and several.classes is several.condition["caption"]
    assert np.abs(several.x.astype(int) - alone.x).max() <= 1
    one = Generator(told(sampling__caption="Nine left of"))(params, 10, show=False)
    assert np.abs(several.x[[1, 4, 7]].astype(int) - one.x[[1, 4, 7]]).max() <= 1
    assert np.abs(several.x[0].astype(int) - one.x[0]).max() > 1


def test_guidance_is_between_the_caption_and_the_null_token():
    plain, null = told(sampling__caption="one left of two", network__label_dropout=0.1), told(sampling__caption=" ")
    params = shaken_state(plain).params
    of = lambda experiment, scale: Generator(guided(experiment, scale))(params, 8, show=False).x.astype(int)
    assert np.abs(of(plain, 1.0) - of(plain, 2.0)).max() > 1
    assert np.abs(of(plain, 0.0) - Generator(null)(params, 8, show=False).x).max() <= 1


def guided(experiment: Experiment, scale: float) -> Experiment:
    experiment.config.guidance.scale = scale
    return experiment


def test_the_vocabulary_stands_in_the_run(tmp_path):
    experiment = build(config())
    record = {"data": experiment.notes()["data"]}
    again = build(config(data__path=""), record)
    assert again.spec == experiment.spec and "data" not in again.__dict__
    assert again.spec.text.words == tuple(sorted(experiment.spec.text.words)) and len(again.spec.text.words) == 12
    with pytest.raises(UsageError, match=r"has the word 'elven', .*: did you mean seven"):
        build(config(sampling__caption="elven left of two"), record)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network__text_resolutions": ()}, r"text_resolutions=\(\) leaves data\.condition=\('caption',\) unread"),
        ({"network__text_resolutions": (4,)}, r"text_resolutions contains 4, which never occurs: choose from \[8\]"),
        ({"network__text_heads": 3}, r"text_width=8 does not divide among network\.text_heads=3"),
        ({"network__text_width": 16, "network__text_heads": 16}, r"do not divide the 8 channels of level 8"),
        ({"data__condition": ()}, r"network\.text_resolutions=\(8,\) has no effect without a text"),
        ({"data__condition": ("caption", "embeddings")}, "names two texts"),
        ({"network__name": "adm"}, "data.condition contains 'caption', which network.name='adm' does not take"),
        ({"system__name": "reflow"}, r"system\.name='reflow' learns of none: set it to 'score'"),
        ({"guidance__scale": 2.0}, r"takes a score without a label, which network\.label_dropout=0\.0 has not trained"),
        ({"sampling__label": "3"}, "has no effect without labels"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        validate(config(**changes))


def test_examples_have_their_own_captions():
    """In likelihoods and reports, whatever sampling.caption asks."""
    spec = Spec((8, 8, 1), labels=Labels((0.5, 0.5)), text=SPEC.text)
    given = {"caption": np.array(["a cat", "the mouse", "dog"]), "label": np.array([0, 1, 1])}
    found = Conditions(spec).of_examples("", given, np.array([2, 1]))
    assert spec.text is not None and spec.text.decode(found).tolist() == ["dog", "the"]
    assert found["label"].tolist() == [1, 1]
    every = Conditions(spec).of_data(("caption", "label"), given)
    assert spec.text.decode(every).tolist() == ["a cat", "the", "dog"] and every["label"] is given["label"]
    assert Conditions(spec).of_data(("label",), given) == {"label": given["label"]}


def test_folders_say_what_was_asked(tmp_path):
    name = lambda caption: samples_name(config(sampling__caption=caption).sampling, config().guidance)
    assert name("three left of seven").endswith("-seed0-caption_three_left_of_seven")
    file = tmp_path / "asked.txt"
    file.write_text("one left of two")
    one = name(str(file))
    file.write_text("two left of one")
    assert "-caption_asked_" in one and name(str(file)) != one


def test_the_guides_commands_are_valid_and_its_paths_there(monkeypatch):
    root = pathlib.Path(__file__).parents[2]
    guide = (root / "docs" / "words.md").read_text()
    monkeypatch.chdir(root)
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", guide, re.DOTALL)).replace("\\\n", " ")
    commands = [line.split("launch.py")[1] for line in blocks.splitlines() if "launch.py" in line]
    assert len(commands) >= 3
    for command in commands:
        validate(parse(["launch.py", *shlex.split(command)]).config)
    for path in re.findall(r"`((?:score_sde|configs|benchmarks)/[\w/.]+)`", guide):
        assert (root / path).exists(), path
    for link in re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", guide):
        assert (root / "docs" / link).exists(), link
