"""The checks of a config's `sampling` section: what goes with what, and what the official sampler can do."""

from score_sde.config.fields import (
    ADAPTIVE_DPM,
    ADAPTIVE_ODES,
    ADAPTIVE_SDES,
    CHURNING,
    MULTISTEP,
    ODES,
    RUNGE_KUTTA,
    SCHEMA,
    Config,
)
from score_sde.errors import require

ADAPTIVE = (*ADAPTIVE_ODES, *ADAPTIVE_SDES)
"""The values of sampling.solver that choose their own steps."""
OWN_TOLERANCES = {**dict.fromkeys(ADAPTIVE_SDES, "sde"), **dict.fromkeys(ADAPTIVE_DPM, "dpm")}
"""What the tolerances of those are called that do not take sampling.rtol and atol."""


def check_sampling(config: Config) -> None:
    """Solver, corrector and churn go together."""
    c = config.sampling
    require(
        c.solver != "none" or c.corrector != "none",
        "sampling.solver='none' with sampling.corrector='none' does nothing: choose a solver, or a corrector to go with"
        " 'none', such as 'annealed_langevin'",
    )
    require(
        c.solver not in ADAPTIVE or c.corrector == "none",
        f"sampling.corrector={c.corrector!r} does not go with the adaptive sampling.solver={c.solver!r}:"
        " set the corrector to 'none' or choose a fixed-grid solver",
    )
    require(
        c.churn == 1 or c.solver in CHURNING or (c.reference and c.solver in ("reverse_diffusion", "ancestral")),
        f"sampling.churn={c.churn} has no effect on sampling.solver={c.solver!r}: set it to 1.0 or choose"
        f" one of {', '.join(CHURNING)}",
    )
    require(
        c.center == SCHEMA["sampling.center"] or c.solver == "peaked_sde" or c.times == "peaked",
        f"sampling.center={c.center} has no effect on sampling.solver={c.solver!r} with sampling.times={c.times!r}:"
        f" leave it at {SCHEMA['sampling.center']}",
    )
    require(
        c.eta == 0 or c.solver == "ddim",
        f"sampling.eta={c.eta} has no effect on sampling.solver={c.solver!r}: set it to 0.0 or choose ddim",
    )
    require(c.eta <= 1, f"sampling.eta={c.eta} is above 1, where DDIM adds more noise than there is: lower it")
    require(
        c.lower_final == "published" or c.solver in MULTISTEP,
        f"sampling.lower_final={c.lower_final!r} has no effect on sampling.solver={c.solver!r}: set it to 'published',"
        f" or choose one of {', '.join(MULTISTEP)}",
    )
    require(
        c.times != "optimised" or (c.solver in ODES and not c.eta and c.corrector == "none"),
        f"sampling.times='optimised' is not made for sampling.solver={c.solver!r} with sampling.corrector="
        f"{c.corrector!r} and sampling.eta={c.eta}: choose a solver of the probability-flow ODE on a grid, such as"
        " adams_3, alone",
    )
    require(
        c.solver != "auto" or c.corrector == "none",
        f"sampling.corrector={c.corrector!r} does not go with sampling.solver='auto', which chooses all: set it to"
        " 'none'",
    )
    require(
        c.solver != "auto" or c.num_steps > c.denoise,
        f"sampling.num_steps={c.num_steps} is the number of network evaluations for sampling.solver='auto', the final"
        " denoising among them: give it 2 or more",
    )
    own = OWN_TOLERANCES.get(c.solver)
    require(
        own is None or all(c[name] == SCHEMA[f"sampling.{name}"] for name in ("rtol", "atol")),
        f"sampling.rtol={c.rtol} and sampling.atol={c.atol} have no effect on sampling.solver={c.solver!r}: set"
        f" sampling.{own}_rtol and sampling.{own}_atol instead",
    )


def check_reference(config: Config) -> None:
    """What the official sampler can do, and that its grid is its table."""
    c, sde = config.sampling, config.sde
    if not c.reference:
        return
    if c.times == "betas":
        require(
            c.solver == "ancestral" and config.parametrization.prediction == "noise",
            f"sampling.solver={c.solver!r} of parametrization.prediction={config.parametrization.prediction!r} has no"
            " reference of sampling.times='betas', which is WaveGrad's own: set them to 'ancestral' and 'noise'",
        )
        return
    remedy = "set sampling.reference=False for it"
    require(
        sde.name in ("vp", "subvp", "ve"),
        f"the official code has no sde.name={sde.name!r}, which came after it: {remedy}",
    )
    require(
        c.solver in ("euler_maruyama", "reverse_diffusion", "ancestral", *RUNGE_KUTTA, "none"),
        f"sampling.solver={c.solver!r} is not among the official code's: {remedy}",
    )
    require(
        c.solver != "ancestral" or sde.name != "subvp",
        f"the official code has no ancestral sampling for sde.name='subvp': {remedy}",
    )
    require(
        c.solver not in RUNGE_KUTTA or not sde.discrete or (sde.name == "vp" and sde.num_scales == 1000),
        f"sde.num_scales={sde.num_scales} levels of sde.name={sde.name!r} mean nothing to the official ODE sampler,"
        f" which tells every network sigma or 999 t: {remedy}",
    )
    require(
        c.solver in RUNGE_KUTTA or sde.name == "ve" or sde.discrete or sde.beta_max < c.num_steps,
        f"sde.beta_max={sde.beta_max} is not below sampling.num_steps={c.num_steps}, which makes the last beta"
        " beta_max / num_steps 1 or more: take more steps",
    )
    require(
        not sde.discrete or sde.name != "ve" or c.t_min * (sde.num_scales - 1) < 0.5,
        f"sampling.t_min={c.t_min} is more than half a level of sde.num_scales={sde.num_scales}, and the official"
        " sampler would miss levels: set it to 1e-5",
    )
    require(
        c.solver != "ancestral" or c.churn == 1,
        f"sampling.churn={c.churn} does not go with sampling.solver='ancestral', which has no probability flow:"
        " set it to 1.0",
    )
    trained = {"vp": ("noise", "time"), "subvp": ("noise", "time"), "ve": ("score", "sigma")}[sde.name]
    expected = (trained[0], "level") if sde.discrete else trained
    found = (config.parametrization.prediction, config.parametrization.label)
    require(
        found == expected,
        f"parametrization.prediction and label are {found}, and the official networks of sde.name={sde.name!r} have"
        f" {expected}: {remedy}",
    )
    require(c.churn in (0, 1), f"sampling.churn={c.churn}: the official code knows 0 (the ODE) and 1 alone: {remedy}")
    require(
        not config.parametrization.learned_variance and sde.schedule == "linear",
        f"learned variances and the cosine schedule came after the official code: {remedy}",
    )
    require(
        c.solver in RUNGE_KUTTA or not sde.discrete or c.num_steps == sde.num_scales,
        f"sampling.num_steps={c.num_steps} is not sde.num_scales={sde.num_scales}, and the official sampler steps"
        " through all levels: give them one value",
    )
