"""The config files, the schema, and that what it promises is what the objects take."""

import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import pytest

from score_sde import objects
from score_sde.config import (
    FREE_ON_RESUME,
    SCHEMA,
    default,
    differing_fields,
    flatten,
    nearest,
)
from score_sde.errors import UsageError
from score_sde.networks import layers, ncsnpp, refinenet
from score_sde.validation import CHOICES, _normalised_channels, validate
from score_sde.workdir import Workdir

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").rglob("*.py"))
CONFIGS = [path for path in CONFIGS if path.stem not in ("__init__", "published")]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_is_valid_and_resolves(path, tmp_path):
    """Its resolved form in config.json is the config, and every field has the default's type."""
    config = runpy.run_path(str(path))["get_config"]()
    validate(config)
    Workdir(tmp_path).claim(config)
    assert flatten(json.loads((tmp_path / "config.json").read_text())["config"]) == flatten(config)
    assert {n: type(v) for n, v in flatten(config).items()} == {n: type(v) for n, v in SCHEMA.items()}


def test_digits_is_among_them():
    assert "digits" in [path.stem for path in CONFIGS]


def test_the_defaults_are_valid_but_for_the_data():
    """The network's defaults are CIFAR-10's, of 32x32 images."""
    config = default()
    config.data.update(image_size=32, num_channels=3)
    validate(config)


TABLES = {
    "sde.name": objects.SDES,
    "network.name": objects.NETWORKS,
    "sde.schedule": objects.SCHEDULES,
    "network.nonlinearity": layers.ACTIVATIONS,
    "network.interpolation": refinenet.INTERPOLATIONS,
    "parametrization.prediction": objects.PREDICTIONS,
    "parametrization.label": objects.LABELS,
    "data.name": objects.IMAGES,
    "training.objective": objects.OBJECTIVES | objects.BOUNDS,
    "training.weighting": objects.WEIGHTINGS,
    "training.times": objects.TIMES,
    "parallel.strategy": objects.STRATEGIES,
    "sampling.solver": objects.SOLVERS,
    "sampling.variance": objects.VARIANCES,
    "sampling.corrector": objects.CORRECTORS,
    "sampling.times": objects.GRIDS,
    **{f"network.{name}": choices for name, choices in ncsnpp.CHOICES.items()},
}


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_has_its_object(field):
    if field == "training.compute_dtype":
        assert [jnp.dtype(name).name for name in CHOICES[field]] == list(CHOICES[field])
    else:
        assert set(CHOICES[field]) == set(TABLES[field])
    assert SCHEMA[field] in CHOICES[field]


NETWORKS = {
    "plain": {},
    "one level": {"ch_mult": (1,)},
    "several levels": {"ch_mult": (1, 2, 3), "num_res_blocks": 2},
    "narrowing": {"ch_mult": (3, 1, 2)},
    "input_skip, cat": {"progressive_input": "input_skip", "progressive_combine": "cat", "ch_mult": (1, 2, 3)},
    "input_skip, sum": {"progressive_input": "input_skip", "ch_mult": (1, 2, 3)},
    "input residual, cat": {"progressive_input": "residual", "progressive_combine": "cat", "ch_mult": (1, 2, 3)},
    "output_skip": {"progressive": "output_skip", "ch_mult": (1, 2, 3)},
    "output residual": {"progressive": "residual", "ch_mult": (1, 2, 3)},
    "DDPM blocks": {"resblock_type": "ddpm", "ch_mult": (1, 2, 3)},
    "DDPM blocks, cat": {"resblock_type": "ddpm", "progressive_input": "input_skip", "progressive_combine": "cat"},
    "no resampling convolution": {"resblock_type": "ddpm", "resamp_with_conv": False},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_channels_checked_are_those_the_network_normalises(name):
    config = default()
    config.network.update({"nf": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (), "dropout": 0.0})
    config.network.update(NETWORKS[name])
    validate(config)
    network = objects.NETWORKS["ncsnpp"](config)
    ones = jnp.ones((1,))
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), ones, ones)
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    normalised = [leaf.shape[0] for path, leaf in leaves if "GroupNorm" in str(path[-2]) and path[-1].key == "scale"]
    assert set(_normalised_channels(config.network)) == set(normalised)


@pytest.mark.parametrize("nf", [4, 5, 6, 7, 12, 100, 128, 160])
def test_widths_let_through_can_be_initialised(nf):
    """The check of the groups agrees with the network in both directions."""
    config = default()
    config.network.update(nf=nf, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=())
    network = ncsnpp.NCSNpp(nf=nf, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), embedding_type="positional")
    args = jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.ones((1,)), jnp.ones((1,))
    try:
        validate(config)
    except UsageError:
        with pytest.raises(ValueError, match="GroupNorm cannot split"):
            jax.eval_shape(network.init, *args)
    else:
        jax.eval_shape(network.init, *args)


def test_free_on_resume_is_what_the_contract_says():
    free = {name for name in SCHEMA if name.startswith(FREE_ON_RESUME)}
    sections = ("parallel", "sampling", "likelihood", "evaluation", "checkpoint", "logging")
    assert free == {name for name in SCHEMA if name.split(".")[0] in sections} | {
        "training.num_steps",
        "training.batch_size",
        "training.steps_per_call",
    }


@pytest.mark.parametrize("field", SCHEMA)
def test_a_changed_field_is_noticed_unless_it_is_free(field):
    schema = {**SCHEMA, "data.path": "images.npy"}
    other = {**schema, field: "changed"}
    expected = [] if field.startswith(FREE_ON_RESUME) else [field]
    assert differing_fields(schema, other) == expected
    assert differing_fields({n: v for n, v in schema.items() if n != field}, schema) == expected


def test_images_may_be_named_where_there_were_none():
    named = {**SCHEMA, "data.path": "images.npy"}
    assert differing_fields(SCHEMA, named) == []
    assert differing_fields(named, SCHEMA) == ["data.path"]


def test_flatten_survives_json():
    config = default()
    config.network.attn_resolutions = ()
    flat = flatten(config)
    assert flatten(json.loads(json.dumps(config.to_dict()))) == flat
    assert (flat["network.ch_mult"], flat["network.attn_resolutions"]) == ((1, 2, 2, 2), ())
    assert flatten({"a": {"b": {"c": [1]}}, "d": None}) == {"a.b.c": (1,), "d": None}


def test_nearest():
    assert nearest("vpp", ("vp", "ve")) == "did you mean vp?"
    assert nearest("zzz", ("vp", "ve"), "--") == "choose from --vp, --ve"


def test_validate_leaves_the_config_as_it_is():
    config = default()
    config.data.update(image_size=32, num_channels=3)
    before = config.to_json()
    validate(config)
    assert config.to_json() == before
