r"""Whether pictures of two digits that are asked in words show both, in their places: of pairs that were held out.

    python launch.py --config configs/pairs_text.py
    python benchmarks/composition.py runs/pairs_text --min 0.8

A convolutional classifier of one digit is trained on both halves of the 6,000 true pictures (twelve epochs of
Adam, from --seed); a picture counts where it finds the asked digit in the left half and in the right half. Shares, with
their standard errors:
  held_out, trained    of true pictures of the held-out pairs and of the trained pairs: what is to be expected at best
  composed, composed_ratio      of samples of the held-out pairs by caption, and that over held_out
  recalled             of samples of trained pairs by caption
  without              of samples without a caption against the same held-out pairs: by chance
  digits               of the left and of the right digits of held-out pairs alone
Exit codes: 0 done, 1 the ratio is below --min, 2 bad usage.
"""

import argparse
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from score_sde.data.digit_pairs import caption, digit_pairs
from score_sde.data.sources import gather
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.frozen import experiment_of
from score_sde.experiment.generation import Generator
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir

EPOCHS, BATCH = 12, 100


class Classifier(nn.Module):
    """uint8 [B, 8, 8, 1] -> logits [B, 10]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.relu(nn.Conv(32, (3, 3))(x.astype(jnp.float32) / 255))
        h = nn.relu(nn.Conv(64, (3, 3), strides=2)(h))
        return nn.Dense(10)(nn.relu(nn.Dense(128)(h.reshape(len(h), -1))))


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run's directory")
    parser.add_argument("--count", type=int, default=500, help="samples of each kind (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="guidance.scale of samples by caption (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the classifier and of the samples (%(default)s)")
    parser.add_argument("--min", type=float, default=0.0, help="exit with 1 if the ratio is smaller (%(default)s)")
    arguments = parser.parse_args(argv[1:])
    try:
        figures = measure(arguments.run, arguments.count, arguments.scale, arguments.seed)
    except UsageError as error:
        print(f"composition: {error}", file=sys.stderr)
        return 2
    print(json.dumps(figures, indent=1))
    return 0 if figures["composed_ratio"] >= arguments.min else 1


def measure(run: str, count: int, scale: float, seed: int) -> dict[str, Any]:
    """The figures of a run."""
    data = digit_pairs()
    x, label = {"held_out": data.held_out, "trained": data.train}, {}
    for name, told in (("held_out", data.held_out_condition), ("trained", data.condition)):
        label[name] = gather(told["label"], np.arange(len(x[name])))
    pairs = {name: np.unique(labels) for name, labels in label.items()}
    known = digits_of(x["trained"], label["trained"], seed)
    found: dict[str, Any] = {name: share(known(x[name]), labels) for name, labels in label.items()}
    draw = sampler(run, seed)
    asked = np.resize(pairs["held_out"], count)
    words = lambda labels: [caption(*divmod(label, 10)) for label in labels.tolist()]
    digits = known(draw(words(asked), scale))
    found["composed"] = share(digits, asked)
    recalled = np.resize(pairs["trained"], count)
    found["recalled"] = share(known(draw(words(recalled), scale)), recalled)
    found["without"] = share(known(draw([""] * count, 1.0)), asked)
    each = digits == np.stack([asked // 10, asked % 10], 1)
    return found | {
        "composed_ratio": found["composed"][0] / found["held_out"][0],
        "digits": each.mean(0).tolist(),
        "guidance": scale,
        "samples": count,
    }


def share(found: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Of pictures in which both digits [N, 2] are those of the label [N], with its standard error."""
    p = float(((found[:, 0] == label // 10) & (found[:, 1] == label % 10)).mean())
    return p, (p * (1 - p) / len(label)) ** 0.5


def digits_of(x: Any, label: np.ndarray, seed: int) -> Callable[[Any], np.ndarray]:
    """(pictures uint8 [N, 8, 16, 1]) -> the digits [N, 2] that a classifier finds, trained on such and their labels."""
    halves = np.concatenate([x[:, :, :8], x[:, :, 8:]])
    digit = np.concatenate([label // 10, label % 10])
    network: Any = Classifier()
    random = np.random.default_rng(seed)
    params = network.init(jax.random.key(seed), halves[:1])
    optimizer = optax.adam(1e-3)

    def epoch(params: Any, state: Any, order: jax.Array) -> tuple[Any, Any]:
        def update(carry: Any, rows: jax.Array) -> tuple[Any, None]:
            params, state = carry
            logits = lambda p: network.apply(p, jnp.asarray(halves)[rows])
            entropy = optax.softmax_cross_entropy_with_integer_labels
            loss = lambda p: entropy(logits(p), jnp.asarray(digit)[rows]).mean()
            changes, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, changes), state), None

        return jax.lax.scan(update, (params, state), order)[0]

    step, state = jax.jit(epoch), optimizer.init(params)
    for _ in range(EPOCHS):
        params, state = step(params, state, random.permutation(len(halves)).reshape(-1, BATCH))
    known = jax.jit(lambda x: jnp.argmax(network.apply(params, x), -1))
    return lambda x: np.stack([np.asarray(known(x[:, :, :8])), np.asarray(known(x[:, :, 8:]))], axis=1)


def sampler(run: str, seed: int) -> Callable[[list[str], float], np.ndarray]:
    """(captions [N], scale) -> samples [N, 8, 16, 1] of the run."""
    experiment = experiment_of("the run", run, build)
    with closing(Checkpoints(Workdir(run).checkpoints)) as checkpoints:
        state, _ = experiment.restore(checkpoints)
    params, text, config = experiment.weights(state), experiment.spec.text, experiment.config
    if text is None or not text.words:
        raise UsageError(f"the run {run} reads no captions: name one of configs/pairs_text.py")
    generator = Generator(experiment)

    def draw(captions: list[str], scale: float) -> np.ndarray:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(captions) + "\n")
            file.flush()
            config.sampling.update(seed=seed, caption=file.name)
            config.guidance.scale = scale
            return generator(params, len(captions)).x

    return draw


if __name__ == "__main__":
    sys.exit(main(sys.argv))
