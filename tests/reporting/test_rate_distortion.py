"""The rate-distortion curve: of Gaussian data Shannon's, by the rule alone and measured on a score."""

import jax.numpy as jnp
import numpy as np

from score_sde.data.kinds import Bytes, Real
from score_sde.experiment import build
from score_sde.reporting.measure import NoiseLevels, noise_levels, rates
from score_sde.reporting.rate_distortion import distortion, rate_distortion
from score_sde.reporting.sections import numbers
from score_sde.sde import vp
from score_sde.sde.analytic import gaussian
from score_sde.systems import Score
from tests.tiny import tiny_config

V = 0.3


def shannon(log_snr):
    """Rate in nats and distortion, per dimension of variance V."""
    snr = np.exp(log_snr)
    return 0.5 * np.log1p(V * snr), V / (1 + V * snr)


def exact(count):
    """The mean loss of an exact score at a grid of log-SNR, and the prior's term."""
    process = vp()
    first = float(process.log_snr(1.0))
    log_snr = np.linspace(first, 6, count)
    loss = V * np.exp(log_snr) / (1 + V * np.exp(log_snr))
    a2, s2 = (float(v) ** 2 for v in (process.alpha(1.0), process.sigma(1.0)))
    return log_snr, loss[:, None], np.array([0.5 * (a2 * V + s2 - 1 - np.log(s2))])


def test_gaussian_data_have_shannons_curve():
    """Up to the prior, which is off by 1e-5, and to the square of the grid's spacing."""
    errors = []
    for count in (12, 24, 48):
        log_snr, loss, prior = exact(count)
        expected, _ = shannon(log_snr)
        errors.append(np.abs(rates(log_snr, loss, prior)[:, 0] - expected).max())
    assert errors[1] < 6e-3 and errors[2] < errors[1] / 3.5
    np.testing.assert_allclose(rates(log_snr, loss, prior)[0, 0], expected[0], atol=1e-4)


def test_measured_on_a_score(monkeypatch):
    """Of the exact score of Gaussian data on such data, within its errors; the numbers and the section have it."""
    data = gaussian(jnp.zeros((8, 8, 1)), V * jnp.eye(64))
    model = lambda self, *arguments, **options: lambda x, t: (data.score(self.process)(x, t), None)
    monkeypatch.setattr(Score, "model", model)
    real = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32) * V**0.5
    experiment = build(tiny_config(sampling__batch_size=32))
    experiment.__dict__["kind"] = Real(False, (0.0,), (1.0,))
    found = noise_levels(experiment, {}, np.arange(64), real, {})
    rate, d = shannon(found.log_snr)
    assert found.rate is not None
    mean, error = found.rate
    np.testing.assert_array_less(np.abs(mean - rate), 5 * error + 6e-3)
    value, its = distortion(found)
    np.testing.assert_array_less(np.abs(value - d), 5 * its + 0.02 * d)
    assert (np.diff(mean) > 0).all() and (error[1:] > 0).all()
    written = numbers({}, found)["noise_levels"]
    np.testing.assert_allclose(written["rate"], mean)
    np.testing.assert_allclose(written["distortion"], value)
    made = rate_distortion(found, experiment.kind)
    assert made.png and "in the data's deviations. At" in made.caption and " at 0.5" in made.caption


def test_bytes_and_what_is_not_finite():
    estimate = (np.array([0.1, 0.5, np.nan]), np.full(3, 0.01))
    rate = (np.array([0.0, 0.4, np.nan]), np.full(3, 0.01))
    found = NoiseLevels(
        np.ones(3), np.array([-2.0, 0.0, 2.0]), estimate, estimate, estimate, 8, np.array([0, 0, 8]), rate
    )
    made = rate_distortion(found, Bytes(False, False, True))
    assert made.png and f"the error is {127.5 * 0.5**0.5:.3g}" in made.caption and "in bytes" in made.caption
    nothing = (np.full(3, np.nan), np.full(3, np.nan))
    lost = found._replace(loss=nothing, rate=nothing)
    assert rate_distortion(lost, Bytes(False, False, True)).png == b""
