"""An autoencoder of MNIST, 28x28 to 7x7x2 latents with next to no prior, for configs/mnist_latent.py.

python launch.py --config configs/mnist_autoencoder.py --config.data.path=mnist.npz
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """data.path: a file of x_train, y_train, x_test, y_test, as Keras distributes."""
    config = default()
    config.system.name = "autoencoder"
    config.network.update(name="convolutional", nf=16, ch_mult=(1, 2, 2), num_res_blocks=1)
    config.vae.update(latent=(7, 7, 2), decoder_variance="constant_scalar")
    config.data.update(name="array", path="mnist.npz", image_size=28, centered=True, uniform_dequantization=True)
    config.training.update(num_steps=2000, batch_size=64, steps_per_call=10)
    config.optimizer.update(learning_rate=2e-3, warmup=100)
    config.ema.update(averages=("warmup",), decay=0.999)
    config.sampling.update(solver="few_step", num_steps=1)
    config.checkpoint.every = 1000
    config.logging.update(every=200, samples_every=0)
    return config
