"""WaveGrad's own sampling arithmetic, which clamps the waveform to [-1, 1] after every step.

Source: Chen et al. 2021 (WaveGrad), algorithm 2, and the behaviour of its independent ports, whose clamp biases all
that comes after it: kept here alone, to replay recorded runs.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.typing import Array

Predict = Callable[[Array, Array], Array]
"""(x [B, ...], sqrt(alpha_bar) [B]) -> the noise [B, ...]."""


def inference(predict: Predict, betas: Sequence[float], x: Array, noise: Callable[[Array], Array]) -> Array:
    """Samples [B, ...] of the chain of betas [N], the least first, from x [B, ...] drawn of N(0, I).

    x <- clamp((x - beta / sqrt(1 - abar) eps) / sqrt(1 - beta) + sigma z), sigma^2 = beta (1 - abar') / (1 - abar),
    abar' of the step below, and the last step without noise. noise: step i, 0 for the first one made, -> z [B, ...].
    """
    beta = np.asarray(betas, np.float64)
    abar = np.cumprod(1 - beta)
    below = np.append(1.0, abar[:-1])
    columns = (np.sqrt(abar), 1 / np.sqrt(1 - beta), beta / np.sqrt(1 - abar), np.sqrt(beta * (1 - below) / (1 - abar)))
    table = jnp.asarray(np.stack(columns, -1)[::-1], x.dtype)

    def body(x: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        i, (level, gain, share, std) = step
        mean = gain * (x - share * predict(x, jnp.broadcast_to(level, x.shape[:1])))
        return jnp.clip(mean + std * noise(i), -1, 1), None

    return jax.lax.scan(body, x, (jnp.arange(len(beta)), table))[0]
