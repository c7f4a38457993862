"""The checks of a config's sections `guidance` and `measurement`: what they take, and what they go with."""

from score_sde.config.degradation_checks import is_degraded
from score_sde.config.fields import MEASURING, SCHEMA, Config
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
        lam == 1 or config.frozen.guide or config.data.condition,
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


def is_measured(config: Config) -> bool:
    """Whether samples answer a measurement."""
    return config.measurement.name != "none"


def check_measurement(config: Config) -> None:
    """A measurement has its file, and something in the sampler that holds it; nothing else asks for one."""
    c, g, s, name = config.measurement, config.guidance, config.sampling, config.measurement.name
    holds = s.solver in MEASURING
    if not is_measured(config):
        for field, value in (
            ("measurement.path", c.path),
            ("measurement.samples", c.samples),
            ("guidance.method", g.method),
        ):
            require(
                value == SCHEMA[field] or (is_degraded(config) and field.startswith("measurement.")),
                f"{field}={value!r} is for a measurement, and measurement.name is 'none': name its operator, or leave"
                f" {field} at {SCHEMA[field]!r}",
            )
        require(
            not holds,
            f"sampling.solver={s.solver!r} holds a measurement: set measurement.name and measurement.path, or choose"
            " another solver",
        )
    require(
        bool(c.path) == is_measured(config) or is_degraded(config),
        f"measurement.name={name!r} has no file: set measurement.path to an .npz file with y and sigma_y",
    )
    require(
        not holds or g.method in ("auto", "none"),
        f"guidance.method={g.method!r} and sampling.solver={s.solver!r} would both hold the measurement: set"
        " guidance.method='none', or choose a solver that holds none",
    )
    require(
        g.method != "none" or holds,
        f"guidance.method='none' with sampling.solver={s.solver!r} leaves the measurement out: choose a method, or one"
        f" of {', '.join(MEASURING)}",
    )
    require(
        s.solver != "repaint" or name == "inpaint",
        f"sampling.solver='repaint' repairs masks, not measurement.name={name!r}: choose another solver",
    )
    require(
        not holds or s.corrector == "none",
        f"sampling.corrector={s.corrector!r} knows nothing of the measurement that sampling.solver={s.solver!r} holds:"
        " set it to 'none'",
    )
    for field, used in (
        ("products", not holds and g.method in ("auto", "matched", "mmps")),
        ("step", s.solver in ("dps", "diffpir") or g.method == "diffpir"),
        ("repeats", s.solver == "repaint"),
        ("particles", is_measured(config) and not holds),
    ):
        require(
            used or g[field] == SCHEMA[f"guidance.{field}"],
            f"guidance.{field}={g[field]} has no effect on guidance.method={g.method!r} with sampling.solver="
            f"{s.solver!r}: leave it at {SCHEMA[f'guidance.{field}']}",
        )
    require(
        g.particles == 1 or s.solver in ("auto", "exponential_euler_maruyama", "peaked_sde"),
        f"guidance.particles={g.particles} go by steps of sampling.solver='exponential_euler_maruyama', not"
        f" {s.solver!r}: choose it",
    )
    require(
        g.particles == 1 or not g.interval or g.interval_by == "evaluation",
        f"guidance.interval={g.interval} by steps is not for guidance.particles={g.particles}, of one score:"
        " set guidance.interval_by='evaluation'",
    )
    if not is_measured(config):
        return
    require(not s.reference, "the official sampler has no such measurements: set sampling.reference=False")
    require(
        s.times != "optimised",
        "sampling.times='optimised' is made for the probability-flow ODE without a measurement: choose another grid",
    )
