"""What variational diffusion, whose noise schedule is its own, asks of the rest of a config."""

from score_sde.config.fields import U_NETS, Config
from score_sde.config.reading import require_defaults
from score_sde.errors import require

LABELS = ("gamma", "log_sigma")
"""What a network may be told where t means another noise level after every update."""
PROCESS = ("sde.name", "sde.beta_min", "sde.beta_max", "sde.discrete")
MEANINGLESS = (
    "parametrization.learned_variance", "training.objective", "training.weighting", "training.times",
    "training.reduce_mean", "data.uniform_dequantization", "data.augmentation",
)  # fmt: skip
"""Fields of another loss, and of what would be another bound."""
OF_SCORES = ("import", "export")
"""Modes of files that know no schedule."""


def check_vdm(config: Config) -> None:
    """UsageError for a noise process, a loss or a network that variational diffusion has not."""
    system, label = config.system.name, config.parametrization.label
    if system != "vdm":
        require(
            label != "gamma",
            f"parametrization.label='gamma' is of vdm.gamma_min and gamma_max, and system.name={system!r} has another"
            " noise process: set it to 'log_sigma', or system.name to 'vdm'",
        )
        return
    c = config.vdm
    require(
        c.gamma_min < c.gamma_max,
        f"vdm.gamma_min={c.gamma_min} must be below vdm.gamma_max={c.gamma_max}: published are -13.3 and 5",
    )
    require(
        c.num_scales != 1,
        "vdm.num_scales=1 is one step from noise to data: give it 2 or more, or 0 for continuous time",
    )
    require(
        label in LABELS,
        f"parametrization.label={label!r} is not what a network may be told under a schedule that is learned: set it to"
        f" {' or '.join(map(repr, LABELS))}, which are of the noise level alone",
    )
    require(
        not c.fourier or config.network.name in U_NETS,
        f"network.name={config.network.name!r} has as many channels out as in, and vdm.fourier={c.fourier} adds to"
        f" these: choose {', '.join(U_NETS)}, or leave it empty",
    )
    require(
        all(0 <= n <= 12 for n in c.fourier),
        f"vdm.fourier={c.fourier} must be powers of two from 0 to 12: of bytes in [-1, 1], 7 has one wave a byte",
    )
    require(
        not config.sampling.reference,
        "sampling.reference=True is the official code's arithmetic for its own SDEs: set it to False",
    )
    require_defaults(config, PROCESS, "whose noise process is given by the section vdm")
    require_defaults(config, MEANINGLESS, "whose loss is the bound, in bits per dimension of the data as they are")


def check_vdm_mode(config: Config, mode: str) -> None:
    """UsageError for a mode of files in which no schedule has a place."""
    require(
        config.system.name != "vdm" or mode not in OF_SCORES,
        f"--mode={mode} is of files of a network alone, and system.name='vdm' has a learned schedule beside it: choose"
        " a run of system.name='score'",
    )
