"""EGNN (VP) on clusters of 13 particles with Lennard-Jones forces, drawn by a Monte Carlo run.

python benchmarks/lj13.py --write runs/lj13.npz && python launch.py --config configs/lj13.py

Cost: an hour on two CPU cores, not measured to its end. benchmarks/lj13.py --run compares the samples' energies.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """Three blocks of 32 channels, sampled by Heun's method."""
    config = default()
    config.data.update(name="array", path="runs/lj13.npz", kind="points")
    config.network.update(name="egnn", nf=32, num_res_blocks=3)
    config.parametrization.update(label="log_sigma")
    config.training.update(num_steps=10_000, batch_size=64, steps_per_call=10, stratified=True, t_min=1e-4)
    config.optimizer.update(learning_rate=2e-3, warmup=100, decay="linear")
    config.ema.update(averages=("warmup",), decay=0.995)
    config.sampling.update(solver="dpm_solver_pp_2m", num_steps=100, times="log_snr", t_min=1e-4)
    config.sampling.update(num_samples=1000, batch_size=250)
    config.likelihood.update(num_images=64, batch_size=32, dequantizations=1, t_min=1e-4)
    config.evaluation.update(every=2000, num_images=512)
    config.checkpoint.every = 2000
    config.logging.update(every=200, samples_every=2000)
    return config
