"""Autoencoders for latent diffusion: Laplace's density, a codebook, and a critic with each example's own weight."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from score_sde.cli.main import main
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.objectives.adversarial import hinge
from score_sde.rng import example_keys, positions, root_key
from score_sde.systems import FirstStage
from score_sde.training.step import View
from score_sde.typing import sum_per_example
from tests.golden_files import load, quick_jit, relative_error
from tests.systems.autoencoding import vae_config


def config(**changes):
    own = {
        "system__name": "autoencoder", "network__name": "convolutional", "network__nf": 4, "network__ch_mult": (1, 1),
        "network__hidden": (400,), "vae__latent": (4, 4, 2), "vae__decoder_variance": "constant_scalar",
    }  # fmt: skip
    return vae_config(**own | changes)


get_config = config
CRITIC = {"autoencoder__critic_weight": 0.5, "autoencoder__critic_nf": 4, "autoencoder__critic_levels": 1}


def moved(params):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    return jax.tree.unflatten(structure, [p + 0.2 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys)])


@pytest.fixture(scope="module")
def judged():
    """With a codebook and a critic from update 3 on: the system, parameters, four examples and their losses."""
    changes = {"autoencoder__regular": "vq", "autoencoder__codes": 5, "autoencoder__critic_start": 3}
    system = build(config(**CRITIC | changes)).system
    assert isinstance(system, FirstStage)
    params = moved(system.init(root_key(0), {}))
    given = example_keys(root_key(1), positions(0, 4)), jax.random.uniform(jax.random.key(2), (4, 8, 8, 1))
    losses = lambda params, step, keys, x: system.losses(params, View(step, {}, {}), keys, x, {}, jnp.zeros(4))
    return system, params, given, quick_jit(losses)


def test_an_examples_losses_are_its_own_and_the_critic_is_switched_on(judged):
    """Bitwise of one batch size, the adaptive weight among them."""
    _, params, (keys, x), losses = judged
    loss, terms = losses(params, jnp.int32(3), keys, x)
    other = jnp.arange(3, -1, -1)
    turned, _ = losses(params, jnp.int32(3), keys[other], x[other])
    np.testing.assert_allclose(loss[other], turned, rtol=1e-5)
    names = ("reconstruction", "regular", "critic", "generator")
    np.testing.assert_allclose(loss, sum(terms[name] for name in names), rtol=1e-5)
    assert (terms["critic"] > 0).all() and np.any(terms["generator"])
    before = losses(params, jnp.int32(2), keys, x)[1]
    assert not np.any(before["critic"]) and not np.any(before["generator"])


def test_every_part_meets_its_own_terms_and_the_weight_is_of_the_last_layer(judged):
    """The weight against gradients of one example's losses in the decoder's last kernel, by whole programs."""
    system, params, (keys, x), losses = judged

    def mean(params, name):
        view = View(jnp.int32(3), {}, {})
        return system.losses(params, view, keys, x, {}, jnp.zeros(4))[1][name].mean()

    critic, generator, regular = quick_jit(
        lambda p: [jax.grad(mean)(p, name) for name in ("critic", "generator", "regular")]
    )(params)
    zero = lambda tree: not any(np.any(leaf) for leaf in jax.tree.leaves(tree))
    assert zero([critic[part] for part in ("encoder", "decoder", "codebook")]) and not zero(critic["critic"])
    assert zero(generator["critic"]) and not zero(generator["decoder"])
    assert not zero(regular["codebook"]) and not zero(regular["encoder"]) and zero(regular["decoder"])

    def one(kernel, term, i):
        mean = {**params["decoder"]["mean"], "kernel": kernel}
        own = {**params, "decoder": {**params["decoder"], "mean": mean}}
        decoded = system.decode(own, system.encode(own, x)[0])
        whole = {"nll": -system.density(x, decoded), "fooled": -system._logits(own["critic"], decoded[0]).mean((1, 2))}
        return whole[term][i]

    kernel = params["decoder"]["mean"]["kernel"]
    grad = quick_jit(lambda i: [jnp.linalg.norm(jax.grad(one)(kernel, term, i)) for term in ("nll", "fooled")])
    terms = losses(params, jnp.int32(3), keys, x)[1]
    for i in range(4):
        nll, fooled = grad(i)
        expected = 0.5 * nll / (fooled + 1e-4) * one(kernel, "fooled", i)
        np.testing.assert_allclose(terms["generator"][i], expected, rtol=1e-3)
    decoded = system.decode(params, system.encode(params, x)[0])
    patches = hinge(system._logits(params["critic"], x), system._logits(params["critic"], decoded[0]))
    np.testing.assert_allclose(terms["critic"], patches.mean((1, 2)), rtol=1e-4)


def test_latents_are_those_of_the_published_code_and_the_density_is_laplaces():
    """Log variances within -30 and 20; KL and one draw of recorded parameters."""
    g = {k[4:]: jnp.asarray(v, jnp.float32) for k, v in load("latent", "systems").items() if k.startswith("kl__")}
    system = build(config()).system
    assert isinstance(system, FirstStage)

    params = system.init(root_key(0), {})
    raised = {**params["encoder"], "log_variance": jax.tree.map(lambda p: p + 50.0, params["encoder"]["log_variance"])}
    x = jax.random.uniform(jax.random.key(2), (2, 8, 8, 1))
    assert float(system.encode({**params, "encoder": raised}, x)[1].max()) == 20.0
    mean, log_variance = g["parameters"][:, :2], jnp.clip(g["parameters"][:, 2:], -30.0, 20.0)
    np.testing.assert_array_equal(log_variance, g["logvar"])
    found = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum((1, 2, 3))
    assert relative_error(found, g["kl"]) < 1e-5
    decoded = (x + 0.3, jnp.full((1, 1, 1, 1), -0.4))
    expected = stats.laplace(loc=0.3, scale=np.exp(-0.4)).logpdf(0.0) * 64
    np.testing.assert_allclose(system.density(x, decoded), np.full(2, expected), rtol=1e-5)


def test_a_critics_optimizer_starts_when_it_is_switched_on():
    optimizers = build(config(**CRITIC, autoencoder__critic_start=3)).optimizers
    assert {part: own.start for part, own in optimizers.items()} == {"encoder": 0, "decoder": 0, "critic": 3}


def test_the_weighted_bound_is_of_laplaces_density_too(judged):
    """Against scipy's densities; over two opposite draws, by which both are exact, its mean is the bound's."""
    system = build(config()).system
    assert isinstance(system, FirstStage)
    params = moved(system.init(root_key(0), {}))
    keys, x = judged[2]
    eps = jnp.where(jax.random.bernoulli(jax.random.key(3), 0.5, (4, 4, 4, 2)), 1.0, -1.0)

    def ratio(noise):
        found = system.log_ratio(params, x, noise)
        return found, system.encode(params, x), sum(map(sum_per_example, system.evidence(params, x, noise)))

    (one, law, bound), (other, _, too) = map(quick_jit(ratio), (eps, -eps))
    mean, std = np.asarray(law[0]), np.exp(0.5 * np.asarray(law[1]))
    z = mean + std * np.asarray(eps)
    decoded, s = map(np.asarray, system.decode(params, jnp.asarray(z)))
    densities = stats.laplace.logpdf(x, decoded, np.exp(s)), stats.norm.logpdf(z), -stats.norm.logpdf(z, mean, std)
    expected = sum(density.sum((1, 2, 3)) for density in densities)
    np.testing.assert_allclose(one, expected, rtol=1e-4)
    np.testing.assert_allclose(one + other, -(bound + too), rtol=1e-4)
    many = example_keys(root_key(3), positions(0, 256))
    whole, weighted = quick_jit(
        lambda k, x: (
            system.bound(params, k, x, {})[0],
            [system.importance_weighted(params, k, x, {}, samples=n) for n in (1, 16)],
        )
    )(many, jnp.repeat(x[:1], 256, axis=0))
    assert abs(weighted[0].mean() - whole.mean()) < 4 * (weighted[0].std() + whole.std()) / 16
    assert weighted[1].mean() < whole.mean()
    with pytest.raises(UsageError, match="a codebook's latents have no density"):
        judged[0].importance_weighted(judged[1], keys, x, {}, samples=2)


def test_by_command_and_then_in_its_space(tmp_path, capsys):
    """Trained with a codebook and a critic, its error told; a score of its latents draws, and has no bound."""
    line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "coder"), "--config.training.num_steps=4"]
    line += ["--config.autoencoder.regular=vq", "--config.autoencoder.critic_weight=0.5"]
    line += ["--config.autoencoder.critic_nf=4", "--config.autoencoder.critic_levels=1"]
    assert main(line) == 0, capsys.readouterr().err
    assert "reconstructions of 297 examples (held_out): off by" in capsys.readouterr().out
    found = json.loads((tmp_path / "coder" / "evaluation" / "reconstruction_00000004.json").read_text())
    assert 0 < found["mean_absolute"] < found["root_mean_square"] < 256
    assert main([*line, "--mode=sample"]) == 2
    assert "have no law to be drawn by: train a run of system.name='latent'" in capsys.readouterr().err
    assert main([*line, "--mode=likelihood"]) == 2
    assert "autoencoder.regular='vq' has a codebook's latents, which have no density" in capsys.readouterr().err
    score = str(__file__).replace("test_first_stage", "test_latent_runs")
    line = ["launch.py", "--config", score, "--workdir", str(tmp_path / "score"), "--config.training.num_steps=2"]
    line += ["--config.latent.joint=False", "--config.latent.hidden=(400,)", "--config.latent.prior_updates=0"]
    line += ["--config.vae.latent=(20,)", f"--config.frozen.autoencoder={tmp_path / 'coder'}"]
    assert main(line) == 0, capsys.readouterr().err
    assert main([*line, "--mode=sample"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main([*line, "--mode=likelihood", "--config.likelihood.num_images=8"]) == 2
    assert "a codebook's latents have no density" in capsys.readouterr().err
    assert not (tmp_path / "score" / "likelihood").exists()


REFUSED = [
    ({"vae__decoder_variance": "scalar"}, r"vae\.decoder_variance='scalar' has no meaning for system\.name='autoenc"),
    ({"vae__warmup": 3}, r"vae\.warmup=3 has no meaning for system\.name='autoencoder'"),
    ({"logging__samples_every": 4}, r"logging\.samples_every=4 has no effect on system\.name='autoencoder'"),
    ({"autoencoder__codes": 5}, r"autoencoder\.codes=5 has no effect on autoencoder\.regular='kl'"),
    ({"autoencoder__critic_start": 5}, r"autoencoder\.critic_start=5 has no effect on .*critic_weight=0\.0"),
    (
        {"network__name": "mlp", "vae__latent": (3,), "autoencoder__critic_weight": 1.0},
        r"critic_weight=1\.0 asks for a critic, which judges pictures, and network\.name='mlp' is of vectors",
    ),
    (CRITIC | {"autoencoder__critic_nf": 1}, r"critic_nf=1 makes a layer of 2 channels, .* = 0 groups: use a power"),
    (CRITIC | {"autoencoder__critic_nf": 36, "autoencoder__critic_levels": 2}, r"critic_nf=36 makes a .* 144 channels"),
    (
        {"system__name": "vae", "autoencoder__beta": 1.0},
        r"autoencoder\.beta=1\.0 has no meaning for system\.name=",
    ),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_it_has_not_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        build(config(**changes))
