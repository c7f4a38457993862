"""WaveGrad's network (VP) on damped sinusoids of 32 samples, told their frequency, whose exact noise is known.

python benchmarks/sinusoids.py --write runs/sinusoids.npz && python launch.py --config configs/sinusoids.py

Cost: 250 seconds of CPU, on two cores less than 3 minutes. Expected: the network's noise is 0.02, 0.04 and 0.05 of its
size away from the exact one at alpha_bar .1, .5 and .9 (benchmarks/sinusoids.py --run runs/sinusoids).
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """WaveGrad's way at a small size: the absolute error at levels between those of a chain."""
    config = default()
    config.sde.update(discrete=True)
    config.data.update(name="array", path="runs/sinusoids.npz", condition=("frames",), mean=(0.0,), std=(1.0,))
    config.network.update(name="wavegrad", factors=(2, 2, 2), up_widths=(64, 64, 64), down_widths=(16, 32, 64))
    config.network.update(frames_width=32, long_blocks=2)
    config.parametrization.label = "alpha"
    config.training.update(num_steps=4000, batch_size=128, steps_per_call=20, stratified=True)
    config.training.update(objective="absolute", times="between_levels")
    config.optimizer.update(learning_rate=2e-3, warmup=100, decay="linear")
    config.ema.update(averages=("warmup",), decay=0.999)
    config.sampling.update(solver="adams_3", num_steps=20, times="log_snr", num_samples=63, batch_size=63)
    config.sampling.condition = "runs/sinusoids.npz"
    config.likelihood.update(num_images=63, batch_size=63, solver="rk45", bound_samples=0)
    config.checkpoint.every = 1000
    config.logging.update(every=100, samples_every=0)
    return config
