"""Diffusion of latents against closed forms: a VAE's bound, Gaussian data, gradients of two losses in one pass."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.networks import MLP, Perceptron
from score_sde.objectives.denoising import LikelihoodTimes
from score_sde.objectives.variational import prior_term
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.parametrization import Noise, Parametrization, log_sigma_label
from score_sde.sde import vp
from score_sde.solvers import RK45
from score_sde.solvers.sampling import Samples, carried
from score_sde.systems import VAE, Joint, Latent
from score_sde.systems.latent import AUTOENCODER, BORROWED
from score_sde.systems.score import Objective
from score_sde.training.step import View
from tests.golden_files import quick_jit

D, WIDE = 3, 6
MEANING = Parametrization(Noise(), log_sigma_label)


def coder(dtype: Any = jnp.float32) -> VAE:
    """A linear-Gaussian one, whose latents' variance is of x too."""
    encoder, decoder = MLP((D,), (), dtype=dtype), MLP((WIDE,), (), "constant_scalar", dtype)
    return VAE((WIDE,), (WIDE,), (D,), encoder, decoder)


def fields(**more: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "shape": (D,), "image_shape": (D,), "process": vp(), "network": Perceptron((16,)), "parametrization": MEANING,
        "objective": Objective(lambda keys, model, sde, x0, u, space: x0.sum(1)), "sampler": None,
        "autoencoder": coder(), "t_min": 1e-4,
    }  # fmt: skip
    return own | more


def moved(params: Any, seed: int = 5) -> Any:
    """Parameters that are none of their initial zeros."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(structure, [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys)])


@pytest.fixture
def wide(float64):
    """Double precision of networks too, whose parameters are float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def joint():
    system = Joint(**fields(warmup=10, prior_updates=3, process=vp(beta_max=2.0)))
    params = moved(system.init(root_key(0), {}))
    given = example_keys(root_key(1), positions(0, 8)), jax.random.normal(jax.random.key(2), (8, WIDE))
    return system, params, (*given, (jnp.arange(8) + 0.5) / 8)


def view(step: int) -> View:
    return View(jnp.int32(step), {}, {})


