"""What --mode likelihood asks of the config of a system that has a bound of its own."""

from score_sde.config.fields import Config
from score_sde.config.latent_checks import check_first_time
from score_sde.config.reading import require_defaults
from score_sde.errors import require

OF_SCORES = (
    "likelihood.divergence", "likelihood.probes", "likelihood.bound_samples", "likelihood.t_min", "likelihood.solver",
    "likelihood.accuracy", "likelihood.rtol", "likelihood.atol",
)  # fmt: skip
"""Fields of the likelihood by a score's ODE and SDE."""


def check_bound(config: Config) -> None:
    """UsageError for settings of a likelihood that a bound of a system's own has not."""
    require_defaults(config, OF_SCORES, "whose likelihood is bounded by draws of its own, without a score's ODE")
    if config.system.name == "latent":
        check_first_time(config)
    label = config.likelihood.label
    require(
        label != "each",
        f"likelihood.label={label!r} compares likelihoods, and system.name={config.system.name!r} has a bound, whose"
        " gap is another one for every class: name one class, or leave it empty",
    )
