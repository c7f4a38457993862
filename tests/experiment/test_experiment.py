"""From a config's words to samples and losses: labels, levels, tables, variances and objectives meet as they should.

The network is replaced by the exact one of Gaussian data, computed from the noise label alone: a wrong label, table or
order of levels shows in the samples.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.stream import Batch
from score_sde.experiment import Experiment, build, objects
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde.chain import linear_betas
from tests.golden_files import quick_jit
from tests.gradients import NO_VIEW
from tests.tiny import tiny_config, with_network

MEAN, STD, COUNT, N = 0.3, 0.5, 256, 400
NONE = {"score": {}}
"""The parameters of a network that has none."""


class Exact(nn.Module):
    """What a network trained on N(MEAN, STD^2) pixels returns, of its label alone; without fields of how."""

    sde: str
    discrete: bool

    def __call__(self, x, label, sigma, dropout_keys=None):
        if self.sde == "edm":
            r = jnp.exp(4 * label)[:, None, None, None]
            # For data as wide as sigma_data the best F is of the mean alone: what c_skip leaves of it, over c_out.
            return jnp.broadcast_to(MEAN * r / (0.5 * jnp.sqrt(r**2 + 0.25)), x.shape)
        if self.sde == "ve":
            sigmas = 50 * 5000 ** (-label / (N - 1)) if self.discrete else label
            return self._score(x, 1.0, sigmas)
        if self.discrete:
            bars = jnp.asarray(np.cumprod(1 - linear_betas(N)), x.dtype)
            alpha = jnp.sqrt(jnp.interp(label, jnp.arange(N), bars))
        else:
            t = label / 999
            alpha = jnp.exp(-0.5 * t * (0.1 + 0.5 * t * 19.9))
        std = 1 - alpha**2 if self.sde == "subvp" else jnp.sqrt(1 - alpha**2)
        return -self._score(x, alpha, std) * std[:, None, None, None]

    @staticmethod
    def _score(x, alpha, std):
        alpha, std = jnp.broadcast_to(alpha, len(x)), jnp.broadcast_to(std, len(x))
        return -(x - (alpha * MEAN)[:, None, None, None]) / (alpha**2 * STD**2 + std**2)[:, None, None, None]


def exact_experiment(sde: str, discrete: bool, **sampling) -> Experiment:
    config = tiny_config()
    config.sde.update(name=sde, discrete=discrete, num_scales=N)
    if discrete:
        config.training.times = "levels"
        config.sampling.times = "levels"
    if sde == "edm":
        config.training.times = "log_normal"
    config.parametrization.update(
        prediction={"ve": "score", "edm": "edm"}.get(sde, "noise"),
        label="level" if discrete else {"ve": "sigma", "edm": "log_sigma"}.get(sde, "time"),
    )
    config.sampling.update(solver="ancestral", num_steps=N, t_min=1e-5 if sde == "ve" else 1e-3)
    config.sampling.update(sampling)
    return with_network(build(config), Exact(sde, discrete))


CASES = {
    "DDPM": ("vp", True, {}, N),
    "DDPM, large variance": ("vp", True, {"variance": "large"}, N),
    "DDPM by Euler-Maruyama": ("vp", True, {"solver": "euler_maruyama"}, N),
    "DDPM by RK45": ("vp", True, {"solver": "rk45"}, None),
    "DDPM by DPM-Solver-23": ("vp", True, {"solver": "dpm_solver_23"}, None),
    "DDPM by adaptive steps": ("vp", True, {"solver": "adaptive_sde"}, None),
    "SMLD": ("ve", True, {}, N),
    "SMLD, predictor-corrector": ("ve", True, {"corrector": "langevin", "snr": 0.1}, 2 * N - 1),
    "SMLD, annealed Langevin alone": (
        "ve", True, {"solver": "none", "corrector": "annealed_langevin", "snr": 0.2, "corrector_steps": 5}, 5 * N + 1,
    ),
    "EDM": ("edm", False, {"times": "log_snr"}, N + 1),
    "EDM, ODE": ("edm", False, {"solver": "euler", "times": "log_snr"}, N + 1),
    "EDM by auto": ("edm", False, {"solver": "auto", "num_steps": N}, N),
    "VP by auto": ("vp", False, {"solver": "auto", "num_steps": N}, N),
    "DDPM by a multistep method": ("vp", True, {"solver": "dpm_solver_pp_2m"}, N),
    "VP on an optimised grid": ("vp", False, {"solver": "deis_2", "times": "optimised"}, N + 1),
    "VP, SDE Adams": ("vp", False, {"solver": "sde_adams_2"}, N + 1),
    "EDM by DPM-Solver++ SDE": ("edm", False, {"solver": "dpm_solver_pp_sde", "times": "log_snr"}, 2 * N + 1),
    "EDM by RK45": ("edm", False, {"solver": "rk45"}, None),
    "official DDPM": ("vp", True, {"reference": True}, N),
    "official DDPM, reverse diffusion": ("vp", True, {"reference": True, "solver": "reverse_diffusion"}, N),
    "official VP": ("vp", False, {"reference": True, "solver": "euler_maruyama"}, N),
    "official VP, ODE": ("vp", False, {"reference": True, "solver": "rk45"}, None),
    "official sub-VP": ("subvp", False, {"reference": True, "solver": "euler_maruyama"}, N),
    "official SMLD": (
        "ve", True, {"reference": True, "solver": "reverse_diffusion", "corrector": "langevin", "snr": 0.1}, 2 * N,
    ),
    "official NCSN": (
        "ve", True,
        {"reference": True, "solver": "none", "corrector": "annealed_langevin", "snr": 0.2, "corrector_steps": 5},
        5 * N,
    ),
    "official VE": (
        "ve", False, {"reference": True, "solver": "reverse_diffusion", "corrector": "langevin", "snr": 0.1}, 2 * N,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_samples_of_discrete_models_and_by_the_official_arithmetic(name):
    """16,384 pixels of N(0.3, 0.25): mean to 0.02, standard deviation to 3 %, what 400 first-order steps allow."""
    sde, discrete, sampling, evaluations = CASES[name]
    experiment = exact_experiment(sde, discrete, **sampling)
    keys = example_keys(root_key(0), positions(0, COUNT))
    drawn = jax.jit(lambda keys: experiment.draw(NONE, keys))(keys)
    assert evaluations is None or int(drawn.evaluations) == evaluations
    x = np.asarray(drawn.x)
    np.testing.assert_allclose(x.mean(), MEAN, atol=0.02)
    np.testing.assert_allclose(x.std(), STD, rtol=0.03)


OBJECTIVES = {
    **{name: {"training__objective": name} for name in objects.OBJECTIVES},
    "variational": {"training__objective": "variational"},
    "hybrid": {"training__objective": "hybrid"},
    "hybrid, learned variance": {"training__objective": "hybrid", "parametrization__learned_variance": True},
    "posterior mean": {"parametrization__prediction": "posterior_mean"},
    "cosine": {"sde__schedule": "cosine"},
}
CHAIN = {
    "sde__discrete": True,
    "sde__num_scales": N,
    "training__times": "levels",
    "parametrization__label": "level",
    "training__stratified": False,
    "data__uniform_dequantization": False,
}
PLAIN = {"network__attn_resolutions": ()}
"""A network without attention, which is not the point."""


def tiny_batch() -> Batch:
    return Batch(np.random.RandomState(0).randint(0, 256, (8, 8, 8, 1)).astype(np.uint8), positions(0, 8))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_smoke_every_objective_can_be_differentiated(name):
    """Traced, not run: one loss per example, and a gradient of the parameters' shapes."""
    experiment = build(tiny_config(**CHAIN, **OBJECTIVES[name]))
    params = experiment.abstract_state().params

    def mean_and_all(p):
        loss, u, _ = experiment.loss(p, NO_VIEW, tiny_batch())
        return loss.mean(), (loss, u)

    slopes, of_examples = jax.eval_shape(jax.grad(mean_and_all, has_aux=True), params)
    assert jax.tree.map(jnp.shape, slopes) == jax.tree.map(jnp.shape, params)
    assert {x.shape for x in of_examples} == {(8,)}


