"""Updates of latent spaces against what they are beside: the lecture's VAE in torch, and a score without encoding.

    python3 -m venv torch && torch/bin/pip install torch numpy
    python benchmarks/latents.py --torch torch/bin/python --json benchmarks/results/cpu_2core_latents.json

vae: configs/mnist_vae.py's update, a hundred pictures, ten updates a call, beside the same network in torch's eager
  mode: the same loss, dequantisation and Adam, and in torch_averaged_ms also the average of the parameters, which ours
  keeps and torch_ms is spared. Each is a process of its own, and they take turns. Left out without --torch.
latent: the update of configs/mnist_latent.py, with the encoding in it, beside the update of the same score on latents
  of that shape that are given. Both in one process, call by call in turn.
Times are of one update: of the best of --rounds (of calls), and ratios of these; ratio_median is of rounds (calls).
Exit codes: 0 done, 2 bad usage.
"""

import argparse
import copy
import json
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from benchmarks.sides import Side
from score_sde.config import Config, load
from score_sde.errors import UsageError, require

STEPS = 10
"""Updates in a call."""
CALLS = 2
"""Calls in a round of the VAE's update."""
OURS = """
import sys
from benchmarks.latents import serve
serve(sys.argv[1])
"""
THEIRS = """
import json, math, sys, time
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
averaged, batch, updates = sys.argv[2] == "averaged", int(sys.argv[3]), int(sys.argv[4])

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.down, self.picture, self.scalar = nn.Linear(20, 400), nn.Linear(400, 784), nn.Linear(400, 1)

    def forward(self, x):
        h = torch.relu(self.up(x))
        mean, log_variance = self.mean(h), self.log_variance(h)
        h = torch.relu(self.down(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)))
        s = self.scalar(h)
        nll = 0.5 * (math.log(2 * math.pi) + s + (x - self.picture(h)) ** 2 * torch.exp(-s)).sum(1)
        return (nll + 0.5 * (log_variance.exp() - 1 - log_variance + mean**2).sum(1)).mean()

network = VAE()
params = list(network.parameters())
averages = [p.detach().clone() for p in params]
optimizer = torch.optim.Adam(params, lr=1e-3)
images = torch.randint(0, 256, (10, batch, 784), dtype=torch.uint8)

def update(i):
    x = (images[i % 10].float() + torch.rand(batch, 784)) / 256
    optimizer.zero_grad()
    network(x).backward()
    optimizer.step()
    if averaged:
        with torch.no_grad():
            torch._foreach_lerp_(averages, params, 0.001)

for i in range(20):
    update(i)
print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    since = time.perf_counter()
    for i in range(updates):
        update(i)
    print(json.dumps({"seconds": time.perf_counter() - since}), flush=True)
"""


