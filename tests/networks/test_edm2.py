"""EDM2's U-Net gives the recorded outputs of its code, and its parts keep magnitudes."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.adapters import edm2
from score_sde.networks import EDM2
from score_sde.networks.edm2 import mp_cat, mp_silu, mp_sum, normalised, unit
from tests.golden_files import quick_jit, relative_error
from tests.golden_nets import TOLERANCES, arrays, bound, edm_denoiser, state

NAME = "edm2_cond"
NETWORK = EDM2(
    nf=16, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(4,), head_channels=16, logvar_channels=16, label_rows=5
)
LABEL = arrays(NAME)["class_labels"].argmax(1).astype(np.int32)


def params() -> Any:
    return edm2.tree(pathlib.Path("some.pkl"), state(NAME), NETWORK, 8)


@pytest.mark.parametrize("key", ["output", "output_uncond", "output_train_normalised"])
def test_recorded_outputs(key: str) -> None:
    """A label beyond the classes is the zero vector. In training it has normalised the stored weights before."""
    label = np.full_like(LABEL, 5) if key == "output_uncond" else LABEL
    tree = normalised(params()) if key == "output_train_normalised" else params()
    denoised = edm_denoiser(NAME, bound(NETWORK, tree, condition={"label": label}))
    assert relative_error(denoised, arrays(NAME)[key]) < TOLERANCES["EDM2"]


def test_the_recorded_logarithm_of_variance() -> None:
    label = (np.log(arrays(NAME)["sigma"]) / 4).astype(np.float32)
    options = {"condition": {"label": LABEL}, "logvar": True}
    call = quick_jit(lambda x, t: NETWORK.apply({"params": params()}, x, t, **options)[1])
    expected = arrays(NAME)["logvar"][:, 0, 0, 0]
    assert relative_error(call(np.zeros((3, 8, 8, 3), np.float32), label), expected) < TOLERANCES["EDM2"]


def test_magnitudes_are_kept(float64: None) -> None:
    """Mean squares of standard normal numbers stay 1: exactly of `unit` but for its 1e-4, by the law of the others."""
    a, b = (jax.random.normal(key, (400, 1, 1, 50)) for key in jax.random.split(jax.random.key(0)))
    np.testing.assert_allclose(jnp.mean(unit(7 * a, (3,)) ** 2, 3), 1, atol=1e-4)
    for value in (mp_silu(a), mp_sum(a, b, 0.3), mp_cat(a, b[..., :10])):
        np.testing.assert_allclose(jnp.mean(value**2), 1, atol=0.02)
    joined = mp_cat(a, b[..., :10])
    np.testing.assert_allclose(jnp.sum(joined[..., :50] ** 2), jnp.sum(joined[..., 50:] ** 2), rtol=0.1)
    np.testing.assert_allclose(mp_sum(a, b, 0.3), (0.7 * a + 0.3 * b) / np.sqrt(0.58), rtol=1e-12)


def test_a_scale_of_the_weights_is_none_of_the_output(float64: None) -> None:
    """But for the 1e-4; and the gradient at a weight of zeros is finite."""
    w = jax.random.normal(jax.random.key(0), (5, 4))
    np.testing.assert_allclose(unit(100 * w, (0,)), unit(w, (0,)), rtol=1e-3)
    np.testing.assert_allclose(unit(w, (0,)), w / (1e-4 + jnp.linalg.norm(w, axis=0)[None] / 5**0.5), rtol=1e-12)
    assert jnp.isfinite(jax.grad(lambda w: unit(w, (0,)).sum())(jnp.zeros((5, 4)))).all()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="has 5 labels and was given none"):
        jax.eval_shape(NETWORK.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.ones(1))
    with pytest.raises(ValueError, match="remat is 'all'"):
        EDM2(remat="all")
