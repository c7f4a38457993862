"""What masked discrete diffusion asks of the rest of a config, and the modes that it has."""

from score_sde.config.fields import TRANSFORMER, Config
from score_sde.config.reading import require_defaults
from score_sde.errors import UsageError, require

MEANINGLESS = (
    "sde.name", "sde.discrete", "parametrization.prediction", "parametrization.label",
    "parametrization.learned_variance", "training.objective", "training.weighting", "training.times",
    "training.reduce_mean", "training.scan_blocks", "data.condition", "degradation.name",
)  # fmt: skip
"""Fields of a noise process and of a score's loss, and what the network is not told."""

LACKING = {
    "evaluate": "compares features of samples with the data's, and tokens have none: --mode likelihood tells how well"
    " the model knows held-out examples",
    "import": "reads a score network, and system.name='masked' has none: choose another run",
    "export": "writes a score network, and system.name='masked' has none: choose another run",
}
"""Modes that there are not, and why."""


def check_masked(config: Config) -> None:
    """UsageError for a network of something else, and for what has no meaning for tokens."""
    system, network = config.system.name, config.network.name
    if system != "masked":
        require(
            network != TRANSFORMER,
            f"network.name={network!r} is of tokens, and system.name={system!r} has none: set system.name='masked', or"
            " choose ncsnpp",
        )
        return
    require(
        network == TRANSFORMER,
        f"network.name={network!r} has no logits of tokens, as system.name='masked' asks: set it to {TRANSFORMER!r}",
    )
    require_defaults(config, MEANINGLESS, "which masks tokens and names them")
    require(
        config.evaluation.final_samples == 0,
        f"evaluation.final_samples={config.evaluation.final_samples} asks for distances, which tokens have not: set it"
        " to 0",
    )


def check_masked_mode(mode: str) -> None:
    """UsageError for a mode that there is not."""
    if mode in LACKING:
        raise UsageError(f"--mode={mode} {LACKING[mode]}")
