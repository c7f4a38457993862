"""LSGM on the 8x8 digits: a linear encoder and decoder of 8 latents, and a score prior in the place of N(0, I).

python launch.py --config configs/digits_lsgm.py
python launch.py --config configs/digits_lsgm.py --mode likelihood

Cost: a minute on two CPU cores. Figures are of latents with the noise of t_0 = 1e-4, as trained.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """A linear-Gaussian model but for its prior, so that probabilistic PCA is what there is to beat."""
    config = default()
    config.system.name = "latent"
    config.latent.update(joint=True, coder="mlp", hidden=(), mixing=-3.0)
    config.vae.update(latent=(8,), encoder_variance="constant_diagonal", decoder_variance="constant_scalar")
    config.network.update(name="perceptron", hidden=(64, 64))
    config.parametrization.label = "log_sigma"
    config.data.update(centered=False, uniform_dequantization=True)
    config.training.update(num_steps=12_000, batch_size=128, steps_per_call=100, stratified=True, t_min=1e-4)
    config.optimizer.update(learning_rate=2e-3, warmup=0, grad_clip=-1.0)
    config.ema.update(averages=("constant",), decay=0.999)
    config.sampling.update(solver="heun", num_steps=25, times="log_snr", t_min=1e-4, num_samples=100, batch_size=100)
    config.likelihood.dequantizations = 100
    config.evaluation.final_samples = 1000
    config.checkpoint.every = 6000
    config.logging.update(every=1000, samples_every=0)
    return config
