"""Every check of a config that can be made before jax is imported: what is wrong, its value, the remedy."""

import math
from typing import Any

from score_sde.config.adversarial_checks import check_adversarial
from score_sde.config.architecture import check_network
from score_sde.config.autoencoder_checks import check_autoencoder
from score_sde.config.averages import check_averages
from score_sde.config.bound_checks import check_bound, check_ode
from score_sde.config.consistency_checks import check_consistency
from score_sde.config.data_checks import check_data, known_shape
from score_sde.config.degradation_checks import check_degradation
from score_sde.config.editing_checks import check_editing
from score_sde.config.few_step_checks import check_few_step
from score_sde.config.field_checks import check_fields, check_missing
from score_sde.config.fields import BOUNDED, ROWS, SCHEMA, Config
from score_sde.config.guidance_checks import check_guidance, check_measurement
from score_sde.config.latent_checks import check_latent
from score_sde.config.point_checks import check_points
from score_sde.config.reading import element, flatten, nearest, require_field, wrong_type
from score_sde.config.reflow_checks import check_reflow
from score_sde.config.sampling_checks import ADAPTIVE, check_reference, check_sampling
from score_sde.config.system_checks import check_sections, check_system
from score_sde.config.text_checks import check_text
from score_sde.config.vae_checks import check_vae
from score_sde.config.vdm_checks import check_vdm
from score_sde.errors import UsageError, require, require_increasing

FROZEN: dict[str, tuple[str, ...]] = {
    "score": (), "classifier": (), "reflow": ("teacher",), "distilled": ("teacher",), "consistency": ("teacher",),
    "adversarial": (), "vae": (), "hierarchical": (), "vdm": (), "latent": ("autoencoder",), "autoencoder": (),
}  # fmt: skip
"""The parts of other runs that every system asks for."""
SAMPLING: dict[str, tuple[str, ...]] = {
    "score": ("guide", "classifier"), "classifier": (), "reflow": ("guide", "classifier"), "distilled": (),
    "consistency": (), "adversarial": (), "vae": (), "hierarchical": (), "vdm": (), "latent": (), "autoencoder": (),
}  # fmt: skip
"""Those that its samples may take, by the section `guidance`, and its training never sees."""
DECODERS = ("autoencoder",)
"""Parts that training asks for and samples need too."""


FINAL = {"edm": lambda c: c.sigma_max, "polynomial": lambda c: 1 - 1e-3 ** (1 / c.power)}
"""The final time of those SDEs that do not end at about 1."""


def validate(config: Config, own_system: bool = False) -> None:
    """Raise UsageError for the first thing that is wrong with the config; imports nothing heavy.

    own_system: another system than `system.name` is trained, which may ask for any frozen part, condition and shape.
    """
    flat = flatten(config)
    _check_types(flat)
    for name, row in ROWS.items():
        if row.rule.choices and not isinstance(row.default, tuple) and not row.rule.holds(flat[name]):
            raise UsageError(f"{name}={flat[name]!r} is unknown: {nearest(flat[name], row.rule.choices)}")
    for name, row in ROWS.items():
        require(
            row.rule.choices or row.rule.holds(flat[name]),
            f"{name}={flat[name]} must be {row.rule.words}: give it another value",
        )
    require(
        config.evaluation.final_samples != 1, "evaluation.final_samples=1 has no covariance: give it 0, or 2 or more"
    )
    require(config.evaluation.num_samples > 1, "evaluation.num_samples=1 has no covariance: give it 2 or more")
    require(config.evaluation.num_data != 1, "evaluation.num_data=1 has no covariance: give it 0 for all, or 2 or more")
    require_increasing("sde.beta_min", config.sde.beta_min, "sde.beta_max", config.sde.beta_max)
    require_increasing("sde.sigma_min", config.sde.sigma_min, "sde.sigma_max", config.sde.sigma_max)
    for section in ("training", "sampling", "likelihood"):
        t_min = config[section].t_min
        final = FINAL.get(config.sde.name, lambda c: 1.0)(config.sde)
        require(t_min < final, f"{section}.t_min={t_min} must be below the SDE's final time {final}: try 1e-3")
    require(
        config.parallel.fsdp == 1 or config.parallel.strategy == "sharded",
        f"parallel.fsdp={config.parallel.fsdp} has no effect on parallel.strategy={config.parallel.strategy!r}: set the"
        " strategy to 'sharded'",
    )
    require(
        config.training.batch_size % config.training.microbatches == 0,
        f"training.microbatches={config.training.microbatches} does not divide training.batch_size="
        f"{config.training.batch_size}: choose a divisor of it",
    )
    require(
        config.optimizer.grad_clip != 0,
        "optimizer.grad_clip=0.0 would make every gradient zero: give it a norm above 0, or a negative number for none",
    )
    check_sampling(config)
    check_guidance(config)
    check_measurement(config)
    check_degradation(config)
    check_missing(config)
    check_fields(config)
    check_editing(config)
    _check_levels(config)
    _check_objective(config)
    check_reference(config)
    _check_edm(config)
    check_averages(config)
    check_data(config, own_system)
    if own_system:
        return
    check_system(config)
    check_text(config)
    check_few_step(config)
    check_adversarial(config)
    check_reflow(config)
    check_consistency(config)
    check_vae(config)
    check_latent(config)
    check_autoencoder(config)
    check_vdm(config)
    check_points(config)
    check_sections(config)
    _check_frozen(config)
    if shape := known_shape(config):
        check_network(config, shape)


