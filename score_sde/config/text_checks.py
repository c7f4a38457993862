"""The checks of texts that condition: captions, or rows of embeddings."""

from score_sde.config.fields import SCHEMA, SONG_NETS, Config
from score_sde.config.guidance_checks import strength
from score_sde.errors import require

TEXTS = ("caption", "embeddings")
"""What a network may be told in rows, by the data's names."""


def is_told_text(config: Config) -> bool:
    """Whether a text conditions."""
    return bool(set(TEXTS) & set(config.data.condition))


def check_text(config: Config) -> None:
    """UsageError for fields of texts without one, and for a text that nothing reads or that cannot be."""
    data, network, system, edited = config.data, config.network, config.system.name, config.editing.name
    told = [name for name in data.condition if name in TEXTS]
    for name, value in (
        ("sampling.caption", config.sampling.caption),
        *((f"network.text_{n}", network[f"text_{n}"]) for n in ("resolutions", "width", "layers", "heads")),
    ):
        require(
            told or value == SCHEMA[name],
            f"{name}={value!r} has no effect without a text: set data.condition=('caption',), or leave it at"
            f" {SCHEMA[name]!r}",
        )
    if not told:
        return
    require(len(told) == 1, f"data.condition={data.condition} names two texts: name one of them")
    require(
        system == "score",
        f"data.condition={data.condition} has a text, and system.name={system!r} learns of none: set it to 'score'",
    )
    require(
        network.name in SONG_NETS,
        f"network.name={network.name!r} has no cross-attention for data.condition={data.condition}: choose"
        f" {' or '.join(SONG_NETS)}",
    )
    require(
        network.text_resolutions,
        f"network.text_resolutions=() leaves data.condition={data.condition} unread: name levels by their shorter side,"
        " such as (4,)",
    )
    require(
        network.text_width % network.text_heads == 0,
        f"network.text_width={network.text_width} does not divide among network.text_heads={network.text_heads}: choose"
        " a multiple",
    )
    require(
        edited != "interpolate",
        "editing.name='interpolate' goes between labels, not between texts: choose a run without a text",
    )
    require(
        edited != "purify" or strength(config.guidance) == 0,
        "editing.name='purify' asks for a score without a text: set guidance.scale=0.0 where network.label_dropout has"
        " trained that",
    )


def check_levels(config: Config, sides: tuple[int, ...]) -> None:
    """That the levels at which pixels ask the text occur in examples of these sides, with channels for its heads."""
    network = config.network
    resolutions = [min(sides) >> i for i in range(len(network.ch_mult))]
    for resolution in network.text_resolutions:
        require(
            resolution in resolutions,
            f"network.text_resolutions contains {resolution}, which never occurs: choose from {resolutions}",
        )
        channels = network.nf * network.ch_mult[resolutions.index(resolution)]
        require(
            channels % network.text_heads == 0,
            f"network.text_heads={network.text_heads} do not divide the {channels} channels of level {resolution}:"
            " choose a divisor",
        )
