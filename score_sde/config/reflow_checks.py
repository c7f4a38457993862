"""What system.name='reflow', which is trained on a teacher's pairs and not on the data, asks of a config."""

from score_sde.config.fields import Config
from score_sde.config.reading import require_defaults
from score_sde.errors import require


def check_reflow(config: Config) -> None:
    """Straight lines between pairs, of which there are enough."""
    if config.system.name != "reflow":
        return
    require(
        config.sde.name == "straight",
        f"sde.name={config.sde.name!r} does not go with system.name='reflow', whose lines are to be straight: set it to"
        " 'straight'",
    )
    pairs, size = config.reflow.pairs, config.training.batch_size
    require(
        pairs >= size,
        f"reflow.pairs={pairs} do not fill one batch of training.batch_size={size}: draw more of them, thousands at"
        " least",
    )
    names = ("data.random_flip", "data.augmentation", "degradation.name", "training.objective")
    require_defaults(config, names, "whose examples are the teacher's samples, each with its own noise")
    require(
        config.evaluation.every == 0,
        f"evaluation.every={config.evaluation.every} asks for the loss of held-out examples, and those have no noise of"
        " their own, as the pairs of system.name='reflow' have: set it to 0",
    )
