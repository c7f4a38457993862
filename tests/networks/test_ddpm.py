"""DDPM against the official code's output and names."""

import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import ddpm
from tests.golden_files import agree, load, unpack
from tests.networks.drawing import applied, leaf_shapes

OPTIONS = ("nf", "ch_mult", "num_res_blocks", "attn_resolutions", "dropout", "resamp_with_conv", "conditional")
OPTIONS = (*OPTIONS, "scale_by_sigma", "nonlinearity", "centered")
TINY: dict[str, Any] = {"nf": 32, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,)}
INPUTS = (jnp.zeros((1, 8, 8, 3)), jnp.ones(1))


def test_golden() -> None:
    golden = load("net_ddpm_vp")
    config = json.loads(str(golden["config_json"]))
    network = ddpm(**{key: tuple(v) if isinstance(v := config[key], list) else v for key in OPTIONS})
    params, inputs = unpack(golden), (golden["x"], golden["time_cond"])
    made = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(np.shape, params)
    agree(applied(network)(params, *inputs), "net_ddpm_vp", "output", "networks")


def test_published_names_at_tiny_sizes() -> None:
    shapes = leaf_shapes(ddpm(**TINY), *INPUTS)
    assert (sum(math.prod(shape) for shape in shapes.values()), len(shapes)) == (685_731, 134)
    assert {path.split("/")[0] for path in shapes} == {
        "Dense_0", "Dense_1", "Conv_0", "Conv_1", "GroupNorm_0", "Downsample_0", "Upsample_0",
        *(f"ResnetBlockDDPM_{i}" for i in range(8)), *(f"AttnBlock_{i}" for i in range(3)),
    }  # fmt: skip
    assert shapes["Downsample_0/Conv_0/kernel"] == (3, 3, 32, 32)
    assert shapes["Upsample_0/Conv_0/kernel"] == (3, 3, 64, 64)
    assert shapes["ResnetBlockDDPM_1/NIN_0/W"] == (32, 64)
    assert shapes["ResnetBlockDDPM_6/Conv_0/kernel"] == (3, 3, 96, 32)


def test_unconditional_has_no_dense_layer() -> None:
    assert not [path for path in leaf_shapes(ddpm(**TINY, conditional=False), *INPUTS) if "Dense" in path]


def test_resampling_without_convolution_has_no_parameters() -> None:
    assert not [path for path in leaf_shapes(ddpm(**TINY, resamp_with_conv=False), *INPUTS) if "sample" in path]


def test_widths_must_be_multiples_of_the_32_groups() -> None:
    with pytest.raises(ValueError, match="16 channels into 32 groups"):
        leaf_shapes(ddpm(nf=16, ch_mult=(1,)), *INPUTS)
