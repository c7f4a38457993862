"""The generator and the critic of denoising diffusion GANs against the official code's networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.adapters.foreign import torch_to_flax
from score_sde.adapters.layout import replay
from score_sde.adapters.score_sde_torch import from_state_dict
from score_sde.networks import Critic, Generator, NCSNpp
from tests.golden_files import load, quick_jit, relative_error
from tests.networks.drawing import drawn_params

TOLERANCE = 1e-5
"""Ten times what float32 networks of other codes differ by in golden/song2021."""
GROUP = 4
"""Examples over which the official critic takes a standard deviation."""


def golden(prefix: str) -> dict[str, Any]:
    """The arrays of one group; images NHWC."""
    arrays = {k.removeprefix(prefix): v for k, v in load("ddgan", "systems").items() if k.startswith(prefix)}
    return {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 and "params" not in k else v for k, v in arrays.items()}


def state(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    return {k.removeprefix("params/"): v for k, v in arrays.items() if k.startswith("params/")}


def linear(torch: dict[str, np.ndarray], name: str, **more: str) -> dict[str, np.ndarray]:
    """A layer, or several by our names for them, in our layout; without bias where there is none."""
    leaves = {"kernel": f"{name}.weight", "bias": f"{name}.bias"}
    return {leaf: torch_to_flax(there, torch[there]) for leaf, there in leaves.items() if there in torch}


def test_the_generator_is_the_official_one():
    """Its norms' style has 1 in the bias where ours adds 1."""
    g = golden("net_g__")
    options = {"nf": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,), "dropout": 0.0}
    network = NCSNpp(**options, progressive_input="residual", embedding_type="positional", scale_by_sigma=False)
    generator, torch = Generator(network, width=8, layers=2), state(g)
    inside = {name: value for name, value in torch.items() if name.startswith("all_modules")}
    style, inputs = jnp.zeros((4, 8)), (g["x"], g["t"])
    layout, made = replay(
        lambda: jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs, condition={"style": style}))["params"]
    )
    for name, value in inside.items():
        if name.endswith("style.bias"):
            inside[name] = value - np.repeat(np.array([1, 0], np.float32), len(value) // 2)
    params = from_state_dict(inside, layout)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, made)
    mapping = {f"Dense_{i}": linear(torch, f"z_transform.{2 * i + 1}") for i in range(3)}
    variables = {"params": {"network": params, **mapping}}
    y = quick_jit(generator.apply)(variables, *inputs, condition={"latent": g["z"]})
    assert relative_error(y, g["out"]) < TOLERANCE


@pytest.fixture(scope="module")
def official():
    """The official critic's arrays, and ours with its parameters but for those of the statistic over the batch."""
    d = golden("net_d__")
    torch = state(d)
    torch["final_conv.weight"] = torch["final_conv.weight"][:, :-1]
    layers = {"Dense_0": "t_embed.main.0", "Dense_1": "t_embed.main.2", "Conv_0": "start_conv", "Conv_1": "final_conv"}
    block = {"Dense_0": "dense_t1", "Conv_0": "conv1.0", "Conv_1": "conv2.0", "Conv_2": "skip.0"}
    params: dict[str, Any] = {ours: linear(torch, name) for ours, name in (layers | {"Dense_2": "end_linear"}).items()}
    for i in range(4):
        params[f"CriticBlock_{i}"] = {ours: linear(torch, f"conv{i + 1}.{name}") for ours, name in block.items()}
    return d, Critic(nf=4, ch_mult=(1, 2, 4, 4), embedding=8), params


