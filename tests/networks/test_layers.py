"""Every layer and resampling function against the official code's outputs."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import instance_norm, refinenet
from score_sde.networks.attention import AttnBlockpp
from score_sde.networks.blocks import Combine, Resample, ResnetBlockBigGANpp, ResnetBlockDDPMpp
from score_sde.networks.conv import convolve
from score_sde.networks.group_norm import GroupNorm, normalise
from score_sde.networks.layers import (
    NIN,
    Conv,
    Dropout,
    FirConv,
    GaussianFourierProjection,
    activation,
    add_channels,
    ddpm_init,
    ncsn_bias,
    ncsn_init,
    positional_embedding,
)
from score_sde.networks.resampling import (
    conv_downsample,
    downsample,
    naive_downsample,
    naive_upsample,
    upfirdn,
    upsample,
    upsample_conv,
)
from tests.golden_files import agree, load, quick_jit, relative_error, unpack

TOLERANCE = 1e-5
FIR = (1, 3, 3, 1)
LAYERS = load("layers")
X, TEMB, W = (jnp.asarray(LAYERS[name]) for name in ("x", "temb", "w_hwio"))
RELU, NEAREST = refinenet.Options(nonlinearity="relu"), refinenet.Options(interpolation="nearest_neighbor")
BIGGAN = {"init_scale": 0.0, "skip_rescale": True}

MODULES: dict[str, tuple[nn.Module, tuple]] = {
    "ResnetBlockBigGANpp_none": (ResnetBlockBigGANpp(**BIGGAN), (X, TEMB)),
    "ResnetBlockBigGANpp_outch": (ResnetBlockBigGANpp(12, **BIGGAN), (X, TEMB)),
    "ResnetBlockBigGANpp_up_fir0": (ResnetBlockBigGANpp(None, resample="up", fir_kernel=None, **BIGGAN), (X, TEMB)),
    "ResnetBlockBigGANpp_up_fir1": (ResnetBlockBigGANpp(None, resample="up", fir_kernel=FIR, **BIGGAN), (X, TEMB)),
    "ResnetBlockBigGANpp_down_fir0": (ResnetBlockBigGANpp(12, resample="down", fir_kernel=None, **BIGGAN), (X, TEMB)),
    "ResnetBlockBigGANpp_down_fir1": (ResnetBlockBigGANpp(12, resample="down", fir_kernel=FIR, **BIGGAN), (X, TEMB)),
    "ResnetBlockBigGANpp_notemb_noskiprescale": (ResnetBlockBigGANpp(skip_rescale=False), (X, None)),
    "ResnetBlockDDPMpp": (ResnetBlockDDPMpp(12, skip_rescale=True), (X, TEMB)),
    "ResnetBlockDDPMpp_convshortcut": (ResnetBlockDDPMpp(12, conv_shortcut=True), (X, TEMB)),
    "AttnBlockpp_skiprescale": (AttnBlockpp(skip_rescale=True), (X,)),
    "AttnBlockpp_noskiprescale": (AttnBlockpp(skip_rescale=False), (X,)),
    "Upsample_fir0_conv0": (Resample("up", fir_kernel=None), (X,)),
    "Upsample_fir1_conv0": (Resample("up", fir_kernel=FIR), (X,)),
    "Upsample_fir0_conv1": (Resample("up", 12, True, None), (X,)),
    "Upsample_fir1_conv1": (Resample("up", 12, True, FIR), (X,)),
    "Downsample_fir0_conv0": (Resample("down", fir_kernel=None), (X,)),
    "Downsample_fir1_conv0": (Resample("down", fir_kernel=FIR), (X,)),
    "Downsample_fir0_conv1": (Resample("down", 12, True, None), (X,)),
    "Downsample_fir1_conv1": (Resample("down", 12, True, FIR), (X,)),
    "Combine_cat": (Combine("cat"), (X[..., :3], X)),
    "Combine_sum": (Combine("sum"), (X[..., :3], X)),
    "NIN": (NIN(12), (X,)),
    "GaussianFourierProjection": (GaussianFourierProjection(8), (jnp.asarray(LAYERS["gfp_in"]),)),
    "InstanceNorm2dPlus": (instance_norm.InstanceNorm2dPlus(), (X,)),
    "InstanceNorm2d": (instance_norm.InstanceNorm2d(), (X,)),
    "VarianceNorm2d": (instance_norm.VarianceNorm2d(), (X,)),
    "ConditionalInstanceNorm2dPlus": (instance_norm.ConditionalInstanceNorm2dPlus(10), (X, jnp.array([1, 7]))),
    "CRPBlock": (refinenet.CRPBlock(8, 2, RELU), (X,)),
    "RCUBlock": (refinenet.RCUBlock(8, 2, 2, RELU), (X,)),
    "ResidualBlock_down": (refinenet.ResidualBlock(12, down=True), (X,)),
    "ResidualBlock_down_dil2": (refinenet.ResidualBlock(12, down=True, dilation=2), (X,)),
    "MSFBlock_bilinear": (refinenet.MSFBlock(12), ([X, X[:, ::2, ::2]],)),
    "MSFBlock_nearest_neighbor": (refinenet.MSFBlock(12, NEAREST), ([X, X[:, ::2, ::2]],)),
}

RESAMPLING: dict[str, partial[jax.Array]] = {
    "upsample_2d_k1331": partial(upsample, X, FIR),
    "upsample_2d_k121": partial(upsample, X, (1, 2, 1)),
    "upsample_2d_knone": partial(upsample, X),
    "upsample_2d_k1331_gain2": partial(upsample, X, FIR, gain=2.0),
    "downsample_2d_k1331": partial(downsample, X, FIR),
    "downsample_2d_k121": partial(downsample, X, (1, 2, 1)),
    "downsample_2d_knone": partial(downsample, X),
    "naive_upsample_2d": partial(naive_upsample, X),
    "naive_downsample_2d": partial(naive_downsample, X),
    "upsample_conv_2d_k1331": partial(upsample_conv, X, W, FIR),
    "upsample_conv_2d_knone": partial(upsample_conv, X, W),
    "conv_downsample_2d_k1331": partial(conv_downsample, X, W, FIR),
    "conv_downsample_2d_knone": partial(conv_downsample, X, W),
}

FUNCTIONS: dict[str, Callable[[], jax.Array]] = {
    **RESAMPLING,
    "upfirdn_up2_1_down1_2_pad_1_2_m1_3": lambda: upfirdn(
        X, LAYERS["upfirdn_kernel"], up=(1, 2), down=(2, 1), pad=((-1, 3), (1, 2))
    ),
    "get_timestep_embedding_8": lambda: positional_embedding(jnp.asarray(LAYERS["temb_in"]), 8),
    "get_timestep_embedding_9": lambda: positional_embedding(jnp.asarray(LAYERS["temb_in"]), 9),
    "get_timestep_embedding_128": lambda: positional_embedding(jnp.asarray(LAYERS["temb_in"]), 128),
    "get_timestep_embedding_int_8": lambda: positional_embedding(jnp.array([0, 3, 999]), 8),
}


def test_lists_cover_every_golden() -> None:
    recorded = {name.removesuffix("/output") for name in LAYERS if "params_" not in name}
    assert recorded - set(MODULES) - set(FUNCTIONS) == {"x", "temb", "w_hwio", "upfirdn_kernel", "gfp_in", "temb_in"}


@pytest.mark.parametrize("name", MODULES)
def test_module_golden(name: str) -> None:
    module, inputs = MODULES[name]
    params = unpack(LAYERS, f"{name}/") if f"{name}/params_index" in LAYERS else {}
    y = quick_jit(module.apply)(params, *inputs)
    agree(y, "layers", f"{name}/output", "networks")


@pytest.mark.parametrize("name", MODULES)
def test_module_creates_the_recorded_parameters(name: str) -> None:
    module, inputs = MODULES[name]
    params = unpack(LAYERS, f"{name}/") if f"{name}/params_index" in LAYERS else {}
    made = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(np.shape, params)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_golden(name: str) -> None:
    agree(quick_jit(FUNCTIONS[name])(), "layers", name, "networks")


@pytest.mark.parametrize("name", RESAMPLING)
def test_filters_as_depthwise_convolutions(name: str) -> None:
    """A TPU's form: the recorded values, and the gradient of the sums of slices."""
    function, (x, *rest), options = RESAMPLING[name].func, RESAMPLING[name].args, RESAMPLING[name].keywords

    def both(x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        of = lambda form: lambda x: function(x, *rest, form=form, **options)
        values = [jax.vjp(of(form), x) for form in ("depthwise", "native")]
        return [(y, pullback(jnp.sin(y))[0]) for y, pullback in values]

    (y, gradient), (_, expected) = quick_jit(both)(x)
    agree(y, "layers", name, "networks")
    assert relative_error(gradient, expected) < TOLERANCE


def test_upsampling_then_convolving_differs_only_near_the_border() -> None:
    separate = convolve(upsample(X, FIR), W)
    assert relative_error(upsample_conv(X, W, FIR)[:, 2:-2, 2:-2], separate[:, 2:-2, 2:-2]) < TOLERANCE


def test_plain_fir_module_is_a_same_convolution() -> None:
    params = {"params": {"weight": W, "bias": jnp.ones(12)}}
    assert relative_error(FirConv(12).apply(params, X), convolve(X, W) + 1) < TOLERANCE


@pytest.mark.parametrize("shape", [(3, 3, 8, 12), (8, 12)])
def test_initialisers_have_the_stated_range(shape: tuple[int, ...]) -> None:
    fan_in, fan_out = np.prod(shape[:-1]), np.prod(shape[:-2]) * shape[-1]
    limit = np.sqrt(3 * 0.1 / ((fan_in + fan_out) / 2))
    kernel = np.abs(ddpm_init(0.1)(jax.random.key(0), shape))
    assert 0.9 * limit < kernel.max() <= limit
    kernel = np.abs(ncsn_init()(jax.random.key(0), shape))
    assert 0.9 < kernel.max() * np.sqrt(fan_in) <= 1 + 1e-6
    bias = np.abs(ncsn_bias()(jax.random.key(0), (*shape[:-1], 4096)))
    assert 0.9 < bias.max() * np.sqrt(fan_in) <= 1 + 1e-6


def test_zero_init_scale_is_tiny_and_not_zero() -> None:
    weight = NIN(8, init_scale=0.0).init(jax.random.key(0), X)["params"]["W"]
    assert 0 < float(jnp.abs(weight).max()) < 1e-4


def test_fourier_frequencies_have_no_gradient() -> None:
    module, v = GaussianFourierProjection(4), jnp.array([0.3, 2.0])
    gradient = jax.grad(lambda p: module.apply(p, v)[0, 1])(module.init(jax.random.key(0), v))
    assert not np.any(gradient["params"]["W"])


def test_group_norm_statistics_survive_a_large_mean() -> None:
    x = 1000 + jax.random.normal(jax.random.key(0), (2, 8, 8, 16))
    y = np.asarray(GroupNorm().apply({"params": {"scale": jnp.ones(16), "bias": jnp.zeros(16)}}, x))
    x64 = np.asarray(x, np.float64).reshape(2, 64, 4, 4)
    z = (x64 - x64.mean((1, 3), keepdims=True)) / np.sqrt(x64.var((1, 3), keepdims=True) + 1e-6)
    assert relative_error(y.reshape(2, 64, 4, 4), z) < 1e-4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupNorm().init(jax.random.key(0), X[..., :3]), "3 channels into 0 groups"),
        (lambda: GroupNorm(5).init(jax.random.key(0), X), "8 channels into 5 groups"),
        (lambda: activation("gelu"), "unknown nonlinearity 'gelu'"),
        (lambda: upsample(X, (1, -1)), "non-zero sum"),
    ],
)
def test_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def keys_of(*examples: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), jnp.array(examples))


