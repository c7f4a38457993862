"""The checks of fields: of what is missing in them, and of those beside them. Free of jax."""

from score_sde.config.degradation_checks import is_degraded
from score_sde.config.editing_checks import is_edited
from score_sde.config.fields import U_NETS, Config
from score_sde.config.guidance_checks import is_measured
from score_sde.errors import require
from score_sde.names import FIELD


def is_masked(config: Config) -> bool:
    """Whether NaN stands for what is not there."""
    return config.data.missing == "mask"


def check_fields(config: Config) -> None:
    """Fields beside x have a system that is shown them, and samples are asked for by fields where there are any."""
    if FIELD not in config.data.condition:
        path = config.sampling.condition
        require(
            not path, f"sampling.condition={path!r} has no effect without fields: set data.condition=('field',), or ''"
        )
        return
    name = config.system.name
    require(
        name == "score", f"data.condition=('field',) is for system.name='score', and not for {name!r}: leave it out"
    )
    for used, what in (
        (is_measured(config), f"measurement.name={config.measurement.name!r} is of one law of examples"),
        (is_edited(config), f"editing.name={config.editing.name!r} is of one law of examples"),
    ):
        require(not used, f"{what}, and with data.condition=('field',) there are several: set one of them back")


def check_missing(config: Config) -> None:
    """Missing elements have a system that leaves them out, and a network that is told of them."""
    if not is_masked(config):
        return
    field = "data.missing='mask'"
    require(
        config.system.name == "score",
        f"{field} is for system.name='score', which leaves out of its loss what is not there, and not for"
        f" {config.system.name!r}: fill the data, or leave it at 'refuse'",
    )
    require(
        config.network.name in U_NETS,
        f"network.name={config.network.name!r} cannot be told what is not there, as {field} asks: choose"
        f" {', '.join(U_NETS)}",
    )
    for used, what in (
        (is_degraded(config), f"degradation.name={config.degradation.name!r} shows a whole picture"),
        (is_measured(config), f"measurement.name={config.measurement.name!r} is of whole examples"),
        (is_edited(config), f"editing.name={config.editing.name!r} is of whole examples"),
        (config.sampling.reference, "sampling.reference=True is the official code's, which knows of nothing missing"),
        (config.guidance.log_prob != "", f"guidance.log_prob={config.guidance.log_prob!r} is of whole examples"),
    ):
        require(not used, f"{what}, and with {field} there are others: set one of them back")


def check_missing_kind(config: Config, kind: str) -> None:
    """UsageError for data in which nothing can be NaN."""
    require(
        not is_masked(config) or kind == "real",
        f"data.missing='mask' is for NaN in real numbers, and the data are {kind}: leave it at 'refuse'",
    )


def check_compared(config: Config, differ: bool) -> None:
    """UsageError for figures of samples against examples of which each misses something else."""
    require(
        not differ or config.evaluation.final_samples == 0,
        f"evaluation.final_samples={config.evaluation.final_samples} compares whole samples with examples of which each"
        " misses something else: set it to 0",
    )


def check_missing_mode(config: Config, mode: str) -> None:
    """UsageError for modes that know of nothing missing."""
    require(
        not is_masked(config) or mode not in ("evaluate", "import", "export"),
        f"--mode={mode} knows of no example that misses something, as data.missing='mask' has them: use --mode report,"
        " sample or likelihood",
    )
