"""What a denoising diffusion GAN asks of the rest of a config."""

from score_sde.config.fields import Config
from score_sde.config.reading import require_defaults
from score_sde.errors import require

MEANINGLESS = (
    "parametrization.prediction", "parametrization.label", "parametrization.learned_variance", "training.objective",
    "training.weighting", "training.times", "training.reduce_mean", "data.augmentation", "data.condition",
    "degradation.name",
)  # fmt: skip
"""Fields of the score's loss, and what a generator and a critic are not told."""


def check_adversarial(config: Config) -> None:
    """UsageError for a network, an SDE or a number of steps that a denoising diffusion GAN has not."""
    if config.system.name != "adversarial":
        return
    c, network = config.adversarial, config.network
    require(c.steps >= 2, f"adversarial.steps={c.steps} is no chain: give it 2 to 8, such as 4")
    require(
        config.sampling.num_steps == c.steps,
        f"sampling.num_steps={config.sampling.num_steps} is not adversarial.steps={c.steps}, and the generator knows"
        f" no other steps: set it to {c.steps}",
    )
    require(
        config.sde.name == "vp" and not config.sde.discrete,
        f"sde.name={config.sde.name!r} with sde.discrete={config.sde.discrete} is no SDE that adversarial.steps are cut"
        " out of: set sde.name='vp' and sde.discrete=False",
    )
    require(
        network.name == "ncsnpp",
        f"network.name={network.name!r} takes no latent, as the generator of system.name='adversarial' does: choose"
        " ncsnpp",
    )
    for name, value in (("embedding_type", "positional"), ("scale_by_sigma", False)):
        require(
            network[name] == value,
            f"network.{name}={network[name]!r} asks for a noise level above 0, and the generator is told the number of"
            f" its step: set it to {value!r}",
        )
    require(
        not c.tanh or config.data.centered,
        "adversarial.tanh=True is for data in [-1, 1], and data.centered=False makes them [0, 1]: set either to the"
        " other",
    )
    require(
        len(c.critic_ch_mult) > 0 and min(c.critic_ch_mult) >= 1,
        f"adversarial.critic_ch_mult={c.critic_ch_mult} must name one level or more, each 1 or more: try (1, 2, 2)",
    )
    require_defaults(config, MEANINGLESS, "a generator against a critic")
