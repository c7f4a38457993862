"""What a system asks of the rest of a config, and the modes that it has."""

from score_sde.config.fields import CLASSIFIERS, SCHEMA, Config
from score_sde.errors import require

MODES = {
    "sample": "draws samples",
    "likelihood": "integrates a score",
    "report": "measures a score and its samples",
    "evaluate": "measures samples",
    "forecast": "compiles what draws samples too",
    "import": "reads a score network",
    "export": "writes a score network",
}
"""What the modes do that a classifier has nothing for."""


def check_system(config: Config) -> None:
    """UsageError for a network of another system, and for what means nothing to a classifier."""
    system, network = config.system.name, config.network.name
    if system != "classifier":
        require(
            network not in CLASSIFIERS,
            f"network.name={network!r} makes logits of classes, not a score: set system.name='classifier', or choose"
            " ncsnpp",
        )
        return
    require(
        network in CLASSIFIERS,
        f"network.name={network!r} makes a score, not logits of classes, for system.name='classifier': set it to"
        f" {' or '.join(repr(name) for name in CLASSIFIERS)}",
    )
    require(
        config.data.condition == ("label",),
        f"data.condition={config.data.condition} leaves system.name='classifier' nothing to learn: set it to"
        " ('label',), of data that have labels",
    )
    for name, value in (("logging.samples_every", 0), ("evaluation.final_samples", 0)):
        section, field = name.split(".")
        require(
            config[section][field] == value,
            f"{name}={config[section][field]} has no effect on system.name='classifier', which draws nothing: set it to"
            f" {value}",
        )
    for name in ("training.objective", "training.weighting", "network.label_dropout", "data.augmentation"):
        section, field = name.split(".")
        require(
            config[section][field] == SCHEMA[name],
            f"{name}={config[section][field]!r} has no meaning for system.name='classifier', whose loss is the"
            f" cross-entropy of the label: leave it at {SCHEMA[name]!r}",
        )
    label = config.parametrization.label
    require(
        network != "wideresnet" or label in ("sigma", "root_sigma"),
        f"parametrization.label={label!r} does not suit network.name='wideresnet', which takes the logarithm of a noise"
        " level: set it to 'sigma', as published, or 'root_sigma'",
    )


def check_mode(config: Config, mode: str) -> None:
    """UsageError for a mode that the system has not."""
    require(
        config.system.name != "classifier" or mode not in MODES,
        f"--mode={mode} {MODES.get(mode)}, and system.name='classifier' has no score: choose a run of system.name="
        "'score' for it, which may name this one as frozen.classifier",
    )
