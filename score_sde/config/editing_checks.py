"""The checks of a config's section `editing`: what each of its names asks for, and what it goes with."""

from collections.abc import Callable

from score_sde.config.degradation_checks import is_degraded
from score_sde.config.fields import CODED, SCHEMA, Config
from score_sde.config.guidance_checks import is_measured, strength
from score_sde.errors import require


def is_edited(config: Config) -> bool:
    """Whether samples are made of examples that are given."""
    return config.editing.name != "none"


def check_editing(config: Config) -> None:
    """UsageError for an editing without its file, level or solver, and for what does not go with it."""
    c, s, name = config.editing, config.sampling, config.editing.name
    if not is_edited(config):
        for field in ("path", "time", "repeats", "samples"):
            require(
                c[field] == SCHEMA[f"editing.{field}"],
                f"editing.{field}={c[field]!r} is for editing, and editing.name is 'none': set it to 'edit', 'purify'"
                f" or 'interpolate', or leave editing.{field} at {SCHEMA[f'editing.{field}']!r}",
            )
        return
    require(c.path, f"editing.name={name!r} has no file: set editing.path to an .npz file with x")
    require(
        not is_measured(config),
        f"editing.name={name!r} and measurement.name={config.measurement.name!r} both say what samples begin with: set"
        " one of them to 'none'; pixels that are to stay are editing's `mask`",
    )
    require(
        not is_degraded(config),
        f"editing.name={name!r} with degradation.name={config.degradation.name!r}: a network that is shown pictures is"
        " asked for what answers them (measurement.path); choose another run, or set editing.name='none'",
    )
    if config.system.name in CODED:
        _check_coded(config)
        return
    if name == "reconstruct":
        CHECKS[name](config)
    require(not s.reference, "the official sampler edits nothing: set sampling.reference=False")
    require(
        s.solver != "auto" and s.times != "optimised",
        f"sampling.solver={s.solver!r} with sampling.times={s.times!r} is chosen for samples from noise alone: name"
        " another solver and grid, such as 'exponential_euler_maruyama' on 'log_snr'",
    )
    last = config.sde.sigma_max if config.sde.name == "edm" else 1.0
    require(
        s.t_min < c.time <= last or (name == "interpolate" and c.time == 0),
        f"editing.time={c.time} must lie above sampling.t_min={s.t_min} and not above the SDE's end {last:g}: give it a"
        " level such as 0.5, SDEdit's of a VP SDE, or 0.1, DiffPure's",
    )
    CHECKS[name](config)


def _check_coded(config: Config) -> None:
    """An autoencoder goes there and back by its networks, at no noise level."""
    c, system = config.editing, config.system.name
    require(
        system == "vae" and c.name in ("interpolate", "reconstruct"),
        f"editing.name={c.name!r} with system.name={system!r}: 'interpolate' and 'reconstruct' are a vae's, and the"
        " others ask for a score; choose one of these, or another run",
    )
    for field in ("time", "repeats"):
        require(
            c[field] == SCHEMA[f"editing.{field}"],
            f"editing.{field}={c[field]} has no effect on system.name={system!r}: leave it at"
            f" {SCHEMA[f'editing.{field}']}",
        )
    _check_points(config)


def _check_points(config: Config) -> None:
    """That there is something between the two of a pair."""
    c = config.editing
    require(
        c.name != "interpolate" or c.samples > 1,
        f"editing.samples={c.samples} leaves nothing between the two of a pair: give it 2 or more, the ends among them",
    )


def _check_reconstruct(config: Config) -> None:
    require(
        config.system.name == "vae",
        f"editing.name='reconstruct' asks for an encoder, which system.name={config.system.name!r} has not: choose a"
        " run of system.name='vae', or editing.name='edit'",
    )


def _check_purify(config: Config) -> None:
    """It is told no class: the one that an example has is what the classifier is to find."""
    told = config.sampling.label or config.guidance.classifier_scale
    require(
        not told,
        f"editing.name='purify' with sampling.label={config.sampling.label!r} and guidance.classifier_scale="
        f"{config.guidance.classifier_scale} would tell what the classifier is to find: leave both out",
    )
    require(
        "label" not in config.data.condition or strength(config.guidance) == 0,
        "editing.name='purify' asks for a score without labels, and this network is told them: set guidance.scale=0.0"
        " where network.label_dropout has trained that, or choose a run without data.condition",
    )


def _check_interpolate(config: Config) -> None:
    """Pairs go by the probability-flow ODE, there and back."""
    c, s = config.editing, config.sampling
    require(
        s.solver == "rk45",
        f"editing.name='interpolate' encodes and decodes by the probability flow, not by sampling.solver={s.solver!r}:"
        " set it to 'rk45'",
    )
    require(c.repeats == 1, f"editing.repeats={c.repeats} has no effect on editing.name='interpolate': leave it at 1")
    _check_points(config)
    require(
        s.label or ("label" not in config.data.condition and config.guidance.classifier_scale == 0),
        "editing.name='interpolate' decodes under a class, as the network or the classifier asks: name it by"
        " sampling.label",
    )


CHECKS: dict[str, Callable[[Config], None]] = {
    "edit": lambda config: None,
    "purify": _check_purify,
    "interpolate": _check_interpolate,
    "reconstruct": _check_reconstruct,
}
"""What each asks for besides, by editing.name."""
