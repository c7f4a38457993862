"""Samples by the arithmetic of official codes (sampling.reference), and by their noise in law."""

import jax.numpy as jnp

from score_sde.config import Config
from score_sde.config.fields import RUNGE_KUTTA
from score_sde.experiment import objects
from score_sde.rng import Purpose, child, normal
from score_sde.solvers import reference, reference_wavegrad
from score_sde.solvers.sampling import Samples
from score_sde.systems import Condition, Score
from score_sde.systems.base import Params
from score_sde.typing import Keys


def samples(config: Config, system: Score, params: Params, keys: Keys, condition: Condition) -> Samples:
    """Samples [B, ...] of a valid `sampling` section: Song et al.'s, or WaveGrad's of betas."""
    if config.sampling.times == "betas":
        return _of_betas(config, system, params, keys, condition)
    c, sde = config.sampling, config.sde
    chain = objects.CHAINS[sde.name](sde, sde.num_scales if sde.discrete else c.num_steps)
    adaptive = c.solver in RUNGE_KUTTA  # to the official code, one error norm for the batch
    score = chain.score(system.apply(params, condition), continuous=adaptive or not sde.discrete)
    x = chain.sde.prior_sample(child(keys, Purpose.PRIOR), system.shape)
    if adaptive:
        options = {"t_min": c.t_min, "denoise": c.denoise, "rtol": c.rtol, "atol": c.atol}
        return Samples(*reference.probability_flow(chain, score, x, **options))
    step_keys = child(keys, Purpose.STEPS)
    drawn = reference.predictor_corrector(
        chain,
        score,
        x,
        objects.REFERENCE_PREDICTORS[c.solver](c),
        objects.REFERENCE_CORRECTORS[c.corrector](c),
        lambda i, j: normal(child(child(step_keys, i), j), system.shape),
        corrections=c.corrector_steps,
        t_min=c.t_min,
        denoise=c.denoise,
    )
    return Samples(*drawn)


def _of_betas(config: Config, system: Score, params: Params, keys: Keys, condition: Condition) -> Samples:
    """WaveGrad's."""
    betas, network, step_keys = config.sampling.betas, system.apply(params, condition), child(keys, Purpose.STEPS)
    predict = lambda x, level: network(x, level, jnp.sqrt(1 - level**2))
    x = system.sde(params).prior_sample(child(keys, Purpose.PRIOR), system.shape)
    draw = lambda i: normal(child(step_keys, i), system.shape)
    return Samples(reference_wavegrad.inference(predict, betas, x, draw), jnp.int32(len(betas)))
