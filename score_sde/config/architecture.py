"""Whether the network that a config names can be built for data of a shape. Free of jax."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from score_sde.config.fields import (
    ADMS,
    AUTOENCODERS,
    LEVELLED,
    POINT_NETS,
    SCHEMA,
    SONG_NETS,
    TRANSFORMER,
    Config,
)
from score_sde.config.latent_checks import coder_config
from score_sde.config.spaces import image_shape, space_rank
from score_sde.config.text_checks import check_levels
from score_sde.errors import UsageError, require

HALVINGS = {"ncsn": 1, "ncsnv2_64": 1, "ncsnv2_128": 2, "ncsnv2_256": 3}
"""How often the RefineNets halve an image."""
CLASSIFIERS_HALVINGS = {"wideresnet": 2}
"""How often the classifiers do that have no ch_mult."""


def multiple(config: Config) -> int:
    """Of what the sides of images must be multiples, for the named network."""
    name = config.network.name
    if name in ("mlp", "perceptron", TRANSFORMER, *POINT_NETS):
        return 1
    if name == "wavegrad":
        return math.prod(config.network.factors)
    levelled = name in (*LEVELLED, "convolutional")
    return 2 ** (len(config.network.ch_mult) - 1 if levelled else (HALVINGS | CLASSIFIERS_HALVINGS)[name])


def check_network(config: Config, shape: tuple[int, ...]) -> None:
    """That the named network can be built for data of this shape; UsageError if not.

    Of latents it can be told once their shape is known (`check_latent_network`).
    """
    if config.system.name != "latent":
        _check(config, shape, config.data.rank)
    elif config.latent.joint:
        with _told_of(f"latent.coder={config.latent.coder!r} of this run's section latent"):
            _check(coder_config(config), shape, config.data.rank)
        check_latent_network(config, tuple(config.vae.latent))


def check_latent_network(config: Config, latent: tuple[int, ...]) -> None:
    """That the score network of latents can be built for their shape; UsageError if not."""
    with _told_of(f"latents of shape {latent}"):
        require(
            len(latent) > 1 or config.network.name == "perceptron",
            f"network.name={config.network.name!r} takes [H, W, C] or [H, W]: choose 'perceptron', or latents with"
            " places",
        )
        _check(config, latent)


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    """UsageErrors begin by what they are of."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None


def _check(config: Config, shape: tuple[int, ...], asked: int = 0) -> None:
    """That the network of this name can be built for x of this shape; asked: data.rank."""
    name, rank = config.network.name, space_rank(shape, asked)
    require(
        not config.network.circular or name in SONG_NETS,
        f"network.circular={config.network.circular} has no effect on network.name={name!r}: leave it at ()",
    )
    if name == TRANSFORMER:
        _check_transformer(config)
        return
    if name == "perceptron":
        _check_perceptron(config)
        return
    if name == "wavegrad":
        _check_wavegrad(config, shape)
        return
    if name in POINT_NETS:
        return  # of which point_checks.py knows all
    if name == "mlp":
        require(
            len(config.vae.latent) == 1,
            f"vae.latent={config.vae.latent} has places, and network.name='mlp' none: give it one number, as (20,)",
        )
        return
    _check_preconditioning(config)
    any_rank = name in SONG_NETS and config.system.name != "adversarial"
    require(
        rank == 2 or (any_rank and rank in (1, 2, 3)),
        f"network.name={name!r} takes {'one to three axes of space' if any_rank else '[H, W, C] or [H, W]'}, and one"
        f" example has the shape {shape}: reshape the data, or say by data.rank which axes are of space",
    )
    require(
        not config.parametrization.learned_variance or len(shape) == rank + 1,
        f"parametrization.learned_variance=True takes [H, W, C], and one example has the shape {shape}: give the data a"
        " last axis of channels",
    )
    circular = config.network.circular
    require(
        set(circular) <= set(range(rank)) and len(set(circular)) == len(circular),
        f"network.circular={circular} is of axes of space, which are 0 to {rank - 1}, each once: change it",
    )
    sides = image_shape(shape, asked)[:-1]
    if config.system.name == "adversarial":
        levels = len(config.adversarial.critic_ch_mult)
        why = f"as the {levels} entries of adversarial.critic_ch_mult ask"
        _check_halvings(sides, levels - 1, why, " or fewer entries")
    if name in AUTOENCODERS:
        _check_levels(config, sides)
        _check_latent(config, sides)
        _check_groups(config)
        return
    if name in LEVELLED:
        _check_label(config)
        _check_resolutions(config, sides)
        check_levels(config, sides)
        _check_groups(config)
        _check_heads(config, sides)
        return
    _check_halvings(sides, (HALVINGS | CLASSIFIERS_HALVINGS)[name], f"as network.name={name!r} asks", "")
    require(
        name != "ncsn" or config.parametrization.label == "level",
        "network.name='ncsn' has a row of parameters per noise level: set sde.discrete=True,"
        " parametrization.label='level' and training.times='levels'",
    )


