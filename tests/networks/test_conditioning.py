"""Class labels in the U-Nets: where they enter, with which weights, and that nothing changes without them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from score_sde.data import spec
from score_sde.experiment import objects
from score_sde.networks.conditioning import Labels
from score_sde.networks.ncsnpp import NCSNpp
from tests.golden_files import relative_error
from tests.tiny import tiny_config

TINY = {"nf": 4, "ch_mult": (1,), "num_res_blocks": 1, "attn_resolutions": (), "embedding_type": "positional"}
X, LEVEL = np.random.RandomState(0).normal(size=(3, 4, 4, 1)).astype("f"), jnp.array([1.0, 50.0, 900.0])
LABEL = jnp.array([0, 2, 4])


def made(rows: int, **options):
    network = NCSNpp(**TINY, scale_by_sigma=False, dropout=0.0, label_rows=rows, **options)
    condition = {"label": LABEL} if rows else {}
    shapes = jax.eval_shape(network.init, jax.random.key(0), X, LEVEL, None, None, condition)
    leaves, tree = jax.tree.flatten(shapes)
    return network, tree.unflatten([0.3 * np.random.RandomState(i).normal(size=s.shape) for i, s in enumerate(leaves)])


@pytest.mark.parametrize(("embedding", "leaves"), [
    ("edm", {("Dense_label", "kernel"): (5, 4), ("Dense_label", "bias"): (4,)}),
    ("adm", {("Embed_label", "embedding"): (5, 16)}),
])  # fmt: skip
def test_the_rest_of_the_tree_is_as_ever_and_zero_weights_change_nothing(embedding, leaves):
    network, params = made(5, label_embedding=embedding)
    plain, without = made(0)
    flat, other = flatten_dict(params["params"]), flatten_dict(without["params"])
    assert {name: np.shape(flat[name]) for name in flat.keys() - other.keys()} == leaves
    assert other.keys() < flat.keys()
    name = next(iter(leaves))[0]
    zeroed = {"params": {**without["params"], name: jax.tree.map(np.zeros_like, params["params"][name])}}
    run = jax.jit(network.apply)
    expected = jax.jit(plain.apply)(without, X, LEVEL)
    np.testing.assert_array_equal(run(zeroed, X, LEVEL, None, None, {"label": LABEL}), expected)
    found = run(params, X, LEVEL, None, None, {"label": LABEL})
    moved = run(params, X, LEVEL, None, None, {"label": LABEL.at[1].set(3)})
    changed = np.abs(np.asarray(found - moved)).max((1, 2, 3))
    np.testing.assert_array_equal(changed > 1e-6, [False, True, False])
    with pytest.raises(ValueError, match="the network has 5 labels and was given none"):
        network.apply(params, X, LEVEL)


class Both(nn.Module):
    """What enters before and behind the two layers, which are left out."""

    embedding: str
    null: str = "row"

    @nn.compact
    def __call__(self, h, label):
        labels = Labels(5, self.embedding, self.null)
        return labels.behind(labels.before(h, {"label": label}), {"label": label})


def test_edm_adds_a_linear_layer_of_the_scaled_one_hot_label_before_the_two_layers():
    """One-hot times sqrt(rows), with bias (Karras et al. 2022); ADM a row of a table behind them."""
    random = np.random.RandomState(0)
    kernel, bias, table = (random.normal(size=s).astype("f") for s in ((5, 4), (4,), (5, 4)))
    h = jnp.ones((3, 4))
    edm = Both("edm").apply({"params": {"Dense_label": {"kernel": kernel, "bias": bias}}}, h, LABEL)
    assert relative_error(np.asarray(edm), 1 + 5**0.5 * kernel[LABEL] + bias) < 1e-6
    adm = Both("adm").apply({"params": {"Embed_label": {"embedding": table}}}, h, LABEL)
    assert relative_error(np.asarray(adm), 1 + table[LABEL]) < 1e-6


@pytest.mark.parametrize("embedding", ["edm", "adm"])
def test_the_null_label_is_zero_or_a_vector_of_its_own_and_classes_are_what_they_are(embedding):
    """The number 5 of 5 classes. EDM's zero one-hot label leaves the bias, ADM's nothing."""
    random = np.random.RandomState(0)
    kernel, bias, table, null = (random.normal(size=s).astype("f") for s in ((5, 4), (4,), (5, 4), (1, 4)))
    rows = {"Dense_label": {"kernel": kernel, "bias": bias}} if embedding == "edm" else {}
    rows |= {"Embed_label": {"embedding": table}} if embedding == "adm" else {}
    h, label = jnp.ones((4, 4)), jnp.array([0, 5, 4, 5])
    told = 5**0.5 * kernel[[0, 0, 4, 0]] + bias if embedding == "edm" else table[[0, 0, 4, 0]]
    for choice, expected in (("zero", bias if embedding == "edm" else 0), ("learned", null)):
        own = {"Embed_null": {"embedding": null}} if choice == "learned" else {}
        found = Both(embedding, choice).apply({"params": rows | own}, h, label)
        assert relative_error(np.asarray(found), 1 + np.where((label == 5)[:, None], expected, told)) < 1e-6
        shapes = jax.eval_shape(Both(embedding, choice).init, jax.random.key(0), h, label)
        assert flatten_dict(shapes["params"]).keys() == flatten_dict(rows | own).keys()


def test_rows_are_counted_by_the_null_label():
    """A row of its own where labels are dropped, or none."""
    for null, dropout, rows in (("row", 0.0, 10), ("row", 0.1, 11), ("zero", 0.1, 10), ("learned", 0.1, 10)):
        config = tiny_config(data__condition=("label",), network__null_label=null, network__label_dropout=dropout)
        network: Any = objects.NETWORKS["ncsnpp"](config, spec.Spec((8, 8, 1), labels=spec.Labels((0.1,) * 10)))
        assert network.label_rows == rows
