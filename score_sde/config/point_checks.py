"""The checks of point sets: what trains on them, what goes with them, and what is theirs alone. Free of jax."""

from score_sde.config.data_checks import known_kind
from score_sde.config.degradation_checks import is_degraded
from score_sde.config.editing_checks import is_edited
from score_sde.config.fields import POINT_NETS, SCHEMA, Config
from score_sde.config.guidance_checks import is_measured
from score_sde.errors import require

MODES = {
    "evaluate": "compares features of pictures",
    "import": "reads networks of pictures",
    "export": "writes networks of pictures",
}
"""Modes that know nothing of points, and what they do."""


def is_points(config: Config) -> bool:
    """Whether the data are point sets."""
    return known_kind(config) == "points"


def check_points(config: Config) -> None:
    """UsageError for point sets with what knows nothing of them, and for what is theirs without them."""
    data, network, points = config.data, config.network.name, is_points(config)
    require(
        data.name != "xyz" or data.kind in ("auto", "points"),
        f"data.kind={data.kind!r} does not go with data.name='xyz', whose frames are points: set it to 'points'",
    )
    for name, value in (("data.dimension", data.dimension), ("sampling.points", config.sampling.points)):
        require(
            points or value == SCHEMA[name],
            f"{name}={value!r} has no effect on data that are no points: set data.kind='points', or leave it at"
            f" {SCHEMA[name]!r}",
        )
    if not points:
        require(
            network not in POINT_NETS,
            f"network.name={network!r} is for point sets: set data.kind='points', or choose another network",
        )
        return
    check_point_network(config)
    for used, what in (
        (is_degraded(config), f"degradation.name={config.degradation.name!r}"),
        (is_measured(config), f"measurement.name={config.measurement.name!r}"),
        (is_edited(config), f"editing.name={config.editing.name!r}"),
        (config.sampling.reference, "sampling.reference=True"),
        (config.guidance.log_prob != "", f"guidance.log_prob={config.guidance.log_prob!r}"),
        (config.guidance.threshold != "none", f"guidance.threshold={config.guidance.threshold!r}"),
        (data.missing != "refuse", f"data.missing={data.missing!r}"),
    ):
        require(not used, f"{what} is for data that have places, and points have none: set it back")
    require(
        len(data.shape) in (0, 2),
        f"data.shape={data.shape} is not that of a point set: give the most points and the numbers of one, as (5, 2)",
    )
    check_dimension(data.dimension or 1, data.shape[1] if data.shape else None)


def check_point_network(config: Config) -> None:
    """UsageError for a system, network, prediction or label that does not suit point sets."""
    network, label, objective = config.network.name, config.parametrization.label, config.training.objective
    require(
        network in POINT_NETS,
        f"network.name={network!r} depends on the order of points and on how they are turned: set it to 'egnn'",
    )
    require(
        config.system.name == "score",
        f"system.name={config.system.name!r} is not made for point sets, of which the centre is left out: set it to"
        " 'score'",
    )
    require(
        label == "log_sigma",
        f"parametrization.label={label!r} does not suit network.name='egnn', which is told ln(sigma / alpha) / 4: set"
        " it to 'log_sigma'",
    )
    require(
        not config.parametrization.learned_variance,
        "parametrization.learned_variance=True asks for a second output, which network.name='egnn' has not: set it to"
        " False",
    )
    require(
        objective == "denoising",
        f"training.objective={objective!r} takes no account of the centre of point sets: set it to 'denoising'",
    )


def check_dimension(dimension: int, width: int | None) -> None:
    """UsageError unless points of so many numbers have so many coordinates."""
    require(
        width is None or 1 <= dimension <= width,
        f"data.dimension={dimension} and a point has {width} numbers: give the number of its coordinates, the first"
        " ones, or 0 for all",
    )


def check_point_mode(config: Config, mode: str) -> None:
    """UsageError for modes that know nothing of points."""
    require(
        mode not in MODES or not is_points(config),
        f"--mode={mode} {MODES.get(mode)}, and the data are points: use --mode sample, likelihood or report",
    )