def main(argv: list[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    p.add_argument("--torch", help="a Python that has torch")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (%(default)s)")
    p.add_argument("--rounds", type=int, default=30, help="rounds of the VAE, calls of the score (%(default)s)")
    p.add_argument("--vae", default="mnist_vae", help="the VAE's config, for smaller hidden layers and batches")
    p.add_argument("--autoencoder", default="mnist_autoencoder", help="the config of the frozen autoencoder")
    p.add_argument("--latent", default="mnist_latent", help="the config of the score of its latents")
    p.add_argument("--json", type=pathlib.Path, help="write the figures here")
    p.add_argument("--overwrite", action="store_true", help="replace an existing --json file")
    arguments = p.parse_args(argv[1:])
    try:
        common.check_json(arguments)
        require(arguments.rounds >= 1, f"--rounds {arguments.rounds} must be at least 1")
        config = load(arguments.latent)
        rows = [latent(load(arguments.autoencoder), config, arguments.rounds)]
        tables = {"vae": [vae(arguments)]} if arguments.torch else {}
    except UsageError as error:
        print(f"latents: {error}", file=sys.stderr)
        return 2
    common.report("latent spaces", argv[0], argv[1:], config, rows, arguments.json, **tables)
    return 0


def vae(arguments: argparse.Namespace) -> common.Row:
    """Ours and theirs in turn, by rounds of CALLS calls."""
    batch = load(arguments.vae).training.batch_size
    own = {**os.environ, "PYTHONPATH": str(common.ROOT)}
    their = [arguments.torch, "-c", THEIRS, str(arguments.threads)]
    sides = {"ours": Side([sys.executable, "-c", OURS, arguments.vae], own)}
    for name, word in (("torch", "plain"), ("torch_averaged", "averaged")):
        sides[name] = Side([*their, word, str(batch), str(CALLS * STEPS)], dict(os.environ))
    rounds = [{name: side.round()["seconds"] for name, side in sides.items()} for _ in range(arguments.rounds)]
    for side in sides.values():
        side.close()
    times = {name: [1e3 * found[name] / (CALLS * STEPS) for found in rounds] for name in sides}
    row: common.Row = {"batch": batch, "steps_per_call": STEPS, "torch": sides["torch"].ready["torch"]}
    row |= {f"{name}_ms": min(found) for name, found in times.items()}
    for name in ("torch", "torch_averaged"):
        row[name.replace("torch", "ratio")] = min(times["ours"]) / min(times[name])
        ratios = [mine / other for mine, other in zip(times["ours"], times[name])]
        row[name.replace("torch", "ratio") + "_median"] = statistics.median(ratios)
    return row


def serve(name: str) -> None:
    """The side of ours: CALLS calls for every line that is read."""
    step = Updates(common.build(load(name)))
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": sum(step() for _ in range(CALLS))}), flush=True)


def latent(autoencoder: Config, config: Config, calls: int) -> common.Row:
    """A score's update with the encoding in it, and without."""
    coder = common.build(autoencoder)

    from score_sde.config.validation import validate
    from score_sde.experiment.building import assemble
    from score_sde.experiment.factories import SYSTEMS
    from score_sde.experiment.frozen import Frozen, Record
    from score_sde.systems.latent import AUTOENCODER

    validate(config)
    frozen = {AUTOENCODER: Frozen(Record("", 0, "", "", 1.0), coder, coder.init_params())}
    built = assemble(config, coder.spec, SYSTEMS["latent"], frozen)
    built.__dict__["data"] = coder.data
    whole, bare = Updates(built), Updates(given(config, tuple(autoencoder.vae.latent)))
    times = [(whole(), bare()) for _ in range(calls)]
    best = [1e3 * min(found) / STEPS for found in zip(*times)]
    row: common.Row = {"batch": config.training.batch_size, "steps_per_call": STEPS}
    row |= {"latent_ms": best[0], "score_ms": best[1], "ratio": best[0] / best[1]}
    return row | {"ratio_median": statistics.median(one / other for one, other in times)}


def given(config: Config, shape: tuple[int, ...]) -> Any:
    """The experiment of the same score on real data of the latents' shape."""
    import numpy as np

    from score_sde import experiment

    bare = copy.deepcopy(config)
    bare.system.name, bare.frozen.autoencoder = "score", ""
    channels = shape[-1]
    bare.data.update(shape=shape, mean=(0.0,) * channels, std=(1.0,) * channels, uniform_dequantization=False)
    with tempfile.TemporaryDirectory() as folder:
        bare.data.path = f"{folder}/latents.npz"
        np.savez(bare.data.path, train=np.random.RandomState(0).normal(size=(common.IMAGES, *shape)).astype(np.float32))
        built = experiment.build(bare)
        _ = built.data  # read while they are there
    return built


class Updates:
    """The training step that an experiment compiles, STEPS updates a call, its batches already on the device."""

    def __init__(self, experiment: Any) -> None:
        import jax

        size = experiment.config.training.batch_size
        program = common.training_program(experiment)
        self._frozen, self._state = jax.device_put(experiment.frozen_params), experiment.initial_state()
        self._batches = jax.device_put(experiment.stream.batches(0, size, STEPS))
        self._program = common.compile_program(program, self._state, self._frozen, self._batches).call
        for _ in range(2):
            self()

    def __call__(self) -> float:
        """The seconds of one more call."""
        result = common.timed(lambda: self._program(self._state, self._frozen, self._batches))
        self._state, _ = result.value
        return result.seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv))
