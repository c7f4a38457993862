"""What a system asks of the rest of a config, and the modes that it has."""

from score_sde.config.degradation_checks import check_degraded_mode
from score_sde.config.field_checks import check_missing_mode
from score_sde.config.fields import BOUNDED, CLASSIFIERS, CODED, SAMPLERS, Config
from score_sde.config.point_checks import check_point_mode
from score_sde.config.reading import require_defaults, require_nothing_drawn
from score_sde.config.vdm_checks import check_vdm_mode
from score_sde.errors import require

MODES = {
    "sample": "draws samples",
    "likelihood": "integrates a score",
    "report": "measures a score and its samples",
    "evaluate": "measures samples",
    "forecast": "compiles what draws samples too",
    "import": "reads a score network, or ADM's classifier for network.name='adm_encoder'",
    "export": "writes a score network",
}
"""What the modes do that a classifier has nothing for."""
OF_SCORES = ("likelihood", "report", "import", "export")
"""Those of them that students and GANs have nothing for either."""

OF_LATENTS = {
    "report": "measures a score of the data",
    "import": "reads a score network of the data",
    "export": "writes a score network of the data",
    "forecast": "compiles steps of a score of the data",
}
"""What the modes do that latents have nothing for."""
READ_BY = {
    "adversarial": ("adversarial",),
    "autoencoder": ("autoencoder",),
    "consistency": ("consistency",),
    "distillation": ("distilled",),
    "hierarchical": ("hierarchical",),
    "latent": ("latent",),
    "reflow": ("reflow",),
    "vae": (*CODED, "latent"),
    "vdm": ("vdm",),
}
"""The systems that read a section of their own."""


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
    require_nothing_drawn(config)
    names = ("training.objective", "training.weighting", "network.label_dropout", "data.augmentation")
    require_defaults(config, names, "whose loss is the cross-entropy of the label")
    label = config.parametrization.label
    require(
        network != "wideresnet" or label in ("sigma", "root_sigma"),
        f"parametrization.label={label!r} does not suit network.name='wideresnet', which takes the logarithm of a noise"
        " level: set it to 'sigma', as published, or 'root_sigma'",
    )


def check_sections(config: Config) -> None:
    """UsageError for fields of another system's section."""
    for section, readers in READ_BY.items():
        if config.system.name not in readers:
            names = [f"{section}.{field}" for field in config[section]]
            require_defaults(config, names, f"the section is of system.name={' or '.join(map(repr, readers))}")


def check_mode(config: Config, mode: str) -> None:
    """UsageError for a mode that the system has not, or its network."""
    check_degraded_mode(config, mode)
    check_vdm_mode(config, mode)
    check_missing_mode(config, mode)
    check_point_mode(config, mode)
    imported = mode == "import" and config.network.name == "adm_encoder"
    bounded = mode == "likelihood" and config.system.name in BOUNDED
    few = "says where its few steps end, not what the score is at every noise level"
    require(
        config.system.name not in SAMPLERS or mode not in OF_SCORES or bounded,
        f"--mode={mode} {MODES.get(mode)}, and system.name={config.system.name!r} has none: its network"
        f" {'makes Gaussians of latents and examples' if config.system.name in CODED else few}; choose a run of"
        " system.name='score', such as the teacher's, for it",
    )
    require(
        config.system.name != "autoencoder" or mode not in ("sample", "evaluate", "forecast"),
        f"--mode={mode} {MODES.get(mode)}, and latents of system.name='autoencoder' have no law to be drawn by: train a"
        " run of system.name='latent' with this one as frozen.autoencoder, and draw of that",
    )
    require(
        config.system.name != "latent" or mode not in OF_LATENTS,
        f"--mode={mode} {OF_LATENTS.get(mode)}, and system.name='latent' has another one inside of an autoencoder:"
        " choose a run of system.name='score' for it",
    )
    require(
        config.system.name != "classifier" or mode not in MODES or imported,
        f"--mode={mode} {MODES.get(mode)}, and system.name='classifier' has no score: choose a run of system.name="
        "'score' for it, which may name this one as frozen.classifier",
    )
