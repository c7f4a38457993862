"""The config files, the schema, and that what it promises is what the objects take."""

import json
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import pytest

from score_sde.config import (
    FREE_ON_RESUME,
    SCHEMA,
    averages,
    default,
    differing_fields,
    editing_checks,
    flatten,
    nearest,
)
from score_sde.config.architecture import HALVINGS, normalised_channels
from score_sde.config.fields import FIELDS, ODES, ROWS, choices
from score_sde.config.guide import help_lines, markdown
from score_sde.config.system_checks import READ_BY
from score_sde.config.validation import FROZEN, check_likelihood, validate
from score_sde.data.spec import Spec
from score_sde.errors import UsageError
from score_sde.evaluation.preprocessing import PREPROCESSINGS
from score_sde.experiment import (
    autoencoders,
    consistency,
    degrading,
    factories,
    guiding,
    measuring,
    objects,
    solving,
    variational,
)
from score_sde.likelihood import log_likelihood_on
from score_sde.networks import adm, adm_encoder, concatenating, layers, mlp, ncsnpp, ncsnv2, refinenet, remat
from score_sde.solvers import RK45
from score_sde.storage.workdir import Workdir
from score_sde.systems import first_stage

CODE = pathlib.Path(__file__).parents[2] / "score_sde"
CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").rglob("*.py"))
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
    "system.name": factories.SYSTEMS,
    "data.kind": [*objects.KINDS, "auto"],
    "data.missing": objects.MISSING,
    "ema.averages": objects.AVERAGES,
    "sde.name": objects.SDES,
    "network.name": [*objects.NETWORKS, *autoencoders.AUTOENCODERS],
    "autoencoder.regular": first_stage.PARTS,
    "latent.coder": autoencoders.AUTOENCODERS,
    "vae.encoder_variance": mlp.VARIANCES,
    "vae.decoder_variance": mlp.VARIANCES,
    "sde.schedule": objects.SCHEDULES,
    "network.nonlinearity": layers.ACTIVATIONS,
    "network.pool": adm_encoder.POOLS,
    "network.interpolation": refinenet.INTERPOLATIONS,
    "vdm.learned": variational.SCHEDULES,
    "masked.schedule": objects.MASKING,
    "consistency.pair": consistency.PAIRS,
    "consistency.target": [*(objects.AVERAGES.keys() - {"power"}), "self"],
    "consistency.levels": [*consistency.LEVELS, "limit"],
    "consistency.metric": [*consistency.METRICS, "normalised"],
    "consistency.curriculum": objects.CURRICULA,
    "parametrization.prediction": objects.PREDICTIONS,
    "parametrization.label": objects.LABELS,
    "data.name": objects.DATA,
    "training.objective": objects.OBJECTIVES | objects.BOUNDS,
    "training.weighting": objects.WEIGHTINGS,
    "training.times": objects.TIMES,
    "training.remat": remat.REMAT,
    "training.nonfinite": objects.SKIPPING,
    "optimizer.decay": objects.DECAYS,
    "parallel.strategy": objects.STRATEGIES,
    "sampling.solver": [*solving.SOLVERS, *measuring.RULES, "auto", "few_step", "unmasking"],
    "sampling.variance": solving.VARIANCES,
    "sampling.lower_final": solving.LOWER_FINAL,
    "sampling.corrector": solving.CORRECTORS,
    "reflow.solver": [name for name in solving.SOLVERS if name in ODES],
    "sampling.times": [*objects.GRIDS, "optimised"],
    "guidance.interval_by": guiding.PER_STEP,
    "guidance.method": [*measuring.METHODS, "auto", "none"],
    "measurement.name": [*measuring.OPERATORS, "none"],
    "degradation.name": [*degrading.OPERATORS, "none"],
    "degradation.enlarging": concatenating.METHODS,
    "editing.name": [*editing_checks.CHECKS, "none"],
    "guidance.threshold": guiding.THRESHOLDS,
    "likelihood.split": objects.SPLITS,
    "evaluation.preprocessing": PREPROCESSINGS,
    "likelihood.divergence": objects.DIVERGENCES,
    "likelihood.solver": {"grid": log_likelihood_on, "rk45": RK45},
    **{f"network.{name}": choices for name, choices in (ncsnpp.CHOICES | adm.CHOICES).items()},
    **{
        f"{section}.precision": [word.name.lower() for word in jax.lax.Precision]
        for section in ("training", "sampling", "likelihood", "evaluation")
    },
}


