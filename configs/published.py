"""What the published configurations share: data sets, SDEs and networks, as changes of a config.

A config file begins with a data set, then changes what is different about it, the SDE before the network:

    config = cifar10()
    vp(config, "euler_maruyama")
    ddpmpp(config)
"""

from score_sde.config import Config, default


def cifar10() -> Config:
    """CIFAR-10 and its schedule: 1.3 million steps of 128 images, 32x32."""
    return _images("cifar10", 32)


def celeba() -> Config:
    """CelebA, 64x64, with a larger sigma_max."""
    config = _images("celeba", 64)
    config.sde.sigma_max = 90.0
    config.sampling.snr = 0.17
    return config


def large(name: str, category: str = "") -> Config:
    """LSUN (which has categories), FFHQ or CelebA-HQ, 256x256: smaller batches, longer training, no dropout."""
    config = _images(name, 256)
    config.data.category = category
    config.sde.sigma_max = 378.0
    scales(config, 2000)
    config.network.dropout = 0.0
    config.training.update(num_steps=2_400_001, batch_size=64)
    config.sampling.update(snr=0.075, batch_size=16)
    config.checkpoint.every = 5_000
    return config


def _images(name: str, size: int) -> Config:
    config = default()
    config.data.update(name=name, image_size=size, num_channels=3, random_flip=True)
    config.training.update(num_steps=1_300_001, batch_size=128, steps_per_call=5)
    config.checkpoint.every = 10_000
    config.logging.samples_every = 50_000
    return config


def scales(config: Config, n: int) -> None:
    """N noise scales: levels of a discrete SDE, steps of every sampler."""
    config.sde.num_scales = n
    config.sampling.num_steps = n


def vp(config: Config, solver: str, *, discrete: bool = False) -> None:
    """The VP SDE or DDPM's chain of 1000 betas; the ancestral noise has the forward step's variance."""
    config.sde.name = "vp"
    scales(config, 1000)
    config.sampling.solver = solver
    if solver == "ancestral":
        config.sampling.variance = "large"
    if discrete:
        _discrete(config)


def subvp(config: Config) -> None:
    """The sub-VP SDE, which is continuous."""
    config.sde.name = "subvp"
    config.sampling.solver = "euler_maruyama"


def ve(config: Config, *, discrete: bool = False) -> None:
    """The VE SDE or SMLD's sigmas, images in [0, 1]: the network divided by sigma, the loss summed over pixels."""
    config.sde.name = "ve"
    config.network.update(scale_by_sigma=True, embedding_type="positional" if discrete else "fourier")
    config.parametrization.update(prediction="score", label="sigma")
    config.data.centered = False
    config.training.reduce_mean = False
    config.ema.decay = 0.999
    config.sampling.update(solver="reverse_diffusion", corrector="langevin", t_min=1e-5)
    if discrete:
        _discrete(config)


def _discrete(config: Config) -> None:
    config.sde.discrete = True
    config.parametrization.label = "level"
    config.training.times = "levels"
    config.sampling.times = "levels"


def ddpm(config: Config) -> None:
    """The U-Net of Ho et al. 2020."""
    config.network.update(name="ddpm", num_res_blocks=2)


def ddpm_256(config: Config) -> None:
    """The same for 256x256 images: six resolutions and a tenth of the learning rate."""
    ddpm(config)
    config.network.ch_mult = (1, 1, 2, 2, 4, 4)
    config.optimizer.learning_rate = 2e-5


def ddpmpp(config: Config) -> None:
    """DDPM++: BigGAN blocks, rescaled skips, naive resampling."""
    config.network.fir = False


def ncsnpp(config: Config) -> None:
    """NCSN++: as DDPM++, with FIR resampling and a residual pyramid of the input."""
    config.network.progressive_input = "residual"


def deep(config: Config) -> None:
    """Twice the residual blocks, trained for 950,000 steps."""
    config.network.num_res_blocks = 8
    config.training.num_steps = 950_001


def ncsnpp_256(config: Config) -> None:
    """NCSN++ for 256x256 images: seven resolutions, skips of input and output at each."""
    config.network.update(
        ch_mult=(1, 1, 2, 2, 2, 2, 2), num_res_blocks=2, progressive="output_skip", progressive_input="input_skip"
    )


def ncsnpp_1024(config: Config) -> None:
    """NCSN++ for 1024x1024 images: eight resolutions, batches of 8, one step per call."""
    ncsnpp_256(config)
    config.data.image_size = 1024
    config.sde.sigma_max = 1348.0
    config.network.update(nf=16, ch_mult=(1, 2, 4, 8, 16, 32, 32, 32), num_res_blocks=1)
    config.training.update(batch_size=8, steps_per_call=1)
    config.ema.decay = 0.9999
    config.sampling.update(snr=0.15, batch_size=8)


def ncsnv2(config: Config, *, snr: float, steps: int) -> None:
    """NCSNv2 of images up to 64x64 (Song & Ermon 2020), sampled by annealed Langevin dynamics alone."""
    ve(config, discrete=True)
    config.network.update(name="ncsnv2_64", nonlinearity="elu")
    config.optimizer.update(learning_rate=1e-4, warmup=0, grad_clip=-1.0)
    config.sampling.update(solver="none", corrector="annealed_langevin", corrector_steps=steps, snr=snr)


def ncsn(config: Config, *, snr: float, steps: int) -> None:
    """NCSN (Song & Ermon 2019): parameters for each noise level, no division by sigma, no moving average."""
    ncsnv2(config, snr=snr, steps=steps)
    config.network.update(name="ncsn", scale_by_sigma=False)
    config.optimizer.learning_rate = 1e-3
    config.ema.decay = 0.0


def edm(config: Config) -> None:
    """EDM on CIFAR-10: its SDE, preconditioning and loss (a sum over pixels), three resolutions, 200 million images of
    which 10 million to warm up, an average of half a million images' half-life (Karras et al. 2022, tables 1 and 7).
    """
    config.sde.update(name="edm", sigma_max=80.0)
    config.network.update(ch_mult=(2, 2, 2), dropout=0.13)
    config.parametrization.update(prediction="edm", label="log_sigma", sigma_data=0.5)
    config.data.update(random_flip=False, augmentation=0.12)
    config.training.update(
        num_steps=390_625, batch_size=512, weighting="edm", times="log_normal", p_mean=-1.2, p_std=1.2
    )
    config.training.reduce_mean = False
    config.optimizer.update(learning_rate=1e-3, warmup=19_531, grad_clip=-1.0)
    config.ema.update(averages=("half_life",), half_life=500_000, rampup=0.05)
    config.sampling.update(solver="euler", num_steps=100, times="log_snr", t_min=0.002)
    config.likelihood.t_min = 0.002


def conditional(config: Config) -> Config:
    """The same network told the class, as EDM's: the null label a vector of zeros, which nothing trains."""
    config.data.condition = ("label",)
    config.network.null_label = "zero"
    return config
