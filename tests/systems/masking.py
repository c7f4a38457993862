"""A Markov chain's own denoiser in closed form, and the tiny run of tokens that tests share."""

import functools
import pathlib
import tempfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.markov import LENGTH, TRANSITIONS, chains, stationary
from score_sde.systems import Masked
from tests.tiny import tiny_config

V = len(TRANSITIONS)


class Chain(nn.Module):
    """log P(x_i | the tokens of x that are not masked), by messages from both sides: x [B, L] -> [B, L, V]."""

    def __call__(self, x, label, sigma=None, dropout_keys=None):
        seen = jnp.where((x == V)[..., None], 1.0, jax.nn.one_hot(x, V))  # what a token says of itself
        steps, first = jnp.asarray(TRANSITIONS, jnp.float32), jnp.asarray(stationary(), jnp.float32)
        length = x.shape[1]
        ahead = [jnp.broadcast_to(first, (len(x), V))]
        behind = [jnp.ones((len(x), V))]
        for i in range(length - 1):
            ahead.append((ahead[-1] * seen[:, i]) @ steps)
            behind.append((behind[-1] * seen[:, length - 1 - i]) @ steps.T)
        found = jnp.stack(ahead, 1) * jnp.stack(behind[::-1], 1)
        return jnp.log(found / found.sum(-1, keepdims=True))


def exact(length: int = LENGTH, **fields) -> Masked:
    """A system whose network is the chain's own denoiser, of no parameters."""
    return Masked((length,), V, Chain(), **fields)


PARAMS = {"denoiser": {}}


@functools.cache
def file() -> str:
    """Few examples of the chain, on the disk."""
    path = pathlib.Path(tempfile.mkdtemp()) / "markov.npz"
    np.savez(path, train=chains(200, 0), test=chains(40, 1))
    return str(path)


def masked_config(**changes):
    """Changes are section__field=value."""
    own = {
        "system__name": "masked", "network__name": "transformer", "network__nf": 16, "network__head_channels": 8,
        "data__name": "array", "data__path": file(), "data__random_flip": False,
        "data__uniform_dequantization": False, "sampling__solver": "unmasking",
    }  # fmt: skip
    return tiny_config(**own | changes)


get_config = masked_config
