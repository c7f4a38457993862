"""Transformers against latent diffusion's own code in float64, and what masks, positions and zeros may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import SpatialTransformer, TextEncoder, Transformer, TransformerBlock
from score_sde.networks.adm import cosines_first
from score_sde.networks.attention import AttnBlockpp
from score_sde.networks.transformer import Attention, FeedForward
from tests.golden_files import agree, load, quick_jit
from tests.networks.drawing import drawn_params

NAMES = {
    "attn1": "self", "attn2": "cross", "to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "out",
    "ff.net.0.proj": "feed_forward/in", "ff.net.2": "feed_forward/out", "net.0.proj": "in", "net.2": "out",
    "norm1": "norm_self", "norm2": "norm_cross", "norm3": "norm_feed_forward", "transformer_blocks.0": "block",
    "proj_in": "in", "proj_out": "out", "norm": "norm",
}  # fmt: skip
"""Theirs and ours."""


@pytest.fixture
def wide(float64):
    """float64, under the promotion that asks for the wider of it and float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def parameters(group: str) -> dict:
    """A group's parameters, transposed as ours are: kernels [in, out]."""
    tree: dict = {}
    prefix = f"{group}__params/"
    for key, value in load("latent", "systems").items():
        if not key.startswith(prefix):
            continue
        *path, leaf = key.removeprefix(prefix).split(".")
        name, parts = ".".join(path), []
        for theirs in sorted(NAMES, key=len, reverse=True):
            if theirs in name and (name + ".").find(theirs + ".") >= 0:
                parts.append((name.find(theirs), NAMES[theirs]))
                name = name.replace(theirs, "*" * len(theirs), 1)
        node = tree
        for step in "/".join(ours for _, ours in sorted(parts)).split("/"):
            node = node.setdefault(step, {})
        if leaf == "bias":
            node["bias"] = value
        else:
            norm = "norm" in key.rsplit(".", 2)[-2] or ".norm" in key
            node["scale" if value.ndim == 1 and norm else "kernel"] = (
                value if value.ndim == 1 else value.reshape(value.shape[:2]).T
            )
    return {"params": tree}


def given(group: str, *names: str) -> list[jnp.ndarray]:
    return [jnp.asarray(load("latent", "systems")[f"{group}__{name}"]) for name in names]


def same(ours, key: str) -> None:
    agree(ours, "latent", key, "latent", folder="systems")


def test_cross_attention(wide):
    x, context, mask = given("cross", "x", "context", "mask")
    apply = jax.jit(Attention(2, dtype=jnp.float64).apply)
    same(apply(parameters("cross"), x, context), "cross__out")
    same(apply(parameters("cross"), x, context, mask), "cross__out_masked")


def test_geglu(wide):
    same(jax.jit(FeedForward(jnp.float64).apply)(parameters("geglu"), *given("geglu", "x")), "geglu__out")


def test_block(wide):
    x, context = given("block", "x", "context")
    same(jax.jit(TransformerBlock(2, jnp.float64).apply)(parameters("block"), x, context=context), "block__out")


def test_spatial_transformer(wide):
    x, context = given("spatial", "x", "context")
    network = SpatialTransformer(2, 8, groups=32, dtype=jnp.float64)
    out = jax.jit(network.apply)(parameters("spatial"), x.transpose(0, 2, 3, 1), context)
    same(jnp.transpose(out, (0, 3, 1, 2)), "spatial__out")


def test_self_attention_of_pixels_is_ddpms(wide):
    found = parameters("selfattn")["params"]
    g = {k.split("/")[1]: v for k, v in load("latent", "systems").items() if k.startswith("selfattn__params/")}
    nin = lambda name: {"W": g[f"{name}.weight"][:, :, 0, 0].T, "b": g[f"{name}.bias"]}
    tree = {"GroupNorm_0": found["norm"]} | {
        f"NIN_{i}": nin(name) for i, name in enumerate(("q", "k", "v", "proj_out"))
    }
    x = given("selfattn", "x")[0].transpose(0, 2, 3, 1)
    out = AttnBlockpp(groups=32, dtype=jnp.float64).apply({"params": tree}, x)
    same(jnp.transpose(out, (0, 3, 1, 2)), "selfattn__out")


def test_the_noise_levels_embedding_is_adms():
    t = jnp.asarray(load("latent", "systems")["temb__t"])
    agree(cosines_first(t, 32), "latent", "temb__32", "latent, float32", folder="systems")


def text(rng=0, batch=3, length=5, vocabulary=7) -> tuple[jnp.ndarray, jnp.ndarray]:
    random = np.random.default_rng(rng)
    mask = np.arange(length) < random.integers(1, length, batch)[:, None]
    return jnp.asarray(random.integers(0, vocabulary, (batch, length)), jnp.int32), jnp.asarray(mask)


@pytest.fixture(scope="module")
def encoder():
    """An encoder with positions, jitted, and its parameters."""
    network, (tokens, mask) = TextEncoder(7, 8, 2, 2), text()
    return quick_jit(network.apply), drawn_params(network, tokens, mask)