WORDS = [name for name, row in ROWS.items() if row.rule.choices]


@pytest.mark.parametrize("field", WORDS)
def test_every_choice_has_its_object(field):
    words, default_words = choices(field), SCHEMA[field] if isinstance(SCHEMA[field], tuple) else (SCHEMA[field],)
    if field == "training.compute_dtype":
        assert [jnp.dtype(name).name for name in words] == list(words)
    else:
        assert set(words) == set(TABLES[field])
    assert set(default_words) <= set(words)


def test_every_field_says_what_it_means_and_its_default_obeys_its_rule():
    for name, row in ROWS.items():
        assert row.meaning and not row.meaning.endswith("."), name
        assert row.default in ("", ()) or isinstance(row.default, tuple) or row.rule.holds(row.default), name
        assert row.default != () or row.element is not None, name


def test_every_field_is_used_somewhere():
    """By its name, outside the table; sections that are handed on whole are arguments of that name."""
    code = [path.read_text() for path in CODE.rglob("*.py") if path.name not in ("fields.py", "guide.py")]
    words = set(re.findall(r"\w+", "\n".join(code)))
    assert {name.split(".")[-1] for name in ROWS} <= words


def test_every_system_has_its_frozen_parts():
    assert FROZEN.keys() == factories.SYSTEMS.keys()
    assert {name for names in READ_BY.values() for name in names} < FROZEN.keys() and READ_BY.keys() < FIELDS.keys()
    assert {part for parts in FROZEN.values() for part in parts} <= set(FIELDS["frozen"].fields)


def test_the_guide_of_the_fields_is_current():
    """Made anew by python -m score_sde.config.guide."""
    assert (CODE.parent / "docs" / "config.md").read_text() == markdown()


def test_help_of_a_section_is_a_part_of_all_help():
    everything = list(help_lines())
    for name in FIELDS:
        own = list(help_lines(name or "seed"))
        assert own[0] in everything and set(own) <= set(everything)
    assert sum(line.startswith("  --config.") for line in everything) == len(SCHEMA)
    with pytest.raises(UsageError, match=r"--help sampler is unknown: did you mean sampling\?"):
        list(help_lines("sampler"))


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
    network = objects.NETWORKS["ncsnpp"](config, Spec((8, 8, 1)))
    ones = jnp.ones((1,))
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), ones, ones)
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    normalised = [leaf.shape[0] for path, leaf in leaves if "GroupNorm" in str(path[-2]) and path[-1].key == "scale"]
    assert set(normalised_channels(config.network)) == set(normalised)


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
    sections = (
        "frozen", "parallel", "sampling", "guidance", "measurement", "editing", "likelihood", "evaluation",
        "report", "checkpoint", "logging",
    )  # fmt: skip
    assert free == {name for name in SCHEMA if name.split(".")[0] in sections} | {
        "training.num_steps",
        "training.batch_size",
        "training.microbatches",
        "training.remat",
        "training.scan_blocks",
        "training.nonfinite",
        "training.max_skipped",
        "training.steps_per_call",
        "training.start_strict",
        "optimizer.learning_rate",
        "adversarial.critic_learning_rate",
        "vdm.learning_rate",
        "ema.snapshot_every",
        "data.path",
        "data.max_pixels",
        "data.workers",
        "data.cache",
        "data.cache_limit",
        "degradation.level",
    }


@pytest.mark.parametrize("field", SCHEMA)
def test_a_changed_field_is_noticed_unless_it_is_free(field):
    other = {**SCHEMA, field: "changed"}
    expected = [] if field.startswith(FREE_ON_RESUME) else [field]
    assert differing_fields(SCHEMA, other) == expected
    missing = [] if field == "training.start_from" else expected  # of it nothing may be said later
    assert differing_fields({n: v for n, v in SCHEMA.items() if n != field}, SCHEMA) == missing


