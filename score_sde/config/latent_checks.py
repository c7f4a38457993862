"""What diffusion of latents asks of the rest of a config."""

import copy

from score_sde.config.editing_checks import is_edited
from score_sde.config.fields import SCHEMA, Config
from score_sde.config.guidance_checks import is_measured
from score_sde.config.reading import require_defaults
from score_sde.errors import require

LARGEST_T_MIN = 1e-4
"""Of a bound: at 1e-2 one comes out better by 0.8 nats of the digits for the same weights."""
OF_JOINT = (
    "latent.coder", "latent.hidden", "latent.nf", "latent.ch_mult", "latent.num_res_blocks", "latent.mixing",
    "latent.prior_updates", "vae.latent", "vae.encoder_variance", "vae.decoder_variance", "vae.warmup",
    "vae.warmup_after",
)  # fmt: skip
"""Fields of an encoder, a decoder and a prior that are trained together."""
OF_PIXELS = ("guidance.threshold", "guidance.log_prob", "data.augmentation", "degradation.name")
"""Fields that are of the data's own range."""
OF_OBJECTIVES = (
    "training.objective", "training.weighting", "training.times", "training.reduce_mean",
    "parametrization.prediction", "parametrization.learned_variance", "sde.discrete", "vae.free_bits",
)  # fmt: skip
"""Fields of the loss and the prediction, which LSGM has of its own."""
CODER = ("hidden", "nf", "ch_mult", "num_res_blocks")
"""Fields of `latent` that are those of `network` of an encoder and a decoder."""


def coder_config(config: Config) -> Config:
    """The config of a VAE with the encoder and the decoder of joint training."""
    found = copy.deepcopy(config)
    found.system.name, found.network.name = "vae", config.latent.coder
    found.network.update({name: config.latent[name] for name in CODER})
    return found


def is_flow(config: Config) -> bool:
    """Whether --mode likelihood takes the prior of latents by the probability-flow ODE."""
    return config.system.name == "latent" and config.likelihood.solver == "rk45"


def check_first_time(config: Config) -> None:
    """UsageError for a t_0 at which a bound of latents would flatter."""
    require(
        config.training.t_min <= LARGEST_T_MIN,
        f"training.t_min={config.training.t_min} flatters: the bound is of latents with the noise of that time, and"
        f" better the more of it there is, by 0.8 nats at 0.01; set it to {LARGEST_T_MIN} or less, in training too",
    )


def check_latent(config: Config) -> None:
    """UsageError for what means nothing to latents, and for a joint bound that would flatter."""
    c, sampling = config.latent, config.sampling
    if config.system.name != "latent":
        require_defaults(config, ("latent.joint", "sampling.decode_parts"), "which has no latents of its own")
        return
    why = "whose score sees latents, not the data"
    require_defaults(config, OF_PIXELS, why)
    require(
        not is_measured(config) and not is_edited(config),
        "measurement.name and editing.name have no meaning for system.name='latent', " + why + ": leave them at 'none'",
    )
    require(
        sampling.batch_size % sampling.decode_parts == 0,
        f"sampling.decode_parts={sampling.decode_parts} does not divide sampling.batch_size={sampling.batch_size}:"
        " choose a divisor of it",
    )
    require(not sampling.reference, "sampling.reference=True is the official code's, of pictures: set it to False")
    if not c.joint:
        require_defaults(config, OF_JOINT, "which takes encoder and decoder of frozen.autoencoder: set latent.joint")
        return
    require_defaults(config, OF_OBJECTIVES, "whose joint training has a loss and a prediction of its own")
    require(
        not config.frozen.autoencoder,
        f"frozen.autoencoder={config.frozen.autoencoder!r} is not asked for by latent.joint=True, which trains its own:"
        " leave it empty, and begin with that run by training.start_from and training.start_strict=False",
    )
    check_first_time(config)
    latent = config.vae.latent
    require(
        len(latent) in (1, 3) and min(latent) >= 1,
        f"vae.latent={latent} must be (d,), or (height, width, channels), each 1 or more: try (8,)",
    )
    require(
        c.prior_updates == SCHEMA["latent.prior_updates"] or c.prior_updates < config.training.num_steps,
        f"latent.prior_updates={c.prior_updates} are all of training.num_steps={config.training.num_steps}: give it"
        " less, or train the prior alone with latent.joint=False and frozen.autoencoder",
    )