def test_masked_tokens_change_nothing(encoder):
    apply, params = encoder
    tokens, mask = text()
    rows, there = apply(params, tokens, mask)
    others, _ = apply(params, jnp.where(mask, tokens, 6 - tokens), mask)
    np.testing.assert_array_equal(np.asarray(there), np.pad(mask, ((0, 0), (1, 0)), constant_values=True))
    np.testing.assert_array_equal(rows, others)


def test_nothing_but_the_null_token_is_left_of_a_text_of_which_nothing_is_there(encoder):
    apply, params = encoder
    tokens, _ = text()
    rows, there = apply(params, tokens, jnp.zeros(tokens.shape, bool))
    assert there.sum(1).tolist() == [1, 1, 1] and np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[:, 0], np.broadcast_to(rows[0, 0], (3, 8)))


def test_the_order_of_tokens_matters_by_positions_alone(encoder):
    tokens, everything = text()[0], jnp.ones((3, 5), bool)
    network = TextEncoder(7, 8, 2, 2, positions=False)
    params = drawn_params(network, tokens, everything)
    turned = lambda apply, params: [apply(params, t, everything)[0] for t in (tokens, tokens[:, ::-1])]
    one, other = turned(quick_jit(network.apply), params)
    np.testing.assert_allclose(one[:, 1:], other[:, :0:-1], atol=2e-6)
    one, other = turned(*encoder)
    assert np.abs(one[:, 1:] - other[:, :0:-1]).max() > 0.01


def test_rows_of_an_encoder_of_ones_own():
    random = np.random.default_rng(0)
    rows, mask = jnp.asarray(random.normal(size=(3, 5, 4)), jnp.float32), text()[1]
    network = TextEncoder(0, 8, 1, 2)
    params, apply = drawn_params(network, rows, mask), quick_jit(network.apply)
    one, _ = apply(params, rows, mask)
    other, _ = apply(params, jnp.where(mask[..., None], rows, jnp.nan), mask)
    np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"the text has shape \(3, 5\): give tokens \[B, L\], or with vocabulary=0"):
        network.apply(params, text()[0], mask)


def test_at_first_the_pixels_are_as_they_were():
    x, context = jax.random.normal(jax.random.key(0), (2, 4, 2, 8)), jnp.ones((2, 3, 6))
    network = SpatialTransformer(2)
    found = quick_jit(network.init_with_output)(jax.random.key(1), x, context)[0]
    np.testing.assert_array_equal(found, x)


def test_heads_divide_the_channels():
    with pytest.raises(ValueError, match="8 channels of attention do not divide among 3 heads"):
        Attention(3).init(jax.random.key(0), jnp.zeros((1, 2, 8)))


class TestTokens:
    """The transformer of tokens: what it begins with, what it sees, how it drops, and its dtypes."""

    @staticmethod
    def made(**fields):
        network = Transformer(5, 8, 2, 2, **fields)
        x = jax.random.randint(jax.random.key(0), (3, 6), 0, 6)
        params = network.init(jax.random.key(1), x, jnp.ones(3))["params"]
        out = jax.random.normal(jax.random.key(2), params["out"]["kernel"].shape)
        return network, x, params, {**params, "out": {**params["out"], "kernel": out}}

    def test_logits_are_even_at_first_and_every_token_sees_all(self):
        network, x, params, moved = self.made()
        call = jax.jit(lambda p, x, t: network.apply({"params": p}, x, t))
        assert np.abs(call(params, x, jnp.ones(3))).max() < 1e-3
        first, last = (call(moved, x.at[:, i].set((x[:, i] + 1) % 6), jnp.ones(3)) for i in (0, 5))
        before = call(moved, x, jnp.ones(3))
        assert before.shape == (3, 6, 5) and before.dtype == jnp.float32
        assert np.abs(first - before).min(-1).min() > 0 and np.abs(last - before).min(-1).min() > 0
        assert np.abs(call(moved, x, jnp.full(3, 500.0)) - before).max() > 1e-3

    def test_it_may_be_told_no_noise_level(self):
        network, x, _, moved = self.made(conditional=False)
        one, other = (network.apply({"params": moved}, x, jnp.full(3, t)) for t in (1.0, 500.0))
        np.testing.assert_array_equal(one, other)

    def test_dropout_is_by_the_examples_keys(self):
        network, x, _, moved = self.made(dropout=0.5)
        keys = jax.random.split(jax.random.key(3), 3)
        call = lambda x, keys: network.apply({"params": moved}, x, jnp.ones(len(x)), None, keys)
        dropped = call(x, keys)
        np.testing.assert_allclose(call(x[1:2], keys[1:2]), dropped[1:2], rtol=1e-4, atol=1e-5)
        assert np.abs(dropped - call(x, None)).max() > 0.1
        np.testing.assert_array_equal(call(x, None), self.made()[0].apply({"params": moved}, x, jnp.ones(3)))

    def test_remat_and_narrow_products_change_rounding_alone(self):
        network, x, _, moved = self.made()
        expected = network.apply({"params": moved}, x, jnp.ones(3))
        for remat in ("dots", "blocks"):
            again = network.clone(remat=remat).apply({"params": moved}, x, jnp.ones(3))
            np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-5)
        narrow = network.clone(dtype=jnp.bfloat16).apply({"params": moved}, x, jnp.ones(3))
        assert narrow.dtype == jnp.float32
        np.testing.assert_allclose(narrow, expected, atol=0.3)
