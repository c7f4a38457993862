"""Vector quantisation against the published code's values, codes and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks.vq import VectorQuantizer
from score_sde.rng import root_key
from tests.golden_files import load, relative_error


def golden(name):
    arrays = load("latent", "systems").items()
    return {k.split("__")[1]: jnp.asarray(v) for k, v in arrays if k.startswith(f"{name}__")}


def pulled(g):
    """Value, codes and gradients under the recorded upstream gradient of z_q, [B, H, W, C]."""
    last = lambda x: jnp.moveaxis(x, 1, -1)
    network, z = VectorQuantizer(6), last(g["z"])

    def total(codebook, z):
        found, loss, numbers = network.apply({"params": {"codebook": codebook}}, z)
        return (found * last(g["upstream"])).sum() + loss.mean(), (found, loss, numbers)

    grads, found = jax.grad(total, (0, 1), has_aux=True)(g["codebook"], z)
    return [jnp.moveaxis(x, -1, 1) for x in (found[0], grads[1])], found[1:], grads[0]


def test_values_codes_and_gradients_are_the_published_ones(float64):
    g = golden("vq_fixed")
    (found, slope), (loss, numbers), of_codes = pulled(g)
    np.testing.assert_array_equal(numbers.reshape(-1), g["indices"])
    pairs = {"zq": found, "grad_z": slope, "grad_codebook": of_codes, "loss": loss.mean()}
    for name, value in pairs.items():
        assert relative_error(value, g[name]) < 1e-6, name  # parameters are float32
    assert loss.shape == (2,)


def test_the_published_default_has_beta_on_the_codes_and_is_not_ours(float64):
    """Ours has the weights 1 and beta the other way round: the values' sum is (1 + beta) of either squared distance."""
    g = golden("vq_legacy")
    (found, slope), (loss, numbers), of_codes = pulled(g)
    np.testing.assert_array_equal(numbers.reshape(-1), g["indices"])
    assert relative_error(loss.mean(), g["loss"]) < 1e-6 and relative_error(found, g["zq"]) < 1e-6
    assert relative_error(0.25 * of_codes, g["grad_codebook"]) < 1e-6
    assert relative_error(slope, g["grad_z"]) > 1e-2


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 5, 4)])
def test_an_example_is_quantised_alone_and_a_code_becomes_itself(shape):
    network, z = VectorQuantizer(7), jax.random.normal(jax.random.key(0), shape)
    params = network.init(root_key(0), z)
    found, loss, numbers = network.apply(params, z)
    alone = network.apply(params, z[:1])
    np.testing.assert_array_equal(numbers[:1], alone[2])
    np.testing.assert_allclose(found[:1], alone[0], atol=1e-6)
    again, rest, same = network.apply(params, params["params"]["codebook"][numbers])
    np.testing.assert_array_equal(same, numbers)
    np.testing.assert_allclose(again, found, atol=1e-6)
    np.testing.assert_allclose(rest, 0, atol=1e-12)
    assert (loss > 0).all()
