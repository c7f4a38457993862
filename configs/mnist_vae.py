"""The variational autoencoder of lectures on MNIST: one hidden layer each way, 20 latents, in (byte + u) / 256.

python launch.py --config configs/mnist_vae.py --config.data.path=mnist.npz

Cost: 2 to 3 minutes on two CPU cores. Expected, of 10,000 training and 10,000 held-out digits: an ELBO of 571 nats of a
held-out one, 582 of 16 importance-weighted draws, where probabilistic PCA of 20 components has 307.5.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """data.path: a file of x_train, y_train, x_test, y_test, as Keras distributes."""
    config = default()
    config.system.name = "vae"
    config.network.update(name="mlp", hidden=(400,))
    config.vae.update(latent=(20,), encoder_variance="diagonal", decoder_variance="scalar")
    config.data.update(name="array", path="mnist.npz", image_size=28, centered=False, uniform_dequantization=True)
    config.training.update(num_steps=6000, batch_size=100, steps_per_call=50)
    config.optimizer.update(learning_rate=1e-3, warmup=0, grad_clip=-1.0)
    config.ema.update(averages=("warmup",), decay=0.999)
    config.sampling.update(solver="few_step", num_steps=1)
    config.evaluation.every = 1000
    config.checkpoint.every = 2000
    config.logging.update(every=500, samples_every=2000)
    return config