def test_what_a_run_started_from_need_not_be_said_again():
    started = {**SCHEMA, "training.start_from": "runs/a"}
    assert differing_fields(started, SCHEMA) == []
    assert differing_fields(SCHEMA, started) == ["training.start_from"]


def test_averages_have_names_and_objects():
    """The main one first, whatever a jitted state makes of the order; widths under any spelling."""
    config = default()
    config.ema.update(averages=("warmup", "power", "half_life", "constant"), power_stds=(0.05, 0.1, 0.125))
    names = ("warmup", "power_0.050", "power_0.100", "power_0.125", "half_life", "constant")
    assert averages.stored_names(config) == tuple(objects.averages(config)) == names
    assert set(objects.AVERAGES) == set(averages.KINDS)
    assert [averages.width(name) for name in names] == [None, 0.05, 0.1, 0.125, None, None]
    assert [averages.canonical(f"power_{std}") for std in ("0.05", ".1", "0.0725")] == [
        "power_0.050",
        "power_0.100",
        "power_0.0725",
    ]
    assert [averages.width(name) for name in ("power_1", "power_0.1/..", "power_-0.1", "raw")] == [None] * 4


@pytest.mark.parametrize("name", ["", "raw", "warmup", "power_0.100", "power_0.1", "power_0.0725", "power_0.28867"])
def test_what_may_be_sampled(name):
    config = default()
    config.data.update(image_size=32, num_channels=3)
    config.ema.averages = ("warmup", "power")
    config.sampling.average = name
    validate(config)


@pytest.mark.parametrize("changes", [{}, {"sampling.times": "quadratic"}, {"training.times": "likelihood"},
                                     {"sampling.times": "uniform", "sampling.solver": "rk45"}])  # fmt: skip
def test_what_edms_noise_levels_go_with(changes):
    """The adaptive solver takes a grid's ends alone."""
    config = default()
    config.data.update(image_size=32, num_channels=3)
    config.update_from_flattened_dict({**EDM, **changes})
    validate(config)


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


@pytest.mark.parametrize("name", HALVINGS)
def test_the_halvings_checked_are_the_networks(name):
    config = default()
    config.network.update(name=name, nonlinearity="elu")
    assert ncsnv2.LAYOUTS[objects.NETWORKS[name](config, Spec((8, 8, 1))).layout].halvings == HALVINGS[name]


