"""What an autoencoder loses: the floor of every figure of samples that its decoder makes."""

from typing import Any

import jax
import numpy as np

from score_sde.data.sources import gather
from score_sde.devices.arrays import collect
from score_sde.experiment.experiment import Experiment
from score_sde.rng import Purpose, example_keys, positions, root_key
from score_sde.storage.workdir import Workdir, write_json
from score_sde.systems import VAE
from score_sde.systems.base import Params

BATCH = 256
MOST = 10_000
"""Examples that are reconstructed at most."""


def errors(experiment: Experiment, params: Params) -> dict[str, Any]:
    """Mean absolute error and root mean square of D(E(x)) - x in the data's units, of held-out examples.

    Of those to train on where none is held out; E(x) is the mean of q(z | x).
    """
    data, system, kind = experiment.data, experiment.system, experiment.kind
    assert isinstance(system, VAE)
    split = "held_out" if len(data.held_out) else "train"
    source = getattr(data, split)
    root = jax.random.fold_in(root_key(experiment.config.seed), Purpose.EVALUATION)

    @jax.jit
    def reconstructed(params: Any, stored: Any, position: Any) -> Any:
        x = kind.encode(example_keys(root, position), stored, training=False)
        return kind.decode(system.reconstruct(params, x))

    count, off = min(MOST, len(source)), []
    for first in range(0, count, BATCH):
        x = gather(source, np.arange(first, min(first + BATCH, count)))
        found = collect(reconstructed(params, x, positions(first, len(x))))
        off.append(np.asarray(found, np.float64) - np.asarray(x, np.float64))
    whole = np.concatenate(off)
    sizes = {"mean_absolute": float(np.abs(whole).mean()), "root_mean_square": float(np.sqrt((whole**2).mean()))}
    return {"split": split, "examples": count, **sizes}


def save_errors(experiment: Experiment, params: Params, workdir: Workdir, step: int) -> str:
    """`errors` as evaluation/reconstruction_<step>.json of the run, and in words; all processes call it."""
    found = errors(experiment, params)
    path = workdir.path / "evaluation" / f"reconstruction_{step:08d}.json"
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    off = f"off by {found['mean_absolute']:.4g}, root mean square {found['root_mean_square']:.4g}"
    return f"reconstructions of {found['examples']} examples ({found['split']}): {off}, in {path}"
