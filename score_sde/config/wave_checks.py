"""The checks of waveforms: windows of .wav files, frames that condition, signals longer than those trained on."""

import math

from score_sde.config.editing_checks import is_edited
from score_sde.config.fields import SCHEMA, Config
from score_sde.config.guidance_checks import is_measured, is_neutral
from score_sde.errors import require
from score_sde.names import FRAMES

MEL = ("hop", "n_fft", "window", "mels", "mel_low", "mel_high")
"""The fields of `data` by which frames are computed of waveforms."""


def check_waves(config: Config) -> None:
    """UsageError for fields of waveforms without them, and for windows and frames that do not fit together."""
    data, told = config.data, FRAMES in config.data.condition
    for name in MEL:
        require(
            (data.name == "waves" and told) or data[name] == SCHEMA[f"data.{name}"],
            f"data.{name}={data[name]} has no effect without frames of data.name='waves': leave it at"
            f" {SCHEMA[f'data.{name}']}",
        )
    if data.name == "waves" and told:
        require(data.rate > 0, "data.rate=0 tells no frequencies, which frames are of: give samples per second")
        require(
            data.length % data.hop == 0,
            f"data.length={data.length} is no multiple of data.hop={data.hop}: give whole frames",
        )
        if config.network.name == "wavegrad":
            hop = math.prod(config.network.factors)
            require(
                hop == data.hop,
                f"network.factors={config.network.factors} make {hop} samples of a frame and data.hop={data.hop}: give"
                " both one value",
            )
    require(
        not told or config.system.name == "score",
        f"data.condition={data.condition} has frames, and system.name={config.system.name!r} learns of none: set it to"
        " 'score'",
    )
    _check_long(config)


def _check_long(config: Config) -> None:
    """What draws signals of overlapping windows, and what does not."""
    c = config.sampling
    if not c.length:
        return
    why = f"sampling.length={c.length} is of overlapping windows"
    require(config.system.name == "score", f"{why} of a score, which system.name={config.system.name!r} has not")
    require(not c.reference, f"{why}, which sampling.reference=True has not: set it to False")
    require(
        not is_measured(config) and not is_edited(config),
        f"{why}, which no measurement and no editing knows: draw without them",
    )
    require(
        is_neutral(config.guidance) and not config.parametrization.learned_variance,
        f"{why}, which are not guided and learn no variance: leave the section guidance as it is, and"
        " parametrization.learned_variance at False",
    )


def check_long_mode(config: Config, mode: str) -> None:
    """UsageError for longer signals in a mode that holds samples against the data."""
    require(
        not config.sampling.length or mode not in ("report", "evaluate"),
        f"sampling.length={config.sampling.length} draws longer signals than the data, with which --mode={mode}"
        " compares them: set it to 0",
    )


def check_betas(config: Config) -> None:
    """A grid of the nodes of a chain by its betas."""
    c = config.sampling
    if c.times != "betas":
        require(
            not c.betas,
            f"sampling.betas={c.betas} have no effect on sampling.times={c.times!r}: set it to 'betas', or leave them"
            " empty",
        )
        return
    require(
        len(c.betas) > 1 and all(0 < beta < 1 for beta in c.betas),
        f"sampling.betas={c.betas}: give two or more numbers in (0, 1), the least first",
    )
    require(
        config.sde.name == "vp" and config.system.name == "score",
        f"sampling.times='betas' is of a variance preserving chain, and sde.name={config.sde.name!r}: choose vp, or"
        " another grid",
    )
    require(
        c.num_steps == len(c.betas) - 1 and c.denoise,
        f"sampling.num_steps={c.num_steps} and denoise={c.denoise} do not go with {len(c.betas)} betas, whose last step"
        f" is the final denoising: set them to {len(c.betas) - 1} and True",
    )