def check_likelihood(config: Config) -> None:
    """UsageError for a likelihood that means nothing, or settings of it without effect: for that mode alone."""
    c = config.likelihood
    if config.system.name in BOUNDED:
        check_bound(config)
        return
    require(
        c.importance_samples == 0,
        f"likelihood.importance_samples={c.importance_samples} has no effect on system.name={config.system.name!r},"
        " which has no latents: set it to 0",
    )
    check_ode(config, "likelihood")


def _check_frozen(config: Config) -> None:
    """That every part of another run has a system that asks for it."""
    for part, run in config.frozen.items():
        require(
            not run or part in (*FROZEN[config.system.name], *SAMPLING[config.system.name]),
            f"frozen.{part}={run!r} is not asked for by system.name={config.system.name!r}: leave it empty",
        )


def _check_types(flat: dict[str, Any]) -> None:
    for name in flat:
        require_field(name)
    for name, expected in SCHEMA.items():
        require(name in flat, f"{name} is missing from the config: build it from score_sde.config.default()")
        kind = element(name) if isinstance(expected, tuple) else None
        if not _is_like(flat[name], type(expected), kind):
            raise UsageError(wrong_type(name, flat[name]))


def _is_like(value: Any, kind: type, elements: type | None = None) -> bool:
    """Whether a value is of this type; integers are numbers, and a tuple's elements are of one type."""
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        return False
    if elements is not None:
        return all(_is_like(v, elements) for v in value)
    return kind is not float or math.isfinite(value)


def _check_levels(config: Config) -> None:
    """Discrete noise levels: who asks for them needs them, and which SDE has them."""
    c, label = config.sde, config.parametrization.label
    require(c.num_scales >= 2, f"sde.num_scales={c.num_scales} must be at least 2: the published models have 1000")
    asking = [
        f"{name}={value!r}"
        for name, value, choice in (
            ("parametrization.label", label, "level"),
            ("training.times", config.training.times, "levels"),
            ("sampling.times", config.sampling.times, "levels"),
            ("sde.schedule", c.schedule, c.schedule if c.schedule != "linear" else None),
        )
        if value == choice
    ]
    has_none = c.name not in ("vp", "ve")
    remedy = f"which sde.name={c.name!r} has not: choose vp or ve" if has_none else "set sde.discrete=True"
    require(c.discrete or not asking, f"{' and '.join(asking)} asks for discrete noise levels: {remedy}")
    if not c.discrete:
        return
    require(
        not has_none,
        f"sde.discrete=True has no meaning for sde.name={c.name!r}, which was never a discrete chain: choose vp or ve",
    )
    require(
        label == "level" and config.training.times == "levels",
        f"sde.discrete=True does not go with parametrization.label={label!r} and training.times="
        f"{config.training.times!r}: set them to 'level' and 'levels'",
    )
    require(c.schedule == "linear" or c.name == "vp", f"sde.schedule={c.schedule!r} is VP's: set sde.schedule='linear'")
    require(
        c.name != "vp" or c.schedule != "linear" or c.beta_max < c.num_scales,
        f"sde.beta_max={c.beta_max} is not below sde.num_scales={c.num_scales}, which makes the last beta"
        " beta_max / num_scales 1 or more: raise num_scales",
    )
    steps = config.sampling.num_steps
    require(
        config.sampling.times != "levels" or steps <= c.num_scales,
        f"sampling.num_steps={steps} exceeds the sde.num_scales={c.num_scales} levels that sampling.times='levels'"
        " steps through: lower it",
    )