def _check_transformer(config: Config) -> None:
    """That its rows divide among heads, and have room for the noise level's sines and cosines."""
    c = config.network
    require(
        c.nf % c.head_channels == 0 and c.nf >= 4,
        f"network.nf={c.nf} channels, 4 or more, do not divide among heads of network.head_channels={c.head_channels}:"
        " choose a multiple of that",
    )


def _check_perceptron(config: Config) -> None:
    """That it is told what it embeds, and is one of one output."""
    label = config.parametrization.label
    require(
        label == "log_sigma",
        f"parametrization.label={label!r} does not suit network.name='perceptron', which is told ln(sigma / alpha) / 4:"
        " set it to 'log_sigma'",
    )
    require(
        not config.parametrization.learned_variance,
        "parametrization.learned_variance=True asks for a second output, which network.name='perceptron' has not: set"
        " it to False",
    )


def _check_wavegrad(config: Config, shape: tuple[int, ...]) -> None:
    """That its blocks make the waveform's length of whole frames, and that it is told what it embeds."""
    network, label = config.network, config.parametrization.label
    hop, blocks = math.prod(network.factors), len(network.factors)
    require(
        blocks and len(network.up_widths) == len(network.down_widths) == blocks,
        f"network.factors={network.factors}, up_widths={network.up_widths} and down_widths={network.down_widths} say"
        " what the blocks do: give each one entry per block",
    )
    require(
        shape[0] % hop == 0,
        f"waveforms of {shape[0]} samples are no whole frames of {hop}, the product of network.factors="
        f"{network.factors}: use a multiple, or other factors",
    )
    require(
        label == "alpha",
        f"parametrization.label={label!r} does not suit network.name='wavegrad', which is told sqrt(alpha_bar): set it"
        " to 'alpha'",
    )
    require(
        not config.parametrization.learned_variance,
        "parametrization.learned_variance=True asks for a second output, which network.name='wavegrad' has not: set it"
        " to False",
    )


def _check_halvings(sides: tuple[int, ...], times: int, why: str, otherwise: str) -> None:
    """That height and width can be halved so often."""
    multiple = 2**times
    square = len(sides) == 2 and sides[0] == sides[1]
    size = str(sides[0]) if square else "x".join(map(str, sides))
    fields = "data.image_size" if square else "data.height x data.width" if len(sides) == 2 else "an example's sides"
    require(
        all(side % multiple == 0 for side in sides),
        f"{fields}={size} cannot be halved {times} times, {why}: use a multiple of {multiple}{otherwise}",
    )


def _check_preconditioning(config: Config) -> None:
    if config.parametrization.prediction != "edm":
        return
    why = "parametrization.prediction='edm' gives the network input and output of unit variance"
    require(not config.network.scale_by_sigma, f"{why}: set network.scale_by_sigma=False, not True")
    require(config.data.centered, f"{why}, from images in [-1, 1]: set data.centered=True, not False")


def _check_label(config: Config) -> None:
    network, label = config.network, config.parametrization.label
    require(
        network.name != "edm2" or label == "log_sigma",
        f"parametrization.label={label!r} does not suit network.name='edm2', which is told ln(sigma) / 4: set"
        " parametrization.label='log_sigma'",
    )
    remedies = {"level": "network.embedding_type='positional'", "log_sigma": "parametrization.label='root_sigma'"}
    remedy = remedies.get(label, "parametrization.label='sigma'")
    fourier = network.name == "ncsnpp" and network.embedding_type == "fourier"
    require(
        fourier or label != "root_sigma",
        "parametrization.label='root_sigma' is for network.embedding_type='fourier', which takes its logarithm: set"
        " parametrization.label='log_sigma'",
    )
    if fourier:
        require(
            label in ("sigma", "root_sigma"),
            f"parametrization.label={label!r} does not suit network.embedding_type='fourier', which takes the logarithm"
            f" of sigma: set {remedy}",
        )


