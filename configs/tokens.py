"""Masked diffusion of a Markov chain of 3 states and 8 tokens, whose entropy is known.

python benchmarks/markov.py --write runs/markov.npz && python launch.py --config configs/tokens.py

Cost: one minute on two CPU cores. Expected: a bound on 5,000 held-out examples 0.005 nats of an example above their
own -log p by the chain, with a standard error of 0.031; the entropy is 6.173 nats.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """A transformer of two blocks. A text of your own: data.name=text, data.path, data.length and data.held_out."""
    config = default()
    config.system.name = "masked"
    config.network.update(name="transformer", nf=64, num_res_blocks=2, head_channels=32, dropout=0.0)
    config.data.update(name="array", path="runs/markov.npz")
    config.training.update(num_steps=1500, batch_size=128, steps_per_call=50, stratified=True)
    config.optimizer.update(learning_rate=2e-3, warmup=100, decay="linear")
    config.ema.update(averages=("warmup",), decay=0.99)
    config.sampling.update(solver="unmasking", num_steps=64, num_samples=64, batch_size=64)
    config.likelihood.update(batch_size=500, dequantizations=8)
    config.evaluation.update(every=500, num_images=1000)
    config.checkpoint.every = 500
    config.logging.update(every=50, samples_every=500)
    return config
