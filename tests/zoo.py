"""The 39 released configurations of the official code, written down by hand.

A row's fields are those of its groups, later ones winning, and its own differences last; what no group names is at its
default. Nothing here comes from `configs/`, which is checked against it.
"""

from typing import Any, NamedTuple

Fields = dict[str, Any]


class Row(NamedTuple):
    """One configuration: its file below configs/, the size of its network, its fields, the published figures."""

    path: str
    parameters: int
    leaves: int
    fields: Fields
    published: tuple[str, ...]
    corrected: tuple[str, ...]


# What the three files of defaults agree on.
COMMON: Fields = {
    "seed": 42,
    "sde.beta_min": 0.1,
    "sde.beta_max": 20.0,
    "sde.sigma_min": 0.01,
    "sde.schedule": "linear",
    "parametrization.learned_variance": False,
    "data.path": "",
    "data.category": "",
    "data.num_channels": 3,
    "data.centered": False,
    "data.random_flip": True,
    "data.uniform_dequantization": False,
    "training.objective": "denoising",
    "training.weighting": "simple",
    "training.steps_per_call": 5,
    "training.reduce_mean": False,
    "training.t_min": 1e-5,
    "training.stratified": False,
    "training.compute_dtype": "float32",
    "optimizer.learning_rate": 2e-4,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.0,
    "optimizer.warmup": 5000,
    "optimizer.grad_clip": 1.0,
    "sampling.corrector_steps": 1,
    "sampling.churn": 1.0,
    "sampling.variance": "small",
    "sampling.denoise": True,
    "sampling.reference": False,
    "logging.every": 50,
    "logging.samples_every": 50_000,
}

# The three files of defaults.
CIF: Fields = COMMON | {
    "data.name": "cifar10",
    "data.image_size": 32,
    "sde.sigma_max": 50.0,
    "sde.num_scales": 1000,
    "network.dropout": 0.1,
    "training.batch_size": 128,
    "training.num_steps": 1_300_001,
    "checkpoint.every": 10_000,
    "sampling.num_steps": 1000,
    "sampling.snr": 0.16,
    "sampling.num_samples": 64,
    "sampling.batch_size": 64,
}
CEL: Fields = COMMON | {
    "data.name": "celeba",
    "data.image_size": 64,
    "sde.sigma_max": 90.0,
    "sde.num_scales": 1000,
    "network.dropout": 0.1,
    "training.batch_size": 128,
    "training.num_steps": 1_300_001,
    "checkpoint.every": 10_000,
    "sampling.num_steps": 1000,
    "sampling.snr": 0.17,
    "sampling.num_samples": 64,
    "sampling.batch_size": 64,
}
LSU: Fields = COMMON | {
    "data.name": "lsun",
    "data.image_size": 256,
    "sde.sigma_max": 378.0,
    "sde.num_scales": 2000,
    "network.dropout": 0.0,
    "training.batch_size": 64,
    "training.num_steps": 2_400_001,
    "checkpoint.every": 5_000,
    "sampling.num_steps": 2000,
    "sampling.snr": 0.075,
    "sampling.num_samples": 64,
    "sampling.batch_size": 16,
}
BEDROOM: Fields = {"data.category": "bedroom"}
CHURCH: Fields = {"data.category": "church_outdoor"}
CELEBAHQ: Fields = {"data.name": "celebahq"}
FFHQ: Fields = {"data.name": "ffhq"}