def test_a_hybrid_loss_trains_both_halves_of_the_output():
    """The last convolution's channels: the mean's by L_simple, the variance's by the bound; both slopes are finite."""
    experiment = build(tiny_config(**CHAIN, **OBJECTIVES["hybrid, learned variance"], **PLAIN, network__dropout=0.0))
    shaken = jax.tree.map(lambda p: p + 0.05 * np.random.RandomState(0).normal(size=p.shape).astype(np.float32),
                          experiment.init_params())  # fmt: skip
    slopes = quick_jit(jax.grad(lambda p: experiment.loss(p, NO_VIEW, tiny_batch())[0].mean()))(shaken)
    last = np.asarray(slopes["score"]["Conv_1"]["bias"])
    assert last.shape == (2,)
    assert np.isfinite(last).all()
    assert (np.abs(last) > 1e-7).all()


def test_a_learned_variance_is_sampled():
    """With the fraction 0 or 1 the learned variance is the small or the large one, to the last bit of noise."""

    class WithFraction(Exact):
        value: float = 0.0

        def __call__(self, x, label, sigma, dropout_keys=None):
            first = super().__call__(x, label, sigma)
            return jnp.concatenate([first, jnp.full_like(first, 2 * self.value - 1)], axis=-1)

    keys = example_keys(root_key(0), positions(0, 4))
    for value, variance in ((0.0, "small"), (1.0, "large")):
        fixed = exact_experiment("vp", True, variance=variance).draw(NONE, keys).x
        config = tiny_config(**CHAIN, **OBJECTIVES["hybrid, learned variance"])
        config.sampling.update(solver="ancestral", num_steps=N, times="levels", variance="learned")
        learned = with_network(build(config), WithFraction("vp", True, value=value))
        np.testing.assert_allclose(learned.draw(NONE, keys).x, fixed, atol=1e-4)