def _check_objective(config: Config) -> None:
    """What the variational objectives, the posterior mean and learned variances ask of the rest."""
    objective, learned = config.training.objective, config.parametrization.learned_variance
    prediction, bounds = config.parametrization.prediction, ("variational", "hybrid")
    for field, asks in (
        (f"training.objective={objective!r}", objective in bounds),
        (f"parametrization.prediction={prediction!r}", prediction == "posterior_mean"),
        (f"parametrization.learned_variance={learned}", learned),
    ):
        require(
            not asks or (config.sde.discrete and config.sde.name == "vp"),
            f"{field} belongs to DDPM's chain: set sde.name='vp' and sde.discrete=True",
        )
    require(
        not learned or objective in bounds,
        f"parametrization.learned_variance=True is not trained by training.objective={objective!r}: choose 'hybrid' or"
        " 'variational'",
    )
    require(
        not learned or config.network.name in ("ncsnpp", "ddpm", "adm"),
        f"network.name={config.network.name!r} has no second output for parametrization.learned_variance=True:"
        " choose ncsnpp, ddpm or adm",
    )
    require(
        learned or config.sampling.variance != "learned",
        "sampling.variance='learned' needs a network that learned it: set parametrization.learned_variance=True",
    )
    require(
        not learned or not config.network.scale_by_sigma,
        "network.scale_by_sigma=True would divide the learned variance by sigma too: set it to False",
    )
    if objective not in bounds:
        return
    weighting = config.training.weighting
    require(
        objective != "variational" or weighting == "simple",
        f"training.weighting={weighting!r} has no effect on training.objective='variational', which is weighted as the"
        " bound is: set it to 'simple'",
    )
    require(
        config.training.reduce_mean,
        f"training.reduce_mean=False does not go with training.objective={objective!r}, whose bound is a mean over"
        " dimensions: set it to True",
    )
    require(
        not config.data.uniform_dequantization,
        f"data.uniform_dequantization=True does not go with training.objective={objective!r}, whose bound is on the"
        " probability of the bytes themselves: set it to False",
    )


def _check_edm(config: Config) -> None:
    """What means nothing where time is the noise level itself."""
    c, unchanged = config.sde, SCHEMA["sde.sigma_min"]
    if c.name != "edm":
        return
    require(
        c.sigma_min == unchanged,
        f"sde.sigma_min={c.sigma_min} has no effect on sde.name='edm', whose noise levels begin at 0: sampling ends at"
        f" sampling.t_min={config.sampling.t_min}, so set that, and leave sigma_min at {unchanged}",
    )
    far = f"up to sde.sigma_max={c.sigma_max}, nearly all of them far beyond the data"
    require(
        config.training.times != "uniform",
        f"training.times='uniform' under sde.name='edm' draws noise levels uniformly {far}: set it to 'log_normal' or"
        " 'likelihood'",
    )
    require(
        config.sampling.times != "uniform" or config.sampling.solver in (*ADAPTIVE, "auto"),
        f"sampling.times='uniform' under sde.name='edm' is a grid of noise levels {far}: set it to 'log_snr' or"
        " 'quadratic'",
    )
