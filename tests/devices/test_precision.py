"""The precision that products are asked for is read off the lowered programs: on processors no number shows it."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.config import choices
from score_sde.devices.precision import at
from score_sde.experiment import build, objects
from score_sde.experiment.generation import Generator
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.likelihood import grid as grids
from score_sde.loop.heldout import HeldOut
from tests.light import NETWORKS
from tests.tiny import tiny_config

FIELDS = ("training.precision", "sampling.precision", "likelihood.precision", "evaluation.precision")


def precisions(text: str) -> set[str]:
    """Of all products and convolutions of a lowered program; DEFAULT of those that say nothing."""
    found = set()
    for line in text.splitlines():
        if re.search(r"stablehlo\.(dot_general|convolution)\b", line):
            said = re.search(r"precision(?:_config)? = \[(.*?)\]", line)
            found |= set(re.findall(r"DEFAULT|HIGHEST|HIGH", said[1])) if said else {"DEFAULT"}
    return found


def programs(light: bool = True, **changes: Any) -> dict[str, str]:
    """The lowered programs by the section that decides; light: of a shallow network."""
    common = {"parallel__strategy": "sharded", "likelihood__bound_samples": 2, "evaluation__num_images": 16}
    config = tiny_config(**common, **changes)
    with pytest.MonkeyPatch.context() as patch:
        for name, network in NETWORKS.items() if light else ():
            patch.setitem(objects.NETWORKS, name, network)
        experiment = build(config)
    params, batch = experiment.abstract_params(), jax.tree.map(lambda x: x[0], experiment.stream.batches(0, 16, 1))
    stored, position = jnp.zeros((8, 8, 8, 1), jnp.uint8), jnp.zeros((8, 2), jnp.uint32)
    grid = grids.steps(experiment.sde, config.likelihood.t_min, 32)
    state, batches = experiment.abstract_state(), experiment.stream.batches(0, 16, 1)
    draw, estimate, held_out = Generator(experiment)._draw, ImageLikelihood(experiment)._program, HeldOut(experiment)
    return {
        "training": jax.jit(experiment.train_step()).lower(state, {}, batches).as_text(),
        "sampling": draw.trace(params, np.uint32(0), {}, None, position).lower().as_text(),
        "likelihood": estimate.trace(params, stored, position, {}, np.uint32(0), grid).lower().as_text(),
        "evaluation": held_out._loss.lower(params, {}, batch).as_text(),
    }


@pytest.mark.parametrize("precision", choices("training.precision"))
def test_every_program_has_the_precision_of_its_section(precision: str) -> None:
    """By one word with a network of all parts, none of which has a precision of its own."""
    changes = {f"{section}__precision": precision for section in ("training", "sampling", "likelihood", "evaluation")}
    for section, text in programs(light=precision != "highest", **changes).items():
        assert precisions(text) == {precision.upper()}, section


def test_without_a_word_figures_are_exact_and_the_rest_is_fast() -> None:
    found = {section: precisions(text) for section, text in programs().items()}
    assert found == {
        "training": {"DEFAULT"}, "sampling": {"DEFAULT"}, "likelihood": {"HIGHEST"}, "evaluation": {"HIGHEST"}
    }  # fmt: skip


def test_a_gradient_taken_inside_has_it_too() -> None:
    loss = lambda w, x: jnp.sum(jnp.tanh(x @ w))
    x = jnp.ones((2, 2))
    assert precisions(jax.jit(at("high", jax.grad(loss))).lower(x, x).as_text()) == {"HIGH"}
    assert precisions(jax.jit(at("default", jax.grad(loss))).lower(x, x).as_text()) == {"DEFAULT"}


def test_the_words_are_jaxs_own() -> None:
    for name in FIELDS:
        assert choices(name) == ("default", "high", "highest")
        for word in choices(name):
            with jax.default_matmul_precision(word):
                pass