EDM = {
    "sde__name": "edm",
    "parametrization__prediction": "edm",
    "parametrization__label": "log_sigma",
    "training__weighting": "edm",
    "training__times": "log_normal",
    "sampling__times": "log_snr",
    "data__random_flip": False,
    "data__augmentation": 0.9,
}


def test_the_network_is_told_of_its_augmentation():
    """Its layer of the labels gets a gradient from every one of the nine, and sampling works without labels."""
    experiment = build(tiny_config(**EDM, **PLAIN))
    shaken = jax.tree.map(lambda p: p + 0.05 * np.random.RandomState(0).normal(size=p.shape).astype(np.float32),
                          experiment.init_params())  # fmt: skip
    batch = Batch(np.random.RandomState(0).randint(0, 256, (64, 8, 8, 1)).astype(np.uint8), positions(0, 64))
    slopes = quick_jit(jax.grad(lambda p: experiment.loss(p, NO_VIEW, batch)[0].mean()))(shaken)
    assert (np.abs(slopes["score"]["Dense_augment"]["kernel"]).max(1) > 1e-7).all()
    drawn = quick_jit(experiment.draw)(shaken, example_keys(root_key(0), positions(0, 2)))
    assert np.isfinite(drawn.x).all()


def test_edms_loss_begins_near_one():
    """A network that returns nearly nothing, images about as wide as sigma_data."""
    experiment = build(tiny_config(**{**EDM, "data__augmentation": 0.0}, **PLAIN, parametrization__sigma_data=0.76))
    state = experiment.initial_state()
    images = experiment.data.train[:256]
    loss, _, _ = quick_jit(experiment.loss)(state.params, NO_VIEW, Batch(images, positions(0, 256)))
    np.testing.assert_allclose(loss.mean(), 1, atol=0.1)