@pytest.mark.parametrize("key, count", [("out", 8), ("out_first_four_alone", 4)])
def test_the_critic_is_the_official_one_but_for_the_statistic_over_the_batch(official, key, count):
    """Which is added here: a channel of the mean standard deviation over groups, behind the last block."""
    d, critic, params = official
    inputs = (d["x"][:count], d["x_next"][:count], d["t"][:count])
    made = jax.eval_shape(critic.init, jax.random.key(0), *inputs)["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, made)
    _, inner = quick_jit(lambda p: critic.apply({"params": p}, *inputs, capture_intermediates=True))(params)
    h = np.asarray(inner["intermediates"]["CriticBlock_3"]["__call__"][0])
    spread = np.sqrt(h.reshape(GROUP, -1, *h.shape[1:]).var(0) + 1e-8).mean((1, 2, 3))
    channel = np.broadcast_to(np.tile(spread, GROUP)[:, None, None, None], (*h.shape[:3], 1))
    kernel = torch_to_flax("weight", d["params/final_conv.weight"])
    windows = np.pad(np.concatenate([h, channel], -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = sum(windows[:, a : a + 2, b : b + 2] @ kernel[a, b] for a in range(3) for b in range(3))
    y = y + d["params/final_conv.bias"]
    y = np.where(y > 0, y, 0.2 * y).sum((1, 2)) @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"]
    assert relative_error(y, d[key]) < TOLERANCE


def test_the_critic_and_its_penalised_gradient_in_every_form(official):
    """|grad_x D|^2 and its own gradient in the parameters, of convolutions for reverse mode too."""
    d, critic, params = official
    inputs = (d["x"], d["x_next"], d["t"])

    def penalty(critic: Critic) -> Any:
        logit = lambda params, x: jnp.sum(critic.apply({"params": params}, x, *inputs[1:]))  # pyright: ignore
        return lambda params: jnp.sum(jax.grad(logit, 1)(params, inputs[0]) ** 2)

    at = lambda critic: quick_jit(jax.value_and_grad(penalty(critic)))(params)
    expected, reference = at(critic)
    for form in ("backwards", "depthwise"):
        value, slope = at(critic.clone(convolution=form))
        assert relative_error(value, expected) < 1e-5, form
        for found, known in zip(jax.tree.leaves(slope), jax.tree.leaves(reference), strict=True):
            assert np.abs(found - known).max() <= 2e-5 * np.abs(known).max(), form


def test_a_logit_is_of_its_own_example(official):
    d, critic, params = official
    logits = quick_jit(lambda *inputs: critic.apply({"params": params}, *inputs))
    other = [np.array(d[name]) for name in ("x", "x_next", "t")]
    mine = logits(*other)
    for array in other:
        array[1:] = array[1:][::-1]
    np.testing.assert_array_equal(logits(*other)[0], mine[0])


def test_what_is_wrong_is_said(official):
    d, critic, params = official
    with pytest.raises(ValueError, match=r"images of 6x6 cannot be halved 3 times, .*critic's ch_mult: shorten it"):
        critic.apply({"params": params}, d["x"][:, :6, :6], d["x_next"][:, :6, :6], d["t"])
    generator, x = Generator(NCSNpp(nf=8, ch_mult=(1,), embedding_type="positional")), jnp.zeros((1, 8, 8, 1))
    with pytest.raises(ValueError, match=r"the condition has \['label'\]: it needs a latent \[B, L\]"):
        generator.init(jax.random.key(0), x, jnp.ones(1), condition={"label": jnp.zeros(1)})


def test_blocks_in_a_loop_have_the_style_too():
    network = NCSNpp(
        nf=8, ch_mult=(1,), num_res_blocks=2, attn_resolutions=(), embedding_type="positional", scale_by_sigma=False
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
    inputs = (x, jnp.arange(2.0), None, None, {"latent": jnp.asarray([[1.0, 0.5], [-1.0, 2.0]])})
    one = Generator(network, width=4, layers=0, tanh=False)
    params = drawn_params(one, *inputs)
    looped = Generator(network.clone(scan_blocks=True), width=4, layers=0, tanh=False)
    run = quick_jit(one.apply)
    y = run(params, *inputs)
    assert relative_error(quick_jit(looped.apply)(params, *inputs), y) < 1e-5
    assert relative_error(run(params, *inputs[:4], {"latent": inputs[4]["latent"][::-1]}), y) > 1e-3