def test_dropout_mask_of_an_example_does_not_depend_on_its_batch() -> None:
    dropout, ones = Dropout(0.5), jnp.ones((3, 5, 5, 3))
    first = np.asarray(dropout.apply({}, ones, keys_of(10, 11, 12)))
    second = np.asarray(dropout.apply({}, ones[:2], keys_of(12, 10)))
    np.testing.assert_array_equal(second, first[[2, 0]])
    assert np.any(first[0] != first[1])


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_the_rate(rate: float) -> None:
    y = np.asarray(Dropout(rate).apply({}, jnp.ones((64, 64, 64)), keys_of(*range(64))))
    count = y.size
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / count)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-4)
    neighbours = np.corrcoef((y == 0)[:, :, 1:].ravel(), (y == 0)[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(count)


def test_dropout_without_keys_or_rate_is_the_identity() -> None:
    assert Dropout(0.5).apply({}, X, None) is X
    assert Dropout(0.0).apply({}, X, keys_of(0, 1)) is X


def test_conv_computes_in_its_dtype_and_keeps_float32_parameters() -> None:
    params = Conv(4, dtype=jnp.bfloat16).init(jax.random.key(0), X)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert Conv(4, dtype=jnp.bfloat16).apply(params, X).dtype == jnp.bfloat16


def plain_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, eps: float) -> jax.Array:
    """The definition, by two passes."""
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    mean = grouped.mean((1, 2, 4), keepdims=True)
    variance = jnp.square(grouped - mean).mean((1, 2, 4), keepdims=True)
    u = ((grouped - mean) / jnp.sqrt(variance + eps)).reshape(x.shape)
    return u * scale[None, None, None] + bias[None, None, None]


def test_group_norm_and_its_derivatives_are_those_of_the_definition() -> None:
    """Values, both modes and a derivative of a derivative, in float64."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
        arguments = (3 + draw(2, 4, 5, 8), draw(8), draw(8))
        tangents = (draw(2, 4, 5, 8), draw(8), draw(8))

        def found(norm: Callable[..., jax.Array]) -> list[jax.Array]:
            f = lambda x, scale, bias: norm(x, scale, bias, 2, 1e-6)
            slope = lambda x: jnp.sum(jnp.sin(f(x, *arguments[1:])))
            gradients = jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), (0, 1, 2))(*arguments)
            second = jax.jvp(jax.grad(slope), arguments[:1], tangents[:1])
            return [*jax.jvp(f, arguments, tangents), *gradients, *second]

        for ours, expected in zip(*(jax.jit(partial(found, norm))() for norm in (normalise, plain_norm)), strict=True):
            assert relative_error(ours, expected) < 1e-12


@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (1000, 1), (5, 1e-3)])
def test_group_norms_single_pass_rounds_as_two_do(offset: float, spread: float) -> None:
    """Channels far from zero, and from one another, in float32 against float64."""
    rng = np.random.default_rng(0)
    x = (offset * rng.normal(size=16) + spread * rng.normal(size=(4, 16, 16, 16))).astype(np.float32)
    ones, zeros = np.ones(16), np.zeros(16)
    with jax.enable_x64(True):
        exact = plain_norm(jnp.asarray(x, "float64"), jnp.asarray(ones), jnp.asarray(zeros), 4, 1e-6)
    ours = normalise(jnp.asarray(x), jnp.asarray(ones, "float32"), jnp.asarray(zeros, "float32"), 4, 1e-6)
    assert relative_error(ours, exact) < 1e-6


def test_group_norm_of_16_bits_rounds_less_than_its_input() -> None:
    """Its single pass takes numbers of 16 bits as they are: what that loses is less than a rounding of the input."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(30 + rng.normal(size=(4, 16, 16, 16)), "bfloat16")
    ones, zeros = jnp.ones(16), jnp.zeros(16)
    with jax.enable_x64(True):
        exact = plain_norm(jnp.asarray(x, "float64"), jnp.ones(16), jnp.zeros(16), 4, 1e-6)
    assert relative_error(normalise(x, ones, zeros, 4, 1e-6), exact) < 2**-9 / 8


def test_a_vector_is_added_with_the_bias() -> None:
    """Values and all gradients of a convolution that is given a vector are those of the vector added afterwards."""
    conv, rng = Conv(12), np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), conv.init(jax.random.key(0), X))
    after = lambda params, x, v: add_channels(conv.apply(params, x), v)  # pyright: ignore[reportArgumentType]
    vector, weights = jnp.asarray(rng.normal(size=(len(X), 12)), "float32"), jnp.asarray(rng.normal(size=12), "float32")
    found = [
        jax.value_and_grad(lambda *a, f=f: jnp.sum(f(*a) * weights[None, None, None]), (0, 1, 2))(params, X, vector)
        for f in (conv.apply, after)
    ]
    for ours, expected in zip(*map(jax.tree.leaves, found), strict=True):
        assert relative_error(ours, expected) < TOLERANCE
