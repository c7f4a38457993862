"""WaveGrad's base network (VP chain, 15.9M parameters) on a folder of .wav files, told their mel frames.

python launch.py --config configs/wavegrad.py --config.data.path=speech --config.sampling.condition=one.wav

Files of 24,000 samples per second; of others --config.data.rate=22050, say. Cost: for accelerators; 1,000,000 steps of
batch 256, windows of .3 s. Its figures are listeners' opinions of speech that is not public: none is expected here.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """WaveGrad's base network, schedule, windows and frames (Chen et al. 2021, section 4.1)."""
    config = default()
    config.sde.update(discrete=True, beta_min=0.001, beta_max=10.0)
    config.data.update(name="waves", path="speech", length=7200, rate=24_000, condition=("frames",))
    config.data.update(mean=(0.0,), std=(1.0,), hop=300, n_fft=2048, window=1200, mels=128, mel_low=20.0, mel_high=12e3)
    config.data.held_out = 64
    config.network.name = "wavegrad"
    config.parametrization.label = "alpha"
    config.training.update(num_steps=1_000_000, batch_size=256, objective="absolute", times="between_levels")
    config.ema.update(averages=("constant",), decay=0.9999)
    config.sampling.update(solver="ancestral", num_steps=5, times="betas", num_samples=4, batch_size=4)
    config.sampling.betas = (7e-6, 1.4e-4, 2.1e-3, 2.8e-2, 3.5e-1, 7e-1)
    config.likelihood.update(solver="rk45", bound_samples=0)
    config.logging.samples_every = 50_000
    return config
