"""What a variational autoencoder asks of the rest of a config."""

from score_sde.config.fields import AUTOENCODERS, CODED, Config
from score_sde.config.reading import require_defaults
from score_sde.errors import require

MEANINGLESS = (
    "sde.name", "sde.discrete", "parametrization.prediction", "parametrization.label",
    "parametrization.learned_variance", "training.objective", "training.weighting", "training.times",
    "training.reduce_mean", "data.augmentation", "data.condition", "degradation.name",
)  # fmt: skip
"""Fields of a noise process and of a score's loss, and what encoder and decoder are not told."""


def check_vae(config: Config) -> None:
    """UsageError for a network, a latent or a number of steps that an autoencoder has not."""
    system, network = config.system.name, config.network.name
    if system not in CODED:
        require(
            network not in AUTOENCODERS,
            f"network.name={network!r} is an encoder and a decoder, and system.name={system!r} trains none: set"
            " system.name='vae', or choose ncsnpp",
        )
        return
    require(
        network in AUTOENCODERS,
        f"network.name={network!r} has no encoder and decoder, as system.name={system!r} asks: set it to"
        f" {' or '.join(repr(name) for name in AUTOENCODERS)}",
    )
    latent, levels = config.vae.latent, config.hierarchical.latents
    require(
        len(latent) in (1, 3) and min(latent) >= 1,
        f"vae.latent={latent} must be (d,), or (height, width, channels), each 1 or more: try (20,)",
    )
    if system == "hierarchical":
        require(
            network == "mlp",
            f"network.name={network!r} is for one level of latents, and system.name='hierarchical' has flat ones: set"
            " it to 'mlp'",
        )
        require(
            len(levels) >= 1 and min(levels) >= 1,
            f"hierarchical.latents={levels} must name one size or more, each 1 or more: try (20, 20)",
        )
        require_defaults(config, ("vae.latent",), "whose levels are hierarchical.latents")
    count = len(levels) if system == "hierarchical" else 1
    require(
        config.vae.warmup > 0 or (config.vae.warmup_after == 0 and not config.hierarchical.balanced),
        f"vae.warmup_after={config.vae.warmup_after} and hierarchical.balanced={config.hierarchical.balanced} have no"
        " effect on vae.warmup=0: give it a number of updates",
    )
    require(
        config.sampling.num_steps == count,
        f"sampling.num_steps={config.sampling.num_steps} is not the number of evaluations of a decoder, one for each"
        f" level: set it to {count}",
    )
    require_defaults(config, MEANINGLESS, "an encoder and a decoder of Gaussians")
