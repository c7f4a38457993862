"""What samplers of few steps ask of a config, and the systems that learn them from a teacher."""

import itertools

from score_sde.config.editing_checks import is_edited
from score_sde.config.fields import CODED, FLOWS, OWN_SOLVERS, SAMPLERS, STUDENTS, TAUGHT, Config
from score_sde.config.guidance_checks import acts, is_measured, is_neutral
from score_sde.config.reading import require_defaults
from score_sde.errors import require

EVEN = ("vp", "subvp", *FLOWS)
"""SDEs of which equal steps of t are a grid."""


def check_few_step(config: Config) -> None:
    """Students and GANs draw by their own few steps; networks of an even SDE may."""
    c, system = config.sampling, config.system.name
    student, own = system in STUDENTS, system in SAMPLERS
    name = "unmasking" if system == "masked" else "few_step"
    require(
        not own or c.solver == name,
        f"sampling.solver={c.solver!r} asks for a score, which system.name={system!r} has not: set it to {name!r},"
        " its own sampler",
    )
    require(
        own or c.solver != "unmasking",
        f"sampling.solver='unmasking' draws tokens, and system.name={system!r} has none: choose auto",
    )
    require(
        system in TAUGHT or config.teacher.scale == 1,
        f"teacher.scale={config.teacher.scale} has no effect on system.name={system!r}, which has no teacher: leave it"
        " at 1.0",
    )
    if system == "distilled":
        _check_distilled(config)
    if c.solver not in OWN_SOLVERS:
        return
    require(
        own or config.sde.name in EVEN,
        f"sampling.solver='few_step' takes equal steps of t, and sde.name={config.sde.name!r} has nearly all of its"
        f" noise levels in one of them: choose auto, or train a run of sde.name={' or '.join(map(repr, FLOWS))}",
    )
    edited = is_edited(config) and system not in CODED
    neutral = is_neutral(config.guidance) and not is_measured(config) and not edited
    require(
        neutral,
        f"sampling.solver={c.solver!r} takes the network as it is, without guidance, measurement and editing: "
        + (
            "guide the teacher, by teacher.scale, and distil that"
            if student and acts(config.guidance)
            else "choose a solver of scores, such as auto, on a run of system.name='score'"
        ),
    )
    for name, value in (("corrector", "none"), ("denoise", True), ("reference", False)):
        require(
            c[name] == value,
            f"sampling.{name}={c[name]!r} does not go with sampling.solver={c.solver!r}, whose last evaluation is its"
            f" step to t = 0: set it to {value!r}",
        )


def _check_distilled(config: Config) -> None:
    """Phases in their order, of a loss that has a meaning."""
    steps, updates = config.distillation.steps, config.distillation.updates
    require(
        len(steps) > 0 and min(steps) >= 1,
        f"distillation.steps={steps} must name one number of steps or more, each 1 or more: try 8,4,2,1",
    )
    for before, after in itertools.pairwise(steps):
        require(
            before == 2 * after,
            f"distillation.steps={steps}: {after} is not half of {before}, and every step of a student is two of its"
            " teacher's: give phases in their order, each half of the one before, such as 8,4,2,1",
        )
    require(
        len(updates) in (0, len(steps)) and all(n >= 1 for n in updates),
        f"distillation.updates={updates} must name updates for each of distillation.steps={steps}, or be empty",
    )
    require(
        len(steps) > 1 or config.sampling.num_steps == steps[0],
        f"sampling.num_steps={config.sampling.num_steps} is not distillation.steps={steps}, of which a student draws"
        f" its samples: set it to {steps[0] if steps else 1}",
    )
    names = ("training.objective", "training.times", "data.augmentation")
    require_defaults(config, names, "whose loss is its teacher's two steps against its own one")
    require(
        not config.sde.discrete,
        "sde.discrete=True does not go with system.name='distilled', whose times lie between a chain's levels: choose a"
        " teacher of a continuous SDE",
    )
