"""The checks of a config's `degradation` section: what a network is shown beside x, and what that goes with."""

from score_sde.config.fields import FIELDS, SCHEMA, U_NETS, Config
from score_sde.errors import require
from score_sde.names import FIELD

TELLING = ("ncsnpp", "dhariwal")
"""Networks that can be told the level of what they are shown."""


def is_degraded(config: Config) -> bool:
    """Whether the network is shown what is left of a picture."""
    return config.degradation.name != "none"


def check_degradation(config: Config) -> None:
    """A degradation has a network that takes pictures beside x, and every field of it an effect."""
    c, network, name = config.degradation, config.network, config.degradation.name
    smaller = name in ("box", "bicubic")
    for field, used in (
        ("factor", smaller or name == "uncrop"),
        ("enlarging", smaller),
        ("first", is_degraded(config)),
        ("noise", is_degraded(config)),
        ("level", c.noise > 0),
    ):
        meaning = "degradation.noise=0.0" if field == "level" else f"degradation.name={name!r}"
        require(
            used or c[field] == SCHEMA[f"degradation.{field}"],
            f"degradation.{field}={c[field]} has no effect with {meaning}: leave it at"
            f" {SCHEMA[f'degradation.{field}']}",
        )
    if not is_degraded(config):
        return
    require(
        FIELD not in config.data.condition,
        f"data.condition={config.data.condition} shows the network a field, and degradation.name={name!r} a picture:"
        " leave one of them out",
    )
    require(
        config.system.name == "score",
        f"degradation.name={name!r} is for what draws samples, and system.name={config.system.name!r} draws none: leave"
        " it at 'none'",
    )
    require(
        network.name in U_NETS,
        f"network.name={network.name!r} cannot be shown a picture beside x, as degradation.name={name!r} asks: choose"
        f" {', '.join(U_NETS)}",
    )
    require(
        c.factor >= 2 or name == "gray",
        f"degradation.factor={c.factor} leaves the picture as it is, so that there is nothing to learn: give 2 or more",
    )
    require(
        not c.noise or (network.name in TELLING and (network.conditional or network.name != "ncsnpp")),
        f"degradation.noise={c.noise} is told to the network, which network.name={network.name!r} with"
        f" network.conditional={network.conditional} cannot be: choose {' or '.join(TELLING)}, or set it to 0.0",
    )
    require(
        not c.noise or not config.data.augmentation,
        f"degradation.noise={c.noise} is told to the network where data.augmentation={config.data.augmentation} is:"
        " set one of them to 0.0",
    )
    require(
        c.level <= c.noise,
        f"degradation.level={c.level} is above degradation.noise={c.noise}, up to which was trained: lower it",
    )
    require(
        config.measurement.name == "none",
        f"measurement.name={config.measurement.name!r} is for networks that are shown nothing, and this one is shown"
        f" what degradation.name={name!r} leaves: set it to 'none', and measurement.path to a file of such pictures",
    )
    require(
        config.sampling.times != "optimised",
        "sampling.times='optimised' is made without the pictures that the network is shown: choose another grid",
    )


def check_degraded_mode(config: Config, mode: str) -> None:
    """UsageError for a mode that a network which is shown a picture has not."""
    reasons = {
        "likelihood": "given a picture made of x itself, x lies in a subspace, where its density has no bound",
        "import": "no other program's file has the picture's channels as these have",
        "export": "no other program's network is shown the picture as this one is",
    }
    require(
        not is_degraded(config) or mode not in reasons,
        f"--mode={mode} is not for degradation.name={config.degradation.name!r}: {reasons.get(mode)}; use a run with"
        " degradation.name='none'",
    )


def same_degradation(config: Config, other: Config) -> bool:
    """Whether another network can be shown what this one is: the same, or nothing."""
    names = [name for name, row in FIELDS["degradation"].fields.items() if not row.free]
    return not is_degraded(other) or all(config.degradation[n] == other.degradation[n] for n in names)