def _check_latent(config: Config, sides: tuple[int, ...]) -> None:
    """That a latent with places has those of the last level."""
    latent, times = config.vae.latent, len(config.network.ch_mult) - 1
    last = tuple(side >> times for side in sides)
    require(
        len(latent) == 1 or tuple(latent[:2]) == last,
        f"vae.latent={latent} has not the {last[0]}x{last[1]} places of the last of network.ch_mult="
        f"{config.network.ch_mult}: give it these, or other levels",
    )


def _check_levels(config: Config, sides: tuple[int, ...]) -> None:
    levels = len(config.network.ch_mult)
    require(levels >= 1, "network.ch_mult=() has no level: give one multiplier per resolution, such as (1, 2)")
    require(all(m >= 1 for m in config.network.ch_mult), f"network.ch_mult={config.network.ch_mult} must be positive")
    why = f"as the {levels} entries of network.ch_mult ask"
    _check_halvings(sides, levels - 1, why, " or fewer entries")


def _check_resolutions(config: Config, sides: tuple[int, ...]) -> None:
    _check_levels(config, sides)
    levels = len(config.network.ch_mult)
    resolutions = [min(sides) >> i for i in range(levels)]
    unchanged = config.network.attn_resolutions == SCHEMA["network.attn_resolutions"] and min(sides) < 32
    small = "; default()'s network is for pictures of 32x32, and configs/digits.py has one for small ones" * unchanged
    for resolution in config.network.attn_resolutions:
        require(
            resolution in resolutions,
            f"network.attn_resolutions contains {resolution}, which never occurs: choose from {resolutions}{small}",
        )
    kernel = config.network.fir_kernel
    require(len(kernel) >= 1 and sum(kernel) != 0, f"network.fir_kernel={kernel} needs entries whose sum is not zero")


def _check_heads(config: Config, sides: tuple[int, ...]) -> None:
    """That the channels that attend divide among the heads."""
    network = config.network
    if network.name in SONG_NETS:
        return
    per_head = 64 if network.name == "dhariwal" else network.head_channels
    attending = [m for i, m in enumerate(network.ch_mult) if min(sides) >> i in network.attn_resolutions]
    for channels in (network.nf * m for m in (*attending, network.ch_mult[-1])):
        heads = network.num_heads if network.name in ADMS and network.num_heads else channels // per_head
        require(
            heads == 0 or channels % heads == 0,
            f"network.nf={network.nf} with ch_mult={network.ch_mult} attends on {channels} channels, which do not"
            f" divide among {heads} heads: change network.nf, or num_heads and head_channels where they are read",
        )
    pooled = network.nf * network.ch_mult[-1]
    require(
        network.name != "adm_encoder" or network.pool != "attention" or pooled % network.head_channels == 0,
        f"network.pool='attention' is of the last level's {pooled} channels, which do not divide among heads of"
        f" network.head_channels={network.head_channels}: choose a divisor of {pooled}",
    )


def _check_groups(config: Config) -> None:
    if config.network.name == "edm2":  # which has none
        return
    if config.network.name in ("ddpm", *ADMS):
        widths = [config.network.nf * m for m in config.network.ch_mult]
        require(
            all(width % 32 == 0 for width in widths),
            f"network.nf={config.network.nf} with ch_mult={config.network.ch_mult} makes layers of {widths} channels,"
            f" which network.name={config.network.name!r} normalises in 32 groups: use an nf that is a multiple of 32",
        )
        return
    coder = [config.network.nf * m for m in config.network.ch_mult]
    for channels in coder if config.network.name in AUTOENCODERS else normalised_channels(config.network):
        groups = min(channels // 4, 32)
        require(
            groups > 0 and channels % groups == 0,
            f"network.nf={config.network.nf} with ch_mult={config.network.ch_mult} makes a layer of {channels}"
            f" channels, which GroupNorm cannot divide into min(channels // 4, 32) = {groups} groups:"
            " use an nf that is a multiple of 4, of 32 above 128 channels",
        )


def normalised_channels(network: Config) -> list[int]:
    """The channel counts that NCSN++ and DhariwalUNet normalise, their skip connections included, in order."""
    widths = [network.nf * m for m in network.ch_mult]
    doubled = network.progressive_input == "input_skip" and network.progressive_combine == "cat"
    skips, seen = [widths[0] if network.name == "dhariwal" else network.nf], []
    for level, width in enumerate(widths):
        for _ in range(network.num_res_blocks):
            seen += [skips[-1], width]
            skips.append(width)
        if level < len(widths) - 1:
            skips.append(2 * width if doubled else width)
    current = skips[-1]
    for width in reversed(widths):
        for _ in range(network.num_res_blocks + 1):
            seen += [current + skips.pop(), width]
            current = width
    return seen
