"""The checks of a config's `guidance` section: what it takes, and what it goes with."""

from score_sde.config.fields import SCHEMA, Config
from score_sde.config.sampling_checks import ADAPTIVE
from score_sde.errors import require


def strength(guidance: Config) -> float:
    """lambda of u + lambda (c - u), by whichever of scale and weight is given."""
    return guidance.scale if guidance.weight == 0 else 1 + guidance.weight


def is_neutral(guidance: Config) -> bool:
    """Whether samples are the score's own."""
    return not acts(guidance) and guidance.threshold == "none"


def acts(guidance: Config) -> bool:
    """Whether anything is added to the score: from another one, from a classifier, or from a function."""
    return strength(guidance) != 1 or guidance.classifier_scale != 0 or guidance.log_prob != ""


def check_guidance(config: Config) -> None:
    """One letter for lambda, two halves of a score, and an interval that solver and guidance can use."""
    c, lam = config.guidance, strength(config.guidance)
    require(
        c.scale == 1 or c.weight == 0,
        f"guidance.scale={c.scale} and guidance.weight={c.weight} are two letters for one number: lambda, of u + lambda"
        " (c - u), and w = lambda - 1; give one of them",
    )
    require(
        lam == 1 or config.frozen.guide or "label" in config.data.condition,
        f"guidance with lambda {lam:g} is between a label and none, and this network is told no labels: train one with"
        " data.condition=('label',) and network.label_dropout=0.1, name a weaker run as frozen.guide, or leave"
        " guidance.scale at 1.0",
    )
    require(
        lam == 1 or config.frozen.guide or config.network.label_dropout > 0,
        f"guidance with lambda {lam:g} takes a score without a label, which network.label_dropout=0.0 has not trained:"
        " train with a dropout such as 0.1, name a weaker run as frozen.guide, or leave guidance.scale at 1.0",
    )
    for name, on in (("interval", acts(c)), ("rescale", lam != 1)):
        require(
            on or c[name] == SCHEMA[f"guidance.{name}"],
            f"guidance.{name}={c[name]} has no effect without guidance: set guidance.scale, or leave it out",
        )
    require(
        c.classifier_scale == 0 or config.frozen.classifier,
        f"guidance.classifier_scale={c.classifier_scale} asks for a classifier, and frozen.classifier is empty: name a"
        " run of system.name='classifier' there, or leave it at 0.0",
    )
    require(
        c.log_prob_scale == SCHEMA["guidance.log_prob_scale"] or c.log_prob,
        f"guidance.log_prob_scale={c.log_prob_scale} has no effect without guidance.log_prob: name a function there",
    )
    require(
        len(c.interval) in (0, 2) and (not c.interval or 0 <= c.interval[0] < c.interval[1]),
        f"guidance.interval={c.interval} is no interval of noise levels: give (low, high), 0 <= low < high, or ()",
    )
    require(
        not (c.interval and config.sampling.solver in ADAPTIVE and c.interval_by == "step"),
        f"guidance.interval_by='step' is for fixed grids, and sampling.solver={config.sampling.solver!r} chooses its"
        " own steps: set guidance.interval_by='evaluation', or take another solver",
    )
    require(
        c.quantile == SCHEMA["guidance.quantile"] or c.threshold == "dynamic",
        f"guidance.quantile={c.quantile} has no effect on guidance.threshold={c.threshold!r}: set that to 'dynamic'",
    )
    require(
        is_neutral(c) or not config.sampling.reference,
        "the official sampler has no such guidance: set sampling.reference=False, or leave the section guidance alone",
    )
