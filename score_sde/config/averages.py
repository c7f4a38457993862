"""The names of the parameters' averages, and the checks of what a config says of them; free of jax."""

import re

from score_sde.config.fields import Config, choices
from score_sde.config.reading import nearest
from score_sde.errors import require

KINDS = choices("ema.averages")
RAW = "raw"
"""In the place of an average: the parameters themselves."""
LARGEST_STD = 12**-0.5
"""The width of gamma = 0, where all parameters since the start have one weight: beyond, the older would have more."""


def power_name(std: float) -> str:
    """The name under which the power-function average of this width is stored."""
    return f"power_{std:.3f}"


def width(name: str) -> float | None:
    """The standard deviation of a power-function average's name, stored or not; None of any other name."""
    found = re.fullmatch(r"power_(0?\.\d+)", name)
    return float(found[1]) if found else None


def canonical(name: str) -> str:
    """power_0.05 -> power_0.050; names of another kind, and widths of more than three decimals, as they are."""
    std = width(name)
    return power_name(std) if std is not None and _has_three_decimals(std) else name


def stored_names(config: Config) -> tuple[str, ...]:
    """The names of the averages that are trained, the main one first."""
    powers = tuple(power_name(std) for std in config.ema.power_stds)
    return tuple(name for kind in config.ema.averages for name in (powers if kind == "power" else (kind,)))


def check_averages(config: Config) -> None:
    """UsageError for averages that are unknown, there twice, or missing where something needs them."""
    c = config.ema
    require(
        c.averages, "ema.averages=() leaves nothing to sample from: name one or more, such as ('constant', 'power')"
    )
    for kind in c.averages:
        remedy = f"{nearest(kind, KINDS)} (several are written as ('constant','power'))"
        require(kind in KINDS, f"ema.averages contains {kind!r}, which is unknown: {remedy}")
    require(len(set(c.averages)) == len(c.averages), f"ema.averages={c.averages} has one twice: name each once")
    require(
        c.power_stds or "power" not in c.averages, "ema.power_stds=() has no width for 'power': give it (0.05, 0.1)"
    )
    for std in c.power_stds:
        _check_width("ema.power_stds contains", std)
        require(
            _has_three_decimals(std), f"ema.power_stds contains {std}: give it {std:.3f}, as names have three decimals"
        )
    require(len(set(c.power_stds)) == len(c.power_stds), f"ema.power_stds={c.power_stds} has one twice: give each once")
    require(
        not c.snapshot_every or "power" in c.averages,
        f"ema.snapshot_every={c.snapshot_every} writes averages of the kind 'power', and ema.averages={c.averages}:"
        " add it there, or set ema.snapshot_every=0",
    )
    wanted = {f"{section}.average": config[section].average for section in ("sampling", "likelihood")}
    for field, name in [*wanted.items(), *(("evaluation.averages", name) for name in config.evaluation.averages)]:
        _check_wanted(config, field, name)


def _check_wanted(config: Config, field: str, name: str) -> None:
    stored = stored_names(config)
    if name in ("", RAW) or canonical(name) in stored:
        return
    std, choices = width(name), (*stored, RAW)
    require(
        std is not None,
        f"{field}={name!r} is not among this run's averages: {nearest(name, choices)}"
        + ", or a width of your own, such as power_0.070" * ("power" in config.ema.averages),
    )
    assert std is not None
    _check_width(f"{field} is", std)
    require(
        "power" in config.ema.averages,
        f"{field}={name!r} is put together from averages of the kind 'power', and ema.averages="
        f"{config.ema.averages}: train with it, or choose from {', '.join(choices)}",
    )


def _check_width(what: str, std: float) -> None:
    require(
        0 < std <= LARGEST_STD,
        f"{what} {std}: a width must be above 0 and at most 1/sqrt(12) = {LARGEST_STD:.5f}, that of a plain mean over"
        " all of training; 0.05 to 0.15 are usual",
    )


def _has_three_decimals(std: float) -> bool:
    return float(f"{std:.3f}") == std