# Networks. The plain ones leave embedding_type to the SDE's group.
D: Fields = {
    "network.name": "ddpm",
    "network.nonlinearity": "swish",
    "network.nf": 128,
    "network.ch_mult": (1, 2, 2, 2),
    "network.num_res_blocks": 2,
    "network.attn_resolutions": (16,),
    "network.resamp_with_conv": True,
    "network.conditional": True,
    "network.scale_by_sigma": False,
    "ema.decay": 0.9999,
    "data.centered": True,
    "training.reduce_mean": True,
}
P: Fields = {
    "network.name": "ncsnpp",
    "network.nonlinearity": "swish",
    "network.nf": 128,
    "network.ch_mult": (1, 2, 2, 2),
    "network.num_res_blocks": 4,
    "network.attn_resolutions": (16,),
    "network.resamp_with_conv": True,
    "network.conditional": True,
    "network.skip_rescale": True,
    "network.resblock_type": "biggan",
    "network.fir_kernel": (1, 3, 3, 1),
    "network.progressive": "none",
    "network.progressive_combine": "sum",
    "network.init_scale": 0.0,
    "network.fourier_scale": 16.0,
}
Pn: Fields = P | {"network.fir": False, "network.progressive_input": "none"}
Pr: Fields = P | {"network.fir": True, "network.progressive_input": "residual"}
Pv: Fields = {
    "network.embedding_type": "positional",
    "network.scale_by_sigma": False,
    "data.centered": True,
    "training.reduce_mean": True,
    "ema.decay": 0.9999,
}
VE: Fields = {
    "sde.name": "ve",
    "parametrization.prediction": "score",
    "sampling.t_min": 1e-5,
}
Pe: Fields = VE | {
    "network.scale_by_sigma": True,
    "ema.decay": 0.999,
    "sampling.solver": "reverse_diffusion",
    "sampling.corrector": "langevin",
}
B: Fields = (
    P
    | Pe
    | {
        "network.fir": True,
        "network.progressive": "output_skip",
        "network.progressive_input": "input_skip",
        "network.ch_mult": (1, 1, 2, 2, 2, 2, 2),
        "network.num_res_blocks": 2,
    }
)
N: Fields = VE | {
    "network.nonlinearity": "elu",
    "network.nf": 128,
    "network.interpolation": "bilinear",
    "optimizer.warmup": 0,
    "optimizer.grad_clip": -1.0,
    "sampling.solver": "none",
    "sampling.corrector": "annealed_langevin",
}
DDPM_256: Fields = D | {
    "sde.num_scales": 1000,
    "sampling.num_steps": 1000,
    "network.ch_mult": (1, 1, 2, 2, 4, 4),
    "optimizer.learning_rate": 2e-5,
}
DEEP: Fields = {"network.num_res_blocks": 8, "training.num_steps": 950_001}
MEGAPIXEL: Fields = B | {
    "data.image_size": 1024,
    "sde.sigma_max": 1348.0,
    "network.nf": 16,
    "network.ch_mult": (1, 2, 4, 8, 16, 32, 32, 32),
    "network.num_res_blocks": 1,
    "training.batch_size": 8,
    "training.steps_per_call": 1,
    "ema.decay": 0.9999,
    "sampling.snr": 0.15,
    "sampling.batch_size": 8,
}
V2: Fields = N | {
    "network.name": "ncsnv2_64",
    "network.scale_by_sigma": True,
    "optimizer.learning_rate": 1e-4,
    "ema.decay": 0.999,
}
V1: Fields = N | {
    "network.name": "ncsn",
    "network.scale_by_sigma": False,
    "optimizer.learning_rate": 1e-3,
    "ema.decay": 0.0,
}
TECHNIQUE_5: Fields = {"ema.decay": 0.999}

# What `continuous` means for an SDE: times, the label of the network, the grid of the sampler.
DISCRETE: Fields = {
    "sde.discrete": True,
    "parametrization.label": "level",
    "training.times": "levels",
    "sampling.times": "levels",
    "network.embedding_type": "positional",
}
CONTINUOUS: Fields = {"sde.discrete": False, "training.times": "uniform", "sampling.times": "uniform"}
VP: Fields = {
    "sde.name": "vp",
    "parametrization.prediction": "noise",
    "sampling.corrector": "none",
    "sampling.t_min": 1e-3,
}
VP_D: Fields = VP | DISCRETE
VP_C: Fields = VP | CONTINUOUS | {"parametrization.label": "time", "sampling.solver": "euler_maruyama"}
SUBVP: Fields = VP_C | {"sde.name": "subvp"}
FOURIER: Fields = CONTINUOUS | {"parametrization.label": "sigma", "network.embedding_type": "fourier"}
ANCESTRAL: Fields = {"sampling.solver": "ancestral", "sampling.variance": "large"}
REVERSE: Fields = {"sampling.solver": "reverse_diffusion"}


