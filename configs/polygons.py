"""EGNN (VP) on regular pentagons in any turn and order, whose distances are known.

python benchmarks/polygons.py --write runs/polygons.npz && python launch.py --config configs/polygons.py

Cost: 1 minute on two CPU cores. Expected: the mean distances of 1,000 samples within 0.03 of the data's.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """Three blocks of 32 channels."""
    config = default()
    config.data.update(name="array", path="runs/polygons.npz", kind="points")
    config.network.update(name="egnn", nf=32, num_res_blocks=3)
    config.parametrization.update(label="log_sigma")
    config.training.update(num_steps=3000, batch_size=128, steps_per_call=10, stratified=True, t_min=1e-4)
    config.optimizer.update(learning_rate=2e-3, warmup=100, decay="linear")
    config.ema.update(averages=("warmup",), decay=0.995)
    config.sampling.update(solver="dpm_solver_pp_2m", num_steps=60, times="log_snr", num_samples=1000, batch_size=500)
    config.likelihood.update(num_images=256, batch_size=64, dequantizations=2, t_min=1e-4)
    config.evaluation.update(every=1000, num_images=500)
    config.checkpoint.every = 1000
    config.logging.update(every=100, samples_every=1000)
    return config
