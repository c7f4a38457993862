"""What an autoencoder for latent diffusion asks of the rest of a config."""

from score_sde.config.fields import SCHEMA, Config
from score_sde.config.reading import require_defaults, require_nothing_drawn
from score_sde.errors import require

OF_VAE = ("vae.warmup", "vae.warmup_after", "vae.free_bits", "sampling.decoder_noise")
"""Fields of a bound that is trained on, and of samples."""


def check_autoencoder(config: Config) -> None:
    """UsageError for a decoder of another density than Laplace's, for samples, and for what has no effect."""
    c = config.autoencoder
    if config.system.name != "autoencoder":
        return
    require_defaults(config, OF_VAE, "whose loss is an absolute error")
    variance = config.vae.decoder_variance
    require(
        variance == "constant_scalar",
        f"vae.decoder_variance={variance!r} has no meaning for system.name='autoencoder', whose s is one number: set it"
        " to 'constant_scalar'",
    )
    require_nothing_drawn(config)
    unused = ("kl_weight",) if c.regular == "vq" else ("codes", "beta")
    unused += () if c.critic_weight else ("critic_start", "critic_nf", "critic_levels")
    for name in unused:
        require(
            c[name] == SCHEMA[f"autoencoder.{name}"],
            f"autoencoder.{name}={c[name]} has no effect on autoencoder.regular={c.regular!r} with"
            f" autoencoder.critic_weight={c.critic_weight}: leave it at {SCHEMA[f'autoencoder.{name}']}",
        )
    require(
        not c.critic_weight or config.network.name == "convolutional",
        f"autoencoder.critic_weight={c.critic_weight} asks for a critic, which judges pictures, and network.name="
        f"{config.network.name!r} is of vectors: choose convolutional, or set it to 0.0",
    )
    for channels in (c.critic_nf * min(2**level, 8) for level in range(1, c.critic_levels + 1)):
        groups = min(channels // 4, 32)
        require(
            not c.critic_weight or (groups > 0 and channels % groups == 0),
            f"autoencoder.critic_nf={c.critic_nf} makes a layer of {channels} channels, which GroupNorm cannot divide"
            f" into min(channels // 4, 32) = {groups} groups: use a power of 2, such as 64",
        )