def ncsn(scales: int, snr: float, steps: int) -> Fields:
    """The noise levels and the Langevin steps at each."""
    return DISCRETE | {
        "sde.num_scales": scales,
        "sampling.num_steps": scales,
        "sampling.snr": snr,
        "sampling.corrector_steps": steps,
    }


SIGMA_1: Fields = {"sde.sigma_max": 1.0}


def row(
    path: str,
    parameters: int,
    leaves: int,
    *groups: Fields,
    published: tuple[str, ...] = (),
    corrected: tuple[str, ...] = (),
) -> Row:
    fields: Fields = {}
    for group in groups:
        fields |= group
    return Row(path, parameters, leaves, fields, published, corrected)


ZOO = [
    row(
        "vp/ddpm/cifar10", 35_218_947, 308, CIF, D, VP_D, ANCESTRAL,
        published=("FID 3.24", "ODE FID 3.37", "3.28 bits/dim"),
    ),
    row(
        "vp/ddpm/cifar10_continuous", 35_218_947, 308, CIF, D, VP_C,
        published=("ODE FID 3.69", "3.21 bits/dim"),
    ),
    row("vp/ddpm/cifar10_unconditional", 32_329_347, 260, CIF, D, VP_D, ANCESTRAL, {"network.conditional": False}),
    row("vp/ddpm/bedroom", 111_569_923, 430, LSU, BEDROOM, DDPM_256, VP_D, ANCESTRAL),
    row("vp/ddpm/church", 111_569_923, 430, LSU, CHURCH, DDPM_256, VP_D, ANCESTRAL),
    row("vp/ddpm/celebahq", 111_569_923, 430, LSU, CELEBAHQ, DDPM_256, VP_D, ANCESTRAL, corrected=("records",)),
    row("vp/cifar10_ddpmpp", 61_804_419, 564, CIF, Pn, Pv, VP_D, ANCESTRAL, published=("FID 2.78", "IS 9.64")),
    row(
        "vp/cifar10_ddpmpp_continuous", 61_804_419, 564, CIF, Pn, Pv, VP_C,
        published=("FID 2.55", "IS 9.58", "ODE FID 3.93", "3.16 bits/dim"),
    ),
    row(
        "vp/cifar10_ddpmpp_deep_continuous", 106_632_579, 956, CIF, Pn, Pv, VP_C, DEEP,
        published=("FID 2.41", "IS 9.68", "ODE FID 3.08", "3.13 bits/dim"),
    ),
    row("vp/cifar10_ncsnpp", 62_693_251, 570, CIF, Pr, Pv, VP_D, REVERSE),
    row("vp/cifar10_ncsnpp_continuous", 62_693_251, 570, CIF, Pr, Pv, VP_C),
    row("vp/cifar10_ncsnpp_deep_continuous", 107_521_411, 962, CIF, Pr, Pv, VP_C, DEEP),
    row(
        "subvp/cifar10_ddpm_continuous", 35_218_947, 308, CIF, D, SUBVP,
        published=("ODE FID 3.56", "3.05 bits/dim"),
    ),
    row(
        "subvp/cifar10_ddpmpp_continuous", 61_804_419, 564, CIF, Pn, Pv, SUBVP,
        published=("FID 2.61", "IS 9.56", "ODE FID 3.16", "3.02 bits/dim"),
    ),
    row(
        "subvp/cifar10_ddpmpp_deep_continuous", 106_632_579, 956, CIF, Pn, Pv, SUBVP, DEEP,
        published=("FID 2.41", "IS 9.57", "ODE FID 2.92", "2.99 bits/dim"),
    ),
    row("subvp/cifar10_ncsnpp_continuous", 62_693_251, 570, CIF, Pr, Pv, SUBVP),
    row("subvp/cifar10_ncsnpp_deep_continuous", 107_521_411, 962, CIF, Pr, Pv, SUBVP, DEEP),
    row(
        "ve/cifar10_ddpm", 35_218_947, 308, CIF, D, Pe, DISCRETE,
        {"data.centered": False, "training.reduce_mean": False},
    ),
    row("ve/cifar10_ncsnpp", 62_693_251, 570, CIF, Pr, Pe, DISCRETE, published=("FID 2.45", "IS 9.73")),
    row("ve/cifar10_ncsnpp_continuous", 62_758_915, 571, CIF, Pr, Pe, FOURIER, published=("FID 2.38", "IS 9.83")),
    row(
        "ve/cifar10_ncsnpp_deep_continuous", 107_587_075, 963, CIF, Pr, Pe, FOURIER, DEEP,
        published=("FID 2.20", "IS 9.89"),
    ),
    row("ve/celeba_ncsnpp", 62_693_251, 570, CEL, Pr, Pe, DISCRETE),
    row("ve/bedroom_ncsnpp_continuous", 65_574_549, 645, LSU, BEDROOM, B, FOURIER),
    row("ve/church_ncsnpp_continuous", 65_574_549, 645, LSU, CHURCH, B, FOURIER, {"sde.sigma_max": 380.0}),
    row("ve/ffhq_256_ncsnpp_continuous", 65_574_549, 645, LSU, FFHQ, B, FOURIER, {"sde.sigma_max": 348.0}),
    row("ve/celebahq_256_ncsnpp_continuous", 65_574_549, 645, LSU, CELEBAHQ, B, FOURIER, {"sde.sigma_max": 348.0}),
    row(
        "ve/ffhq_ncsnpp_continuous", 105_785_896, 553, LSU, FFHQ, MEGAPIXEL, FOURIER, {"training.reduce_mean": True},
        corrected=("torch", "n_jitted_steps"),
    ),
    row(
        "ve/celebahq_ncsnpp_continuous", 105_785_896, 553, LSU, CELEBAHQ, MEGAPIXEL, FOURIER,
        corrected=("torch", "n_jitted_steps"),
    ),
    row("ve/ncsnv2/cifar10", 33_970_563, 153, CIF, V2, ncsn(232, 0.176, 5)),
    row("ve/ncsnv2/celeba", 33_970_563, 153, CEL, V2, ncsn(500, 0.128, 5)),
    row(
        "ve/ncsnv2/bedroom", 83_445_379, 191, LSU, BEDROOM, V2, ncsn(1086, 0.095, 3),
        {
            "network.name": "ncsnv2_128", "data.image_size": 128, "training.batch_size": 128, "sde.sigma_max": 190.0,
            "ema.decay": 0.9999, "sampling.batch_size": 64,
        },
        corrected=("continuous",),
    ),
    row("ve/ncsn/cifar10", 34_428_675, 173, CIF, V1, ncsn(10, 0.316, 100), SIGMA_1, corrected=("num_classes",)),
    row(
        "ve/ncsn/cifar10_5", 34_428_675, 173, CIF, V1, ncsn(10, 0.316, 100), SIGMA_1, TECHNIQUE_5,
        corrected=("num_classes",),
    ),
    row("ve/ncsn/cifar10_124", 44_828_931, 173, CIF, V1, ncsn(232, 0.176, 5), corrected=("num_classes",)),
    row(
        "ve/ncsn/cifar10_1245", 44_828_931, 173, CIF, V1, ncsn(232, 0.176, 5), TECHNIQUE_5,
        corrected=("num_classes",),
    ),
    row(
        "ve/ncsn/celeba", 34_428_675, 173, CEL, V1, ncsn(10, 0.316, 100), SIGMA_1,
        corrected=("num_classes", "training.loss"),
    ),
    row(
        "ve/ncsn/celeba_5", 34_428_675, 173, CEL, V1, ncsn(10, 0.316, 100), SIGMA_1, TECHNIQUE_5,
        corrected=("num_classes",),
    ),
    row("ve/ncsn/celeba_124", 57_384_195, 173, CEL, V1, ncsn(500, 0.128, 5), corrected=("num_classes",)),
    row(
        "ve/ncsn/celeba_1245", 57_384_195, 173, CEL, V1, ncsn(500, 0.128, 5), TECHNIQUE_5,
        corrected=("num_classes",),
    ),
]  # fmt: skip
