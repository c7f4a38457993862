"""What consistency models ask of a config, and what is theirs alone."""

from score_sde.config.fields import ROWS, SCHEMA, Config
from score_sde.config.reading import flatten
from score_sde.errors import require

PREDICTIONS = ("boundary", "edm")
"""Those whose denoiser is the identity where there is no noise, and of a mild network everywhere."""
LIMITS = ("l2", "normalised")
"""Metrics of levels='limit'."""


def check_consistency(config: Config) -> None:
    """Fields that go with one another, and that have no effect elsewhere."""
    if config.system.name != "consistency":
        _check_others(config)
        return
    c, prediction = config.consistency, config.parametrization.prediction
    require(
        prediction in PREDICTIONS,
        f"parametrization.prediction={prediction!r} is not the identity at the least noise, as system.name="
        "'consistency' asks: set it to 'boundary', or 'edm' to go on with EDM's",
    )
    require(
        not config.sde.discrete,
        "sde.discrete=True does not go with system.name='consistency', whose levels are its own: set it to False",
    )
    limit = c.levels == "limit"
    require(
        c.metric in LIMITS if limit else c.metric != "normalised",
        f"consistency.metric={c.metric!r} does not go with consistency.levels={c.levels!r}: choose "
        + (" or ".join(map(repr, LIMITS)) if limit else "l1, l2 or pseudo_huber"),
    )
    require(
        c.metric != "normalised" or prediction == "edm",
        f"parametrization.prediction={prediction!r} has another angle than consistency.metric='normalised', which is"
        " EDM's: set it to 'edm'",
    )
    require(
        c.target == "self" or c.target in config.ema.averages,
        f"consistency.target={c.target!r} is not among ema.averages={config.ema.averages}: add it there",
    )
    require(c.first <= c.last, f"consistency.first={c.first} exceeds consistency.last={c.last}: lower it")
    require(
        c.pair != "data" or config.teacher.scale == 1,
        f"teacher.scale={config.teacher.scale} has no effect on consistency.pair='data', which has no teacher: leave it"
        " at 1.0",
    )
    idle = ["training.objective", "data.augmentation"]
    if limit:
        idle += [f"consistency.{n}" for n in ("target", "huber", "over_gap", "curriculum", "first", "last")]
    if c.metric == "normalised":
        idle.append("training.weighting")
    for name in idle:
        section, field = name.split(".")
        require(
            config[section][field] == SCHEMA[name],
            f"{name}={config[section][field]!r} has no effect on this consistency model: leave it at {SCHEMA[name]!r}",
        )
    _check_nodes(config)


def _check_nodes(config: Config) -> None:
    """Times that fall, one fewer than evaluations."""
    nodes, count = config.sampling.nodes, config.sampling.num_steps
    if not nodes:
        return
    require(
        len(nodes) == count - 1,
        f"sampling.nodes={nodes} are the times of all evaluations but the first, which is at T: name"
        f" {count - 1} for sampling.num_steps={count}, or none",
    )
    falling = all(a > b for a, b in zip(nodes, (*nodes[1:], config.training.t_min), strict=True))
    require(falling, f"sampling.nodes={nodes} must fall from T towards training.t_min={config.training.t_min}")


def _check_others(config: Config) -> None:
    """That nothing here is asked for by another system."""
    system, flat = config.system.name, flatten(config)
    changed = [name for name in ROWS if name.startswith("consistency.") and flat[name] != SCHEMA[name]]
    asked = {
        **dict.fromkeys(changed, True),
        "ema.averages=('scheduled')": "scheduled" in config.ema.averages,
        "parametrization.prediction='boundary'": config.parametrization.prediction == "boundary",
        "sampling.nodes": bool(config.sampling.nodes),
    }
    for what, there in asked.items():
        require(
            not there,
            f"{what} is of consistency models alone, and system.name={system!r}: leave it out, or set system.name to"
            " 'consistency'",
        )
