"""ADM's U-Net and classifiers and EDM's DhariwalUNet give the recorded outputs of their codes."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.adapters import adm
from score_sde.networks import ADM, ADMEncoder, dhariwal
from score_sde.networks.adm import ORDERS, apart, cosines_first
from tests import golden_nets
from tests.golden_files import quick_jit, relative_error
from tests.golden_nets import TOLERANCES, arrays, bound, edm_conditions, edm_denoiser, nchw, nhwc, state
from tests.networks.drawing import drawn_params

FILE = pathlib.Path("some.pt")
KINDS: dict[str, Any] = {"adm_unet": ADM, "adm_superres": ADM, "adm_classifier": ADMEncoder}


def network_of(name: str) -> Any:
    c = golden_nets.config(name)
    own = {"label_rows": c["num_classes"]} if c.get("num_classes") else {"pool": c["pool"]} if "pool" in c else {}
    return KINDS["_".join(name.split("_")[:2])](
        nf=c["model_channels"],
        ch_mult=tuple(c["channel_mult"]),
        num_res_blocks=c["num_res_blocks"],
        attn_resolutions=tuple(c["image_size"] // rate for rate in c["attention_resolutions"]),
        head_channels=c.get("num_head_channels", 64),
        num_heads=c.get("num_heads", 0),
        scale_shift=c["use_scale_shift_norm"],
        resblock_updown=c["resblock_updown"],
        attention_order="new" if c.get("use_new_attention_order") else "legacy",
        out_channels=c["out_channels"],
        **own,
    )


@pytest.mark.parametrize("name", ["adm_unet_cond", "adm_unet_neworder", "adm_superres"])
def test_u_nets_of_adm(name: str) -> None:
    """The super-resolution network is shown the larger picture beside x."""
    golden = arrays(name)
    foreign = adm.read(FILE, state(name))
    x = np.concatenate([nhwc(golden[n]) for n in ("x", "upsampled") if n in golden], -1)
    options = {"condition": {"label": golden["y"].astype(np.int32)}} if "y" in golden else {}
    output = bound(network_of(name), foreign.ema, **options)(x, golden["timesteps"])
    assert relative_error(nchw(output), golden["output"]) < TOLERANCES["ADM"]


@pytest.mark.parametrize("name", ["adm_classifier_attnpool", "adm_classifier_adaptive"])
def test_classifiers_of_adm(name: str) -> None:
    golden, network = arrays(name), network_of(name)
    params = adm.read(FILE, state(name)).ema
    x, t = nhwc(golden["x"]), golden["timesteps"]
    assert relative_error(bound(network, params)(x, t), golden["output"]) < TOLERANCES["ADM"]

    def log_prob(x: jax.Array) -> jax.Array:
        logits = network.apply({"params": params}, x, t)
        return jnp.take_along_axis(jax.nn.log_softmax(logits), golden["y"][:, None], 1).sum()

    gradient = quick_jit(jax.grad(log_prob))(x)
    assert relative_error(nchw(gradient), golden["grad_log_prob"]) < TOLERANCES["ADM"]


def test_edms_dhariwal_unet() -> None:
    """A label beyond the classes is the zero vector; the augmentation's left out is its term left out."""
    name = "edm_adm_cond"
    golden = arrays(name)
    network = dhariwal(nf=16, ch_mult=(1, 4), num_res_blocks=1, attn_resolutions=(4,), augment_dim=9, label_rows=5)
    params = adm.edm_tree(FILE, state(name, "model."), network, 8)
    for key, told in edm_conditions(golden).items():
        denoised = edm_denoiser(name, bound(network, params, condition=told))
        assert relative_error(denoised, golden[key]) < TOLERANCES["EDM"], key


def test_orders_of_queries_keys_and_values() -> None:
    """Head h, part p, channel c is the number 100 h + 10 p + c wherever it lies."""
    heads, channels = 2, 3
    number = 100 * np.arange(heads)[:, None, None] + 10 * np.arange(3)[None, :, None] + np.arange(channels)
    axes = {"legacy": (0, 1, 2), "new": (1, 0, 2), "edm": (0, 2, 1)}
    assert axes.keys() == set(ORDERS)
    for order, places in axes.items():
        parts = apart(jnp.asarray(number.transpose(places).reshape(1, 1, -1)), heads, order)
        for part, found in enumerate(parts):
            np.testing.assert_array_equal(found[0, 0], number[:, part])


def test_the_embedding_of_the_noise_level() -> None:
    v = np.array([0.0, 3.0, 999.0])
    angle = v[:, None] * 10000.0 ** (-np.arange(4) / 4)
    np.testing.assert_allclose(
        cosines_first(jnp.asarray(v, jnp.float32), 8), np.concatenate([np.cos(angle), np.sin(angle)], 1), atol=1e-4
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"attention_order": "odd"}, "attention_order is 'odd'"),
        ({"num_heads": 3}, "do not divide among 3 heads"),
        ({"ch_mult": (1, 1, 1, 1, 1)}, "cannot be halved 4 times"),
        ({"label_rows": 2}, "has 2 labels and was given none"),
    ],
)
def test_bad_input(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        options = {"nf": 32, "ch_mult": (1, 1), "num_res_blocks": 1, "attn_resolutions": (4,), **fields}
        jax.eval_shape(ADM(**options).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.ones(1))
    with pytest.raises(ValueError, match="pool is 'spatial'"):
        ADMEncoder(pool="spatial")


def test_dropout_goes_by_its_keys() -> None:
    """The same key gives the same mask wherever its example stands, and none is dropped without keys."""
    network = ADM(nf=32, ch_mult=(1, 1), num_res_blocks=1, attn_resolutions=(), dropout=0.5)
    x, t = jnp.ones((2, 4, 4, 1)), jnp.ones(2)
    params = drawn_params(network, x, t)
    call = quick_jit(lambda keys: network.apply(params, x, t, None, keys))
    keys = jax.random.split(jax.random.key(1), 2)
    output, swapped = call(keys), call(keys[::-1])
    np.testing.assert_array_equal(output, swapped[::-1])
    assert relative_error(output[0], output[1]) > 1e-3
