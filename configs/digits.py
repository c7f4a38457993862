"""NCSN++ (VP) on the embedded 8x8 handwritten digits: the first run on a new machine.

python launch.py --config configs/digits.py

Cost: 3 to 4 minutes on two CPU cores. Expected, of 1,000 samples: pixel Fréchet distance 0.32, 1-NN accuracy 0.61.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """The defaults, changed for a small network and a short run."""
    config = default()
    config.network.update(nf=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(4,), dropout=0.0, fir=False)
    config.training.update(num_steps=1000, batch_size=128, steps_per_call=10, stratified=True)
    config.optimizer.update(learning_rate=2e-3, warmup=100)
    config.ema.update(averages=("warmup",), decay=0.99)
    config.sampling.update(solver="ancestral", num_steps=50, times="log_snr", num_samples=100, batch_size=100)
    config.evaluation.final_samples = 1000
    config.checkpoint.every = 500
    config.logging.samples_every = 500
    return config