DISCRETE = {"sde.discrete": True, "parametrization.label": "level", "training.times": "levels"}
HYBRID = {**DISCRETE, "training.objective": "hybrid"}
LEARNED = {**HYBRID, "parametrization.learned_variance": True}
VE = {"sde.name": "ve", "parametrization.prediction": "score"}
OFFICIAL = {"sampling.reference": True}
EDM = {
    "sde.name": "edm", "parametrization.prediction": "edm", "parametrization.label": "log_sigma",
    "training.times": "log_normal", "sampling.times": "log_snr",
}  # fmt: skip
NCSN = {**DISCRETE, **VE, "network.name": "ncsn"}
REFUSED = [  # changes, what the sentence must hold: the offending value and the remedy
    ({"parametrization.label": "level"}, ["parametrization.label='level'", "set sde.discrete=True"]),
    (
        {"training.times": "levels", "sampling.times": "levels"},
        ["training.times", "and sampling.times", "discrete=True"],
    ),
    ({"sde.schedule": "cosine"}, ["sde.schedule='cosine'", "set sde.discrete=True"]),
    ({"sde.name": "subvp", "sampling.times": "levels"}, ["sampling.times='levels'", "'subvp'", "choose vp or ve"]),
    ({**DISCRETE, "sde.name": "subvp"}, ["sde.name='subvp'", "choose vp or ve"]),
    ({**DISCRETE, "parametrization.label": "time"}, ["label='time'", "set them to 'level' and 'levels'"]),
    ({**DISCRETE, **VE, "sde.schedule": "cosine"}, ["sde.schedule='cosine'", "set sde.schedule='linear'"]),
    ({**DISCRETE, "sde.num_scales": 20}, ["sde.beta_max=20.0", "sde.num_scales=20", "raise num_scales"]),
    ({**DISCRETE, "sde.num_scales": 1}, ["sde.num_scales=1", "at least 2"]),
    ({**DISCRETE, "sde.num_scales": 99, "sampling.times": "levels"}, ["num_steps=1000", "num_scales=99", "lower it"]),
    ({**DISCRETE, "network.embedding_type": "fourier"}, ["label='level'", "network.embedding_type='positional'"]),
    ({"network.embedding_type": "fourier"}, ["label='time'", "parametrization.label='sigma'"]),
    ({"training.objective": "hybrid"}, ["training.objective='hybrid'", "sde.discrete=True"]),
    ({**DISCRETE, **VE, "training.objective": "variational"}, ["objective='variational'", "set sde.name='vp'"]),
    ({"parametrization.prediction": "posterior_mean"}, ["prediction='posterior_mean'", "sde.discrete=True"]),
    ({**DISCRETE, "parametrization.learned_variance": True}, ["objective='denoising'", "choose 'hybrid'"]),
    ({**LEARNED, "network.name": "ncsnv2_64"}, ["network.name='ncsnv2_64'", "choose ncsnpp, ddpm or adm"]),
    ({**LEARNED, "network.scale_by_sigma": True}, ["scale_by_sigma=True", "set it to False"]),
    ({"sampling.variance": "learned"}, ["variance='learned'", "learned_variance=True"]),
    ({**HYBRID, "data.uniform_dequantization": True}, ["uniform_dequantization=True", "set it to False"]),
    ({**HYBRID, "training.reduce_mean": False}, ["reduce_mean=False", "set it to True"]),
    (
        {**HYBRID, "training.objective": "variational", "training.weighting": "likelihood"},
        ["weighting='likelihood'", "set it to 'simple'"],
    ),
    ({**OFFICIAL, "sampling.solver": "euler"}, ["sampling.solver='euler'", "reference=False"]),
    ({**OFFICIAL, "sampling.solver": "ancestral", "sde.name": "subvp"}, ["sde.name='subvp'", "reference=False"]),
    ({**OFFICIAL, "sampling.solver": "ancestral", "sampling.churn": 0.0}, ["churn=0.0", "set it to 1.0"]),
    ({**OFFICIAL, "sampling.churn": 0.5}, ["churn=0.5", "reference=False"]),
    ({**OFFICIAL, "parametrization.prediction": "velocity"}, ["('velocity', 'time')", "('noise', 'time')"]),
    ({**OFFICIAL, **DISCRETE, "sde.schedule": "cosine"}, ["cosine", "reference=False"]),
    ({**OFFICIAL, **DISCRETE, "sampling.num_steps": 50}, ["num_steps=50", "num_scales=1000", "one value"]),
    ({**OFFICIAL, "sampling.num_steps": 15}, ["beta_max=20.0", "num_steps=15", "more steps"]),
    ({**OFFICIAL, **DISCRETE, **VE, "sampling.solver": "rk45"}, ["num_scales=1000", "'ve'", "reference=False"]),
    (
        {**OFFICIAL, **DISCRETE, "sampling.solver": "rk45", "sde.num_scales": 100},
        ["num_scales=100", "'vp'", "reference=False"],
    ),
    ({**OFFICIAL, **DISCRETE, **VE, "sampling.t_min": 1e-3}, ["t_min=0.001", "set it to 1e-5"]),
    ({"sampling.solver": "adaptive_sde", "sampling.rtol": 0.01}, ["sampling.rtol=0.01", "sampling.sde_rtol"]),
    ({"sampling.solver": "dpm_solver_23", "sampling.atol": 0.01}, ["sampling.atol=0.01", "sampling.dpm_atol"]),
    ({"sampling.solver": "gotta_go_fast", "sampling.churn": 0.5}, ["churn=0.5", "'gotta_go_fast'"]),
    ({**OFFICIAL, "sampling.solver": "dpm_solver_12_batch"}, ["'dpm_solver_12_batch'", "reference=False"]),
    ({"sampling.solver": "adaptive_sde", "sampling.corrector": "langevin"}, ["'langevin'", "'adaptive_sde'"]),
    ({"sampling.churn": 0.5, "sampling.solver": "euler"}, ["churn=0.5", "'euler'", "set it to 1.0"]),
    ({"sampling.eta": 0.5}, ["eta=0.5", "'euler_maruyama'", "choose ddim"]),
    ({"sampling.lower_final": "always"}, ["'always'", "'euler_maruyama'", "'published'", "deis_2"]),
    ({"sampling.eta": 1.5, "sampling.solver": "ddim"}, ["eta=1.5", "lower it"]),
    ({"sampling.times": "optimised"}, ["'optimised'", "'euler_maruyama'", "such as adams_3"]),
    (
        {"sampling.times": "optimised", "sampling.solver": "adams_3", "sampling.corrector": "langevin"},
        ["'optimised'", "corrector='langevin'", "alone"],
    ),
    ({"sampling.solver": "auto", "sampling.corrector": "langevin"}, ["'langevin'", "'auto'", "set it to 'none'"]),
    ({"sampling.solver": "auto", "sampling.num_steps": 1}, ["num_steps=1", "evaluations", "2 or more"]),
    ({**OFFICIAL, "sampling.solver": "auto"}, ["solver='auto'", "reference=False"]),
    ({"sampling.rho": 0.0}, ["sampling.rho=0.0", "positive"]),
    ({"sampling.solver": "none"}, ["solver='none'", "'annealed_langevin'"]),
    ({"network.name": "ncsn"}, ["network.name='ncsn'", "sde.discrete=True"]),
    ({**NCSN, "data.image_size": 31}, ["image_size=31", "a multiple of 2"]),
    ({"network.name": "ncsnv2_256", "data.image_size": 36}, ["image_size=36", "a multiple of 8"]),
    ({"ema.averages": ()}, ["ema.averages=()", "such as ('constant', 'power')"]),
    ({"ema.averages": ("constant", "pwoer")}, ["'pwoer'", "did you mean power?"]),
    ({"ema.averages": ("constant,power",)}, ["'constant,power'", "('constant','power')"]),
    ({"ema.averages": ("power", "power")}, ["('power', 'power')", "name each once"]),
    ({"ema.averages": (1,)}, ["ema.averages=(1,)", "a tuple of strings, such as ('constant',)"]),
    ({"ema.power_stds": ("wide",)}, ["ema.power_stds=('wide',)", "a tuple of finite numbers, such as (0.05, 0.1)"]),
    ({"ema.power_stds": (0.1, float("nan"))}, ["(0.1, nan)", "a tuple of finite numbers"]),
    ({"ema.power_stds": (0.1, True)}, ["(0.1, True)", "a tuple of finite numbers"]),
    ({"ema.power_stds": (), "ema.averages": ("power",)}, ["ema.power_stds=()", "give it (0.05, 0.1)"]),
    ({"ema.power_stds": (0.05, 0.05)}, ["(0.05, 0.05)", "give each once"]),
    ({"ema.power_stds": (0,)}, ["contains 0:", "at most 1/sqrt(12) = 0.28868"]),
    ({"ema.power_stds": (0.1, 0.3)}, ["contains 0.3", "at most 1/sqrt(12)"]),
    ({"ema.power_stds": (0.289,)}, ["contains 0.289", "at most 1/sqrt(12)"]),
    ({"ema.power_stds": (0.0725,)}, ["contains 0.0725", "give it 0.072"]),
    ({"ema.half_life": 0}, ["ema.half_life=0", "at least 1"]),
    ({"ema.snapshot_every": -1}, ["ema.snapshot_every=-1", "0 or more"]),
    ({"ema.snapshot_every": 9}, ["snapshot_every=9", "('constant',)", "add it there, or set ema.snapshot_every=0"]),
    ({"sampling.average": "constnt"}, ["average='constnt'", "did you mean constant?"]),
    ({"sampling.average": "warmup"}, ["average='warmup'", "choose from constant, raw"]),
    ({"likelihood.average": "warmup"}, ["likelihood.average='warmup'", "choose from constant, raw"]),
    ({"likelihood.divergence": "rademachr"}, ["divergence='rademachr'", "did you mean rademacher?"]),
    ({"likelihood.t_min": 1.5}, ["likelihood.t_min=1.5", "final time 1"]),
    (
        {"sampling.average": "phema", "ema.averages": ("power",)},
        ["'phema'", "power_0.050, power_0.100, raw, or a width", "power_0.070"],
    ),
    ({"sampling.average": "power_0.07"}, ["'power_0.07'", "train with it, or choose from constant, raw"]),
    ({"sampling.average": "power_0.28868", "ema.averages": ("power",)}, ["average is 0.28868", "at most 1/sqrt(12)"]),
    ({**EDM, "sampling.reference": True}, ["sde.name='edm'", "reference=False"]),
    ({**EDM, "sde.sigma_min": 0.002}, ["sde.sigma_min=0.002", "'edm'", "sampling.t_min=0.001", "sigma_min at 0.01"]),
    ({**EDM, "training.times": "uniform"}, ["training.times='uniform'", "sigma_max=50.0", "set it to 'log_normal'"]),
    ({**EDM, "sampling.times": "uniform"}, ["sampling.times='uniform'", "sigma_max=50.0", "set it to 'log_snr'"]),
    ({**EDM, "sde.discrete": True}, ["sde.name='edm'", "choose vp or ve"]),
    ({**EDM, "parametrization.label": "level"}, ["label='level'", "'edm'", "choose vp or ve"]),
    ({**EDM, "sampling.t_min": 60.0}, ["t_min=60.0", "final time 50.0"]),
    ({"sampling.t_min": 1.5}, ["t_min=1.5", "final time 1"]),
    ({**EDM, "network.embedding_type": "fourier"}, ["label='log_sigma'", "parametrization.label='root_sigma'"]),
    ({**EDM, "parametrization.label": "root_sigma"}, ["label='root_sigma'", "parametrization.label='log_sigma'"]),
    ({**EDM, "network.scale_by_sigma": True}, ["prediction='edm'", "scale_by_sigma=False"]),
    ({**EDM, "data.centered": False}, ["prediction='edm'", "centered=True"]),
    ({"parametrization.sigma_data": 0.0}, ["sigma_data=0.0", "positive"]),
    ({"training.p_std": -1.0}, ["p_std=-1.0", "positive"]),
    ({"data.augmentation": 1.2}, ["augmentation=1.2", "[0, 1]"]),
    ({"data.augmentation": 0.12, "data.random_flip": True}, ["augmentation=0.12", "random_flip=False"]),
    ({"data.augmentation": 0.12, "network.name": "ddpm"}, ["augmentation=0.12", "network.name='ncsnpp'"]),
    ({"data.augmentation": 0.12, "network.conditional": False}, ["augmentation=0.12", "conditional=True"]),
    ({**HYBRID, "data.augmentation": 0.12}, ["objective='hybrid'", "augmentation=0.12"]),
    ({"network.name": "ddpm", "network.nf": 16}, ["network.nf=16", "a multiple of 32"]),
    ({"vdm.learned": "all"}, ["vdm.learned='all'", "system.name='score'", "the section is of system.name='vdm'"]),
    ({"reflow.pairs": 7}, ["reflow.pairs=7", "system.name='reflow'", "leave it at"]),
]


