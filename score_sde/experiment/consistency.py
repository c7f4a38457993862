"""What the config's section `consistency` stands for: a consistency model, and the times at which it draws."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from score_sde.config import Config
from score_sde.experiment import objects
from score_sde.experiment.teaching import check_alike, fields_of, read, taught
from score_sde.objectives.consistency import PseudoHuber, l1, l2
from score_sde.objectives.denoising import Reduction
from score_sde.objectives.levels import Levels, LogNormalNeighbours, Neighbours, Share
from score_sde.sde import SDE
from score_sde.solvers.few_step import euler_step, heun_step, renoised
from score_sde.solvers.sampling import Samples
from score_sde.systems import Condition, Score
from score_sde.systems.base import Params
from score_sde.systems.consistency import Consistency, Continuous, Paired, Step, TrigFlow
from score_sde.systems.teacher import PART
from score_sde.typing import Array, Keys

ALIKE = ("sde", "network", "degradation", "parametrization.label", "parametrization.sigma_data")
"""What a teacher has in common with its student, which starts at its weights."""
PAIRS: dict[str, Step] = {"data": euler_step, "euler": euler_step, "heun": heun_step}
LEVELS: dict[str, Callable[[Config], Levels]] = {
    "karras": lambda c: Neighbours(c.training.t_min),
    "log_normal": lambda c: LogNormalNeighbours(c.training.t_min, p_mean=c.training.p_mean, p_std=c.training.p_std),
    "share": lambda c: Share(objects.TIMES[c.training.times](c), c.training.t_min, c.consistency.expansion),
}
METRICS: dict[str, Callable[[Config], Reduction]] = {
    "l1": lambda c: l1,
    "l2": lambda c: l2,
    "pseudo_huber": lambda c: PseudoHuber(c.consistency.huber),
}


def consistency(config: Config, own: Score, frozen: Mapping[str, Any]) -> Consistency:
    """The consistency model of a score system's network."""
    c = config.consistency
    given = None if c.pair == "data" else read("consistency", frozen)
    if given:
        check_alike(config, given, ALIKE)
    fields = fields_of(own) | {"sampler": Renoising(config), "teacher": taught(config, given) if given else None}
    fields["frozen"] = () if c.pair == "data" else (PART,)
    weighting = objects.WEIGHTINGS[config.training.weighting](config)
    if c.levels != "limit":
        return Paired(
            **fields,
            step=PAIRS[c.pair],
            levels=LEVELS[c.levels](config),
            curriculum=objects.curriculum(config),
            metric=METRICS[c.metric](config),
            weighting=weighting,
            over_gap=c.over_gap,
            target="" if c.target == "self" else c.target,
        )
    times = objects.TIMES[config.training.times](config)
    if c.metric == "l2":
        return Continuous(**fields, times=times, weighting=weighting)
    scale = config.parametrization.sigma_data
    return TrigFlow(**fields, times=times, sigma_data=scale, warmup=c.tangent_warmup)


@dataclasses.dataclass(frozen=True)
class Renoising:
    """How the config's `sampling` section draws a consistency model's samples."""

    config: Config

    def __call__(self, system: Score, params: Params, keys: Keys, condition: Condition) -> Samples:
        """Samples [B, ...] in the network's range."""
        sde, f = system.sde(params), system.denoiser(params, condition)
        return renoised(keys, f, sde, system.shape, times=self.times(sde), t_min=self.config.training.t_min)

    def times(self, sde: SDE) -> Array:
        """Of the evaluations [N]: T and the config's nodes, or the N upper ones of N + 1 Karras levels."""
        nodes, count = self.config.sampling.nodes, self.config.sampling.num_steps
        if nodes:
            return jnp.asarray((sde.T, *nodes), float)
        levels = Neighbours(self.config.training.t_min)
        return levels.time(sde, jnp.arange(count, 0, -1, dtype=float), jnp.asarray(count, float))
