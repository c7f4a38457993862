"""What a score network is told: a condition of one's own, whatever it is called, and a text where there is one."""

from types import SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.captions import TextSpec
from score_sde.experiment import asking, build
from score_sde.rng import example_keys, positions, root_key
from score_sde.systems.score import Dropped, Score
from tests.gradients import NO_VIEW
from tests.tiny import tiny_config, with_network


class Masked(nn.Module):
    """A number times x where the mask is, plus one for each label."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        told = condition or {"mask": jnp.ones(x.shape[:-1]), "label": jnp.zeros(len(x), jnp.int32)}
        table = nn.Embed(11, 1, name="Embed_label")(told["label"])
        return nn.Dense(1)(x) * told["mask"][..., None] + table[:, None, None, :]


def system(probability: float = 0.0, text: TextSpec | None = None) -> Score:
    """A score system that is told labels and a mask."""
    changes = {"labelled": True, "dropped": Dropped(probability, 10), "text": text}
    return with_network(build(tiny_config()), Masked(), **changes).score_system


@pytest.fixture(scope="module")
def given():
    random = np.random.RandomState(0)
    x, mask = (jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((6, 8, 8, 1), (6, 8, 8)))
    params = {"Dense_0": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}
    params["Embed_label"] = {"embedding": jnp.arange(11.0)[:, None]}
    return {"score": params}, x, {"mask": mask, "label": jnp.arange(6), "tokens": mask, "embeddings": mask}


class TestOfOnesOwn:
    def test_the_network_is_told(self, given):
        params, x, condition = given
        found = system().apply(params, condition)(x, jnp.ones(6), jnp.ones(6))
        expected = x * condition["mask"][..., None] + jnp.arange(6.0)[:, None, None, None]
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_labels_alone_are_dropped(self, given):
        params, x, condition = given
        keys, u = example_keys(root_key(0), positions(0, 6)), jnp.linspace(0.2, 0.9, 6)
        own, null = system(1 - 1e-7), {**condition, "label": jnp.full(6, 10)}
        found = own.losses(params, NO_VIEW, keys, x, condition, u)[0]
        np.testing.assert_allclose(found, own.losses(params, NO_VIEW, keys, x, null, u, training=False)[0], rtol=1e-5)

    def test_both_of_a_guided_pair_have_it(self, given):
        condition = given[2]
        found = system().and_null(condition)
        assert found["label"].tolist() == [*range(6), *[10] * 6]
        for name in ("mask", "tokens", "embeddings"):
            np.testing.assert_array_equal(found[name], jnp.concatenate([condition[name]] * 2))


class TestOfAText:
    text = TextSpec(3, ("a", "cat"))

    def test_what_is_there_of_it_is_dropped_and_null(self):
        condition = {name: jnp.ones((6, *shape), dtype) for name, (shape, dtype) in self.text.shapes.items()}
        own, keys = system(1 - 1e-7, self.text), example_keys(root_key(0), positions(0, 6))
        for mask in (condition["mask"], condition["mask"].astype(jnp.float32)):
            told = {**condition, "mask": mask}
            assert not own.with_dropped(keys, told, True)["mask"].any() and own.with_dropped(keys, told, False) is told
            assert own.and_null(told)["mask"].any(1).tolist() == [True] * 6 + [False] * 6

    def test_a_guide_that_reads_none_is_not_told(self, given):
        seen, condition = [], given[2]

        class Guide:
            def score(self, params, condition, backwards):
                seen.append(set(condition))
                return lambda x, t: x

        for reads in (None, self.text):
            found = SimpleNamespace(
                experiment=SimpleNamespace(system=Guide(), spec=SimpleNamespace(text=reads)), params={}
            )
            for text in (None, self.text):
                asking.guide({"guide": found}, {}, condition, False, text)  # pyright: ignore[reportArgumentType]
        every = {"mask", "label", "tokens", "embeddings"}
        assert seen == [every, {"label", "embeddings"}, every, every]