LIKELIHOODS = [  # changes, what the mode's sentence must hold
    ({**DISCRETE, "likelihood.t_min": 1e-5}, ["likelihood.t_min=1e-05", "num_scales=1000", "set it to 0.001 or more"]),
    ({**NCSN, "likelihood.t_min": 0.1}, ["network.name='ncsn'", "another network"]),
    ({"likelihood.divergence": "coloured", "likelihood.probes": 3}, ["probes=3", "power of two", "try 4"]),
    ({"likelihood.divergence": "exact", "likelihood.probes": 3}, ["probes=3", "'exact'", "set it to 1"]),
]


@pytest.mark.parametrize(("changes", "words"), LIKELIHOODS, ids=lambda value: " ".join(value))
def test_likelihoods_that_mean_nothing_are_refused_in_their_mode_alone(changes, words):
    config = default()
    config.data.update(image_size=32, num_channels=3)
    check_likelihood(config)
    config.update_from_flattened_dict(changes)
    validate(config)
    with pytest.raises(UsageError) as error:
        check_likelihood(config)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("changes", "words"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, dict) else ""
)
def test_what_does_not_go_together_is_refused_with_the_remedy(changes, words):
    config = default()
    config.data.update(image_size=32, num_channels=3)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UsageError) as error:
        validate(config)
    assert all(word in str(error.value) for word in words), error.value
