"""WaveGrad's training: levels between those of a chain, and the absolute error, as recorded from a port of it."""

import jax.numpy as jnp
import numpy as np

from score_sde.objectives import denoising
from score_sde.scores.parametrization import Noise, Parametrization, alpha_label
from score_sde.sde.chain import linear_betas, vp_chain
from tests.golden_files import load, relative_error


def recorded(*names: str) -> list[jnp.ndarray]:
    return [jnp.asarray(load("wavegrad", "systems")[f"training__{name}"]) for name in names]


def chain():
    first, last = load("wavegrad", "systems")["train__beta_first_last"]
    return vp_chain(linear_betas(1000, 1000 * first, 1000 * last))


def test_the_levels_are_those_of_the_port(float64):
    sde, (s, u, levels) = chain(), recorded("s", "u", "noise_scale")
    t, ratio = denoising.BetweenLevels()(sde, (s.astype(u.dtype) - 1 + u) / 1000)
    assert relative_error(sde.alpha(t), levels[:, 0]) < 1e-12
    np.testing.assert_array_equal(ratio, 1)
    nodes = jnp.linspace(0, 1, 1001)[1:]
    assert relative_error(sde.alpha(nodes), load("wavegrad", "systems")["train__noise_level"][1:]) < 1e-12


def test_the_absolute_loss_is_the_ports(float64):
    sde, (s, u, x0, z, frames) = chain(), recorded("s", "u", "audio", "noise", "spectrogram_stub")
    t, _ = denoising.BetweenLevels()(sde, (s.astype(u.dtype) - 1 + u) / 1000)
    network = lambda x, level, sigma: jnp.tanh(0.8 * x + 0.3 * level[:, None] * frames)
    score = Parametrization(Noise(), alpha_label)(network, sde)
    x, sigma = denoising.perturb(sde, x0, t, z)
    assert relative_error(x, recorded("noisy_audio")[0]) < 1e-12
    loss = denoising.mean(denoising.absolute(None, score, x, t, sigma, z)).mean()
    assert relative_error(loss, recorded("loss")[0]) < 1e-12


def test_every_step_is_drawn_evenly_and_alpha_evenly_within_it():
    """In float32, the step of least noise included, whose alpha differs from 1 by 5e-7."""
    sde = chain()
    u = (jnp.arange(8000) + 0.5) / 8000
    t = denoising.BetweenLevels(t_min=1e-5)(sde, u)[0]
    assert float(t.min()) >= 1e-5 and float(t.max()) <= 1 and bool((jnp.diff(t) > 0).all())
    np.testing.assert_array_equal(np.histogram(t, bins=np.linspace(0, 1, 1001))[0], 8)
    last = np.asarray(sde.alpha(t[-8:]), float)
    np.testing.assert_allclose(np.diff(last), np.diff(last).mean(), rtol=2e-2)
