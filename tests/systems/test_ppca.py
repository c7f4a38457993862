"""A linear autoencoder that is trained finds probabilistic PCA: pytest -m oracles, half a minute on two cores."""

import math

import jax
import numpy as np
import pytest

from score_sde.data.sources import digits
from score_sde.experiment import build
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from tests.systems import game
from tests.systems.autoencoding import vae_config
from tests.systems.test_vae import exact_bound, spectrum

pytestmark = pytest.mark.oracles
D = 8


def test_a_trained_linear_autoencoder_is_probabilistic_pca(tmp_path):
    """Of the 1,500 digits / 255: log p within 0.02 nats of the maximum of all such models, the ELBO within 0.03."""
    x = np.asarray(digits().train, np.float32).reshape(1500, 64) / 255
    np.savez(tmp_path / "digits.npz", train=x.reshape(-1, 8, 8))
    config = vae_config(
        network__hidden=(), vae__latent=(D,), vae__encoder_variance="constant_diagonal",
        vae__decoder_variance="constant_scalar", data__name="array", data__path=str(tmp_path / "digits.npz"),
        data__shape=(8, 8), data__mean=(0.0,), data__std=(1.0,), data__uniform_dequantization=False,
        data__centered=True,
        training__num_steps=12000, training__batch_size=128, training__steps_per_call=100,
        optimizer__learning_rate=1e-2, optimizer__decay="linear", ema__decay=0.999, checkpoint__every=12000,
        logging__every=2000,
    )  # fmt: skip
    experiment = build(config)
    state = train(experiment, Workdir(tmp_path / "run"), generator=game.Slow(), show=False)  # pyright: ignore
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), experiment.weights(state))

    x = x.astype(np.float64)
    values, _ = spectrum(x)
    least = values[D:].mean()
    best = -0.5 * (64 * math.log(2 * math.pi) + np.log(values[:D]).sum() + (64 - D) * math.log(least) + 64)
    assert best == pytest.approx(14.396, abs=1e-3)
    decoder = params["decoder"]
    weights, bias = decoder["mean"]["kernel"].T, decoder["mean"]["bias"]
    variance = float(np.exp(decoder["log_variance"]["bias"]).ravel()[0])
    covariance = weights @ weights.T + variance * np.eye(64)
    squares = np.einsum("nd,dn->n", x - bias, np.linalg.solve(covariance, (x - bias).T))
    log_p = -0.5 * (64 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + squares).mean()
    elbo = -exact_bound(weights, bias, variance**0.5, params, x).mean()
    print(f"best {best:.4f}, log p {log_p:.4f}, ELBO {elbo:.4f}, variance {variance:.5f} against {least:.5f}")
    assert best - 0.02 < log_p <= best + 1e-6
    assert best - 0.03 < elbo <= log_p
