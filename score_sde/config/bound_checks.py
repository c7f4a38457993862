"""What --mode likelihood asks of the config of a system that has a bound of its own."""

from score_sde.config.fields import Config
from score_sde.config.latent_checks import check_first_time, is_flow
from score_sde.config.reading import require_defaults
from score_sde.errors import require

OF_SDE = ("likelihood.bound_samples", "likelihood.t_min", "likelihood.accuracy")
"""Fields of the bound by a score's SDE, of where its ODE begins, and of grids."""
OF_ODE = ("likelihood.solver", "likelihood.divergence", "likelihood.probes", "likelihood.rtol", "likelihood.atol")
"""Fields of the density by a score's ODE, which latents have too."""


def check_bound(config: Config) -> None:
    """UsageError for settings of a likelihood that a bound of a system's own has not, and for latents without one."""
    system, c = config.system.name, config.likelihood
    require(
        system != "autoencoder" or config.autoencoder.regular != "vq",
        f"autoencoder.regular={config.autoencoder.regular!r} has a codebook's latents, which have no density, so that"
        " there is no bound on the likelihood: use a run of autoencoder.regular='kl'",
    )
    if is_flow(config):
        require_defaults(config, OF_SDE, "whose prior rk45 takes by the ODE from training.t_min on")
        check_ode(config, "training")
    else:
        ode = "an ODE unless likelihood.solver='rk45'" if system == "latent" else "a score's ODE"
        require_defaults(config, OF_SDE + OF_ODE, f"whose likelihood is bounded by draws of its own, without {ode}")
    if system == "latent":
        _check_latent(config)
    require(
        c.label != "each",
        f"likelihood.label={c.label!r} compares likelihoods, and system.name={system!r} has a bound, whose"
        " gap is another one for every class: name one class, or leave it empty",
    )


def check_ode(config: Config, section: str) -> None:
    """UsageError for a score that is not there from that section's t_min on, or probes that a divergence has not."""
    c, sde, t_min = config.likelihood, config.sde, config[section].t_min
    require(
        config.network.name != "ncsn",
        "network.name='ncsn' jumps from one noise level's parameters to the next's, and likelihoods need the score at"
        " every time in between: choose a run of another network",
    )
    require(
        not (sde.discrete and sde.name == "vp" and config.training.times != "between_levels")
        or t_min >= 1 / sde.num_scales,
        f"{section}.t_min={t_min} lies below the least of the sde.num_scales={sde.num_scales} noise levels that the"
        f" network knows: set it to {1 / sde.num_scales} or more",
    )
    require(
        c.divergence != "coloured" or c.probes & (c.probes - 1) == 0,
        f"likelihood.probes={c.probes} is not a power of two, as likelihood.divergence='coloured' asks: try 4",
    )
    require(
        c.divergence != "exact" or c.probes == 1,
        f"likelihood.probes={c.probes} has no effect on likelihood.divergence='exact': set it to 1",
    )


def _check_latent(config: Config) -> None:
    """UsageError for a bound that would flatter: by its t_0, or as the mean of ratios that are estimates."""
    c, flow = config.likelihood, is_flow(config)
    if not flow:
        check_first_time(config)
    require(
        c.importance_samples == 0 or (flow and c.divergence == "exact"),
        f"likelihood.importance_samples={c.importance_samples} asks for the latents' density without noise, and"
        f" likelihood.solver={c.solver!r} with likelihood.divergence={c.divergence!r} has not that: set them to 'rk45'"
        " and 'exact', or likelihood.importance_samples to 0",
    )