@pytest.mark.parametrize("beta_max", [20.0, 2.0])
def test_without_the_network_it_is_the_vaes_bound(wide, beta_max):
    """At the weight 0 of the network, by quadrature over t with noise of +-1, whose moments are exact: to 1e-6.

    Also where much of z is left at T. Of sigma^2(t_0) (|z|^2 - D) / 2, which t_0 leaves out, there is next to nothing.
    """
    vae, sde, nodes, first = coder(jnp.float64), vp(beta_max=beta_max), 4000, 1e-6
    network = Perceptron((16,), jnp.float64)
    system = Joint(**fields(autoencoder=vae, mixing=-np.inf, network=network, process=sde, t_min=first))
    params = system.init(root_key(0), {})
    params = {**params, **moved({part: params[part] for part in ("encoder", "decoder")})}
    x = jax.random.normal(jax.random.key(3), (2, WIDE), jnp.float64)
    t, ratio = LikelihoodTimes(first)(sde, (jnp.arange(float(nodes)) + 0.5) / nodes)
    mean, log_variance = vae.encode(params, x)
    signs = jnp.asarray(np.array(np.meshgrid(*[[-1.0, 1.0]] * D)).reshape(D, -1).T)

    def bounds(sign):
        z = mean + jnp.exp(0.5 * log_variance) * sign[None]
        eps = jnp.ones((nodes, D))
        at = lambda z, eps: system.prior_at(params, jnp.broadcast_to(z, (nodes, D)), {}, t, ratio, eps)[0].mean()
        prior = jnp.stack([0.5 * (at(z[i : i + 1], eps) + at(z[i : i + 1], -eps)) for i in range(2)])
        reconstruction = -vae.density(x, vae.decode(params, z))
        return system.summed(reconstruction, log_variance, prior)[0]

    def both(sign):
        reconstruction, divergence = vae.evidence(params, x, jnp.broadcast_to(sign[None], (2, D)))
        return bounds(sign), reconstruction + divergence.sum(1)

    found, expected = (np.mean(values, 0) for values in zip(*map(quick_jit(both), signs)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def separate(system, params, given, step):
    """The gradients of both kinds of parts, each of its own loss with all else bound."""
    keys, x, u = given
    t, ratio = LikelihoodTimes(system.t_min)(system.process, u)
    eps, own = normal(child(keys, Purpose.NOISE), (D,)), ("encoder", "decoder")
    warm = min(1, step / system.warmup)

    def of_coder(coder):
        mean, log_variance = system.autoencoder.encode(coder, x)
        z = system.drawn(keys, mean, log_variance)
        reconstruction = -system.autoencoder.density(x, system.autoencoder.decode(coder, z))
        prior = system.prior_at(params, z, {}, t, ratio, eps)[0]
        whole, terms = system.summed(reconstruction, log_variance, prior)
        return (reconstruction + warm * (terms["entropy"] + prior)).mean(), whole

    def of_prior(prior):
        z = system.drawn(keys, *system.autoencoder.encode(params, x))
        squares = system.prior_at({**params, **prior}, z, {}, t, ratio, eps)[1]
        return (0.5 * ratio * squares).mean()

    one, whole = jax.grad(of_coder, has_aux=True)({part: params[part] for part in own})
    return {**one, **jax.grad(of_prior)({part: params[part] for part in ("score", "mixing")})}, whole


def test_every_part_descends_on_its_own_loss_in_one_pass(joint):
    """Encoder and decoder on the bound, the prior on its unweighted error, and the loss is the bound."""
    system, params, given = joint
    keys, x, u = given

    def mean(params, step):
        loss, terms = system.losses(params, View(step, {}, {}), keys, x, {}, u)
        return loss.mean(), (loss, terms)

    grad = quick_jit(jax.grad(mean, has_aux=True))
    found, (loss, terms) = grad(params, jnp.int32(5))
    expected, whole = quick_jit(lambda p: separate(system, p, given, 5))(params)
    for mine, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(loss, whole, rtol=1e-5)
    np.testing.assert_allclose(loss, sum(terms.values()), rtol=1e-5)
    held, _ = grad(params, jnp.int32(2))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((held["encoder"], held["decoder"])))
    np.testing.assert_allclose(held["mixing"]["logit"], found["mixing"]["logit"], rtol=1e-6)


def test_an_examples_loss_and_bound_depend_on_nothing_else(joint):
    """Bitwise, of one batch size; the bound has the loss's law."""
    system, params, (keys, x, u) = joint
    other = jnp.arange(7, -1, -1)
    losses = quick_jit(lambda keys, x, u: system.losses(params, view(20), keys, x, {}, u, False)[0])
    bounds = quick_jit(lambda keys, x: system.bound(params, keys, x, {})[0])
    mine, turned = losses(keys, x, u), losses(keys[other], x[other], u[other])
    np.testing.assert_array_equal(mine[other], turned)
    np.testing.assert_array_equal(bounds(keys, x)[other], bounds(keys[other], x[other]))
    many = example_keys(root_key(3), positions(0, 20_000))
    found = quick_jit(lambda k: system.bound(params, k, jnp.broadcast_to(x[:1], (len(k), WIDE)), {})[0])(many)
    u = (jnp.arange(20_000) + 0.5) / 20_000
    again = quick_jit(
        lambda k: system.losses(params, view(0), k, jnp.broadcast_to(x[:1], (len(k), WIDE)), {}, u, False)[0]
    )(many[::-1])
    assert abs(found.mean() - again.mean()) < 4 * (found.std() + again.std()) / 20_000**0.5


class Exact(nn.Module):
    """The noise of Gaussian latents N(m, diag(v)): sigma (x - alpha m) / (alpha^2 v + sigma^2), under VP."""

    m: Any
    v: Any

    def __call__(self, x, label, sigma, dropout_keys=None):
        sigma = sigma[:, None]
        alpha2 = 1 - sigma**2
        return sigma * (x - jnp.sqrt(alpha2) * self.m[None]) / (alpha2 * self.v[None] + sigma**2)


class Projecting:
    """Encoder and decoder by the leading principal directions, without noise."""

    latent = (D,)

    def encode(self, params, x, backwards=False):
        return (x - params["encoder"]["mean"]) @ params["encoder"]["U"], jnp.full((1, D), -jnp.inf)

    def decode(self, params, z, backwards=False):
        return z @ params["decoder"]["U"].T + params["decoder"]["mean"], jnp.zeros(())


def test_principal_latents_of_gaussian_data_have_the_exact_covariance(float64):
    """U_d L_d U_d^T, by the flow of the exact score from whole axes of the prior's: no Monte Carlo."""
    rng = np.random.default_rng(0)
    U, _ = np.linalg.qr(rng.normal(size=(WIDE, WIDE)))
    L, center = np.array([3.0, 1.5, 0.7, 0.2, 0.1, 0.05]), rng.normal(size=WIDE)
    own = {"U": jnp.asarray(U[:, :D]), "mean": jnp.asarray(center)[None]}
    scale = float(np.sqrt(L[:D].mean()))
    axes = jnp.concatenate([jnp.zeros((1, D)), jnp.eye(D)])

    def sampler(system, params, keys, condition):
        solver = RK45(1e-9, 1e-9)
        options = {"solver": solver, "times": jnp.array([1.0, 1e-5]), "denoise": True}
        score = system.score(params)
        return Samples(
            carried(keys, score, system.process, axes * system.process.sigma(1.0), **options).x, jnp.int32(1)
        )

    network = Exact(jnp.zeros(D), jnp.asarray(L[:D] / scale**2))
    options = fields(network=network, autoencoder=Projecting(), scale=scale, sampler=sampler)
    system = Latent(**options, coder={"encoder": own, "decoder": own})
    x = system.draw({"score": {}}, example_keys(root_key(0), positions(0, D + 1)), {}).x
    np.testing.assert_allclose(x[0], center, atol=1e-6)
    A = np.asarray(x[1:] - x[:1]).T
    np.testing.assert_allclose(A @ A.T, (U[:, :D] * L[:D]) @ U[:, :D].T, atol=2e-4)


def test_batches_are_decoded_whole_or_in_parts_alike():
    system = Latent(**fields(scale=2.0))
    own = moved(coder().init(root_key(0), {}))
    z = jax.random.normal(jax.random.key(1), (6, D))
    decode = lambda z: coder().decode(own, z)[0]
    whole = system.by_parts(decode, z)
    for parts in (2, 3):
        other = dataclasses.replace(system, parts_decoded=partial(int, parts))
        np.testing.assert_allclose(other.by_parts(decode, z), whole, rtol=1e-5)
    with pytest.raises(UsageError, match=r"sampling\.decode_parts=4 do not divide a batch of 6 latents"):
        dataclasses.replace(system, parts_decoded=lambda: 4).by_parts(decode, z)


def test_a_frozen_coders_latents_are_scaled_and_the_bound_is_of_the_data():
    """Of a scale s the prior's term has D ln s nats more than that of z / s; a given coder is before the constant."""
    own, x = moved(coder().init(root_key(0), {})), jax.random.normal(jax.random.key(2), (4, WIDE))
    keys, u = example_keys(root_key(1), positions(0, 4)), jnp.full(4, 0.5)
    seen = []
    objective = Objective(lambda keys, model, sde, x0, u, space: seen.append(x0) or x0.sum(1))  # pyright: ignore
    plain, scaled = (Latent(**fields(scale=s, objective=objective), coder=own) for s in (1.0, 4.0))
    params = plain.init(root_key(2), {})
    for system in (plain, scaled):
        system.losses(params, View(jnp.int32(0), {}, {AUTOENCODER: own}), keys, x, {}, u)
    np.testing.assert_allclose(seen[0], 4 * seen[1], rtol=1e-6)
    terms = scaled.bound(params, keys, x, {})[1]
    half = jax.tree.map(lambda p: 0.5 * p, own)
    given = scaled.bound({**params, BORROWED: half}, keys, x, {})[1]
    assert not np.allclose(terms["reconstruction"], given["reconstruction"])
    same = dataclasses.replace(scaled, coder=half).bound(params, keys, x, {})[1]
    np.testing.assert_array_equal(given["reconstruction"], same["reconstruction"])
    one = plain.bound(params, keys, x, {})[1]
    np.testing.assert_allclose(terms["entropy"], one["entropy"])
    # Of an untrained network, whose output is 0, |eps|^2 is the whole of it: the prior's terms differ by D ln s and by
    # what is left at T.
    z = plain.drawn(keys, *coder().encode(own, x))
    left = prior_term(vp(), z / 4) - prior_term(vp(), z)
    np.testing.assert_allclose(terms["prior"] - one["prior"], D * np.log(4.0) + left, rtol=1e-4)
