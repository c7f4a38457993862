"""The noise-conditional classifier against one written in NumPy, and its published parameter tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import WideResNet, normalise_cifar10
from score_sde.networks.wideresnet import KERNEL_INIT, WideResnetBlock, logits_init, standardise_image
from tests.golden_files import quick_jit, relative_error
from tests.networks import numpy_networks as oracle
from tests.networks.drawing import applied, drawn_params, leaf_shapes, primitives

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 3)), jnp.float32)
SIGMA = jnp.array([0.1, 1.0, 9.0])
TINY = WideResNet(blocks_per_group=2, widen_factor=2, num_classes=4, embedding_features=8)
PARAMS = drawn_params(TINY, X, SIGMA)


def test_network_is_the_oracle() -> None:
    expected = oracle.wide_resnet(*oracle.float64((PARAMS["params"], X, SIGMA)))
    assert relative_error(applied(TINY)(PARAMS, X, SIGMA), expected) < 1e-5


@pytest.mark.parametrize(("stride", "features", "first"), [(1, 8, False), (1, 12, True), (2, 12, False)])
def test_block_is_the_oracle(stride: int, features: int, first: bool) -> None:
    h, temb = jnp.tile(X, (1, 1, 1, 3))[..., :8], jnp.asarray(np.random.default_rng(1).normal(size=(3, 6)), jnp.float32)
    block = WideResnetBlock(features, stride, first)
    params = drawn_params(block, h, temb)
    expected = oracle.wide_block(*oracle.float64((params["params"], h, temb)), stride, first)
    assert relative_error(applied(block)(params, h, temb), expected) < 1e-5


def test_published_names_and_shapes() -> None:
    shapes = leaf_shapes(WideResNet(), jnp.zeros((1, 32, 32, 3)), jnp.ones(1))
    assert {path for path in shapes if not path.startswith("WideResnetGroup")} == {
        *(f"Dense_{i}/{leaf}" for i in range(3) for leaf in ("kernel", "bias")),
        "GaussianFourierProjection_0/W", "init_conv/kernel", "pre-pool-bn/scale", "pre-pool-bn/bias",
    }  # fmt: skip
    assert [shapes[f"Dense_{i}/kernel"] for i in range(3)] == [(256, 512), (512, 512), (640, 10)]
    for group, before, width in ((0, 16, 160), (1, 160, 320), (2, 320, 640)):
        for block in range(4):
            prefix = f"WideResnetGroup_{group}/WideResnetBlock_{block}/"
            channels = before if block == 0 else width
            assert {path.removeprefix(prefix): s for path, s in shapes.items() if path.startswith(prefix)} == {
                "init_bn/scale": (channels,), "init_bn/bias": (channels,), "conv1/kernel": (3, 3, channels, width),
                "Dense_0/kernel": (512, width), "Dense_0/bias": (width,), "bn_2/scale": (width,),
                "bn_2/bias": (width,), "conv2/kernel": (3, 3, width, width),
            }  # fmt: skip


def test_logits_do_not_depend_on_brightness_or_contrast() -> None:
    expected = applied(TINY)(PARAMS, X, SIGMA)
    assert relative_error(applied(TINY)(PARAMS, 3 * X + 0.5, SIGMA), expected) < 1e-4
    assert relative_error(applied(TINY)(PARAMS, X, SIGMA[::-1]), expected) > 1e-2


def test_flat_image_has_a_finite_gradient() -> None:
    gradient = jax.grad(lambda x: (standardise_image(x) * X).sum())(jnp.ones_like(X))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(standardise_image(jnp.ones_like(X)), jnp.zeros_like(X))


def test_normalised_mean_colour_is_zero_and_one_deviation_is_one() -> None:
    mean, std = np.array([0.49139968, 0.48215841, 0.44653091]), np.array([0.24703223, 0.24348513, 0.26158784])
    x = jnp.asarray(np.stack([mean, mean + std])[:, None, None], jnp.float32)
    np.testing.assert_allclose(normalise_cifar10(x)[:, 0, 0], [[0] * 3, [1] * 3], atol=1e-6)


def test_initialisers_have_the_stated_laws() -> None:
    kernel = np.asarray(KERNEL_INIT(jax.random.key(0), (3, 3, 64, 128), jnp.float32))
    assert abs(kernel.std() / np.sqrt(2 / (9 * 128)) - 1) < 0.02
    assert np.abs(kernel).max() > 3 * kernel.std()  # not truncated
    logits = np.abs(logits_init(10)(jax.random.key(0), (640, 10), jnp.float32))
    assert 0.99 < logits.max() * np.sqrt(10) <= 1 + 1e-6


def test_the_form_changes_no_gradient_and_reaches_every_convolution() -> None:
    small = TINY.clone(blocks_per_group=1, widen_factor=1)
    params = drawn_params(small, X, SIGMA)
    both = (small, small.clone(convolution="backwards"))
    assert ["conv_general_dilated" in primitives(net, params, X, SIGMA) for net in both] == [True, False]

    def gradients(x: jax.Array) -> list[jax.Array]:
        return [jax.grad(lambda x, net=net: jnp.sin(net.apply(params, x, SIGMA)).sum())(x) for net in both]

    native, safe = quick_jit(gradients)(X)
    assert relative_error(safe, native) < 1e-5


def test_bfloat16_computes_close_to_float32_and_returns_float32() -> None:
    y = applied(TINY.clone(dtype=jnp.bfloat16))(PARAMS, X, SIGMA)
    assert y.dtype == jnp.float32
    assert 1e-5 < relative_error(y, applied(TINY)(PARAMS, X, SIGMA)) < 0.1


def test_sizes_that_cannot_be_halved_twice_are_an_error() -> None:
    with pytest.raises(ValueError, match="6x8 cannot be halved 2 times"):
        TINY.init(jax.random.key(0), X[:, :6], SIGMA)
