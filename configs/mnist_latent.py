"""A score of MNIST's 7x7x2 latents, in the space of configs/mnist_autoencoder.py's run.

python launch.py --config configs/mnist_latent.py --config.data.path=mnist.npz \
    --config.frozen.autoencoder=runs/mnist_autoencoder
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """frozen.autoencoder: the run of the autoencoder, or a VAE's on the same data."""
    config = default()
    config.system.name = "latent"
    config.frozen.autoencoder = "runs/mnist_autoencoder"
    config.network.update(nf=32, ch_mult=(1,), num_res_blocks=2, attn_resolutions=(7,), dropout=0.0, fir=False)
    config.data.update(name="array", path="mnist.npz", image_size=28, centered=True, uniform_dequantization=True)
    config.training.update(num_steps=3000, batch_size=64, steps_per_call=10, stratified=True, t_min=1e-4)
    config.optimizer.update(learning_rate=2e-3, warmup=100)
    config.ema.update(averages=("warmup",), decay=0.999)
    config.sampling.update(solver="heun", num_steps=25, times="log_snr", num_samples=100, batch_size=100)
    config.evaluation.final_samples = 1000
    config.checkpoint.every = 1000
    config.logging.update(every=200, samples_every=0)
    return config
