"""How many held-out examples a classifier knows, by noise level."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.data.sources import gather
from score_sde.devices.arrays import collect
from score_sde.experiment.experiment import Experiment
from score_sde.rng import Purpose, example_keys, positions, root_key
from score_sde.storage.workdir import Workdir, write_json
from score_sde.systems import Classifier
from score_sde.systems.base import Params
from score_sde.training.step import View

QUANTILES = (0.0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 0.9999)
"""Of the law of t: its ends, and the middles of the log's bins."""
BATCH = 256


def accuracy(experiment: Experiment, params: Params) -> list[dict[str, float]]:
    """Of all held-out examples, or the training ones where there are none, at each of QUANTILES, least noise first.

    A row has the quantile, sigma / alpha, the accuracy and E log p_t(y | x_t) in nats, which is the loss's negative.
    """
    data, system = experiment.data, experiment.system
    assert isinstance(system, Classifier)
    source, told = (data.held_out, data.held_out_condition) if len(data.held_out) else (data.train, data.condition)
    root = jax.random.fold_in(root_key(experiment.config.seed), Purpose.EVALUATION)

    @jax.jit
    def measured(params: Any, u: Any, x: Any, position: Any, condition: Any) -> Any:
        keys = example_keys(root, position)
        x0, view = experiment.kind.encode(keys, x, training=False), View(jnp.int32(0), {}, {})
        us = jnp.full(len(x), u)
        loss, terms = experiment.system.losses(params, view, keys, x0, condition, us, training=False)
        return loss, terms["accuracy"]

    rows = []
    for u in QUANTILES:
        losses, right = [], []
        for first in range(0, len(source), BATCH):
            numbers = np.arange(first, min(first + BATCH, len(source)))
            condition = {name: gather(values, numbers) for name, values in experiment.chosen(told).items()}
            given = gather(source, numbers), positions(first, len(numbers)), condition
            loss, known = collect(measured(params, jnp.float32(u), *given))
            losses.append(loss)
            right.append(known)
        t = system.times(experiment.sde, jnp.full(1, u))[0]
        level = float(jnp.exp(-0.5 * experiment.sde.log_snr(t))[0])
        mean = lambda parts: float(np.mean(np.concatenate(parts), dtype=np.float64))
        rows.append({"quantile": u, "level": level, "accuracy": mean(right), "log_prob": -mean(losses)})
    return rows


def save_accuracy(experiment: Experiment, params: Params, workdir: Workdir, step: int) -> str:
    """`accuracy` as evaluation/accuracy_<step>.json of the run, and in words; all processes call it."""
    rows = accuracy(experiment, params)
    path = workdir.path / "evaluation" / f"accuracy_{step:08d}.json"
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, rows)
    lines = [f"{row['level']:14.4g} {row['accuracy']:10.3f} {row['log_prob']:+10.3f}" for row in rows]
    head = f"{'sigma / alpha':>14} {'accuracy':>10} {'log p(y|x)':>10}"
    return "\n".join([f"held-out accuracy by noise level, in {path}:", head, *lines])
