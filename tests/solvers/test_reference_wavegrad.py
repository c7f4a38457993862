"""WaveGrad's sampling against recorded runs of a port of it, and this package's own steps, which do not clamp."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.scores.parametrization import Noise, Parametrization, alpha_label
from score_sde.sde import vp
from score_sde.solvers import Ancestral, grids
from score_sde.solvers.reference_wavegrad import inference
from tests.golden_files import load, relative_error


def recorded(steps: str) -> dict[str, jnp.ndarray]:
    prefix = f"inference_{steps}__"
    return {
        k.removeprefix(prefix): jnp.asarray(v) for k, v in load("wavegrad", "systems").items() if k.startswith(prefix)
    }


def stub(frames: jnp.ndarray):
    return lambda x, level: jnp.tanh(0.8 * x + 0.3 * level[:, None] * frames)


@pytest.mark.parametrize("steps", ["six", "fifty"])
def test_recorded_runs_with_the_clamp(steps, float64):
    run = recorded(steps)
    found = inference(stub(run["spectrogram_stub"]), run["beta"].tolist(), run["x_T"], lambda i: run["noise"][i])
    assert relative_error(found, run["audio"]) < 1e-12


@pytest.mark.parametrize("steps", ["six", "fifty"])
def test_our_steps_are_those_without_the_clamp(steps, float64, monkeypatch):
    """On any VP SDE's times of these levels, here that of linear beta: the final denoising is the last step."""
    run = recorded(steps)
    network, betas = stub(run["spectrogram_stub"]), np.asarray(run["beta"])
    sde = vp()
    score = Parametrization(Noise(), alpha_label)(lambda x, level, sigma: network(x, level), sde)
    times = grids.of_betas(sde, betas.tolist())
    np.testing.assert_allclose(sde.alpha(times) ** 2, np.cumprod(1 - betas)[::-1], rtol=1e-9)
    x = run["x_T"]
    for i in range(len(betas) - 1):
        x = Ancestral().update(sde, score, x, times[i], times[i + 1], run["noise"][i]).x
    last = times[-1]
    ours = (x + sde.sigma(last) ** 2 * score(x, last)) / sde.alpha(last)
    monkeypatch.setattr("score_sde.solvers.reference_wavegrad.jnp.clip", lambda x, low, high: x)
    theirs = inference(network, betas.tolist(), run["x_T"], lambda i: run["noise"][i])
    assert relative_error(ours, theirs) < 1e-8
    assert relative_error(ours, run["audio"]) > 1e-2  # the clamp's bias


BAD = [((0.1,), "two or more"), ((0.1, 1.0), "two or more"), ((0.5, 0.99999999), "go down to")]


@pytest.mark.parametrize(("betas", "words"), BAD)
def test_betas_that_are_none_or_beyond_the_sde_are_refused(betas, words):
    with pytest.raises(UsageError, match=words):
        grids.of_betas(vp(), betas)
