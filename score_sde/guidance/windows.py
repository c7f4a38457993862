"""The score of a signal longer than the network was trained on, of overlapping windows.

At every evaluation each window's score is taken, and where two overlap they are cross-faded: the score of a window's
middle, which sees most around it, counts most. All windows are parts of one signal, so its noise, and what a solver
makes of it, is one: a function of (seed, k). Exact where what is further away than the overlap says nothing. Source of
joining at every step: Bar-Tal et al. 2023 (MultiDiffusion, arXiv 2302.08113).
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from score_sde.errors import require
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of `size` along axis 1 of [B, length, ...], each half a window behind the one before.

    Raises UsageError for a length that they do not make.
    """

    size: int
    length: int

    def __post_init__(self) -> None:
        require(
            self.size % 2 == 0 and self.length % (self.size // 2) == 0 and self.length >= self.size,
            f"a signal of {self.length} is not made of windows of {self.size} that overlap by half: give a multiple of"
            " half of an even window, not below it",
        )

    @property
    def count(self) -> int:
        """How many there are."""
        return 2 * self.length // self.size - 1

    @property
    def weights(self) -> Array:
        """Of every entry of every window [count, size], 1 in all at a place, and 1 towards the signal's ends.

        r^3 (10 - 15 r + 6 r^2) on the way up, r from 0 to 1: hardly anything where a window sees little around.
        """
        r = (jnp.arange(self.size // 2) + 0.5) / (self.size // 2)
        rise = r**3 * (10 - 15 * r + 6 * r**2)
        middle = jnp.broadcast_to(jnp.concatenate([rise, 1 - rise])[None], (self.count, self.size))
        half = self.size // 2
        return middle.at[0, :half].set(1.0).at[-1, half:].set(1.0)

    def split(self, x: Array, share: int = 1) -> Array:
        """x [B, length / share, ...] -> [B count, size / share, ...]."""
        half = self.size // (2 * share)
        halves = x.reshape(len(x), -1, half, *x.shape[2:])
        both = jnp.concatenate([halves[:, :-1], halves[:, 1:]], axis=2)
        return both.reshape(-1, 2 * half, *x.shape[2:])

    def join(self, y: Array) -> Array:
        """y [B count, size, ...] -> [B, length, ...], the weighted sum at every place."""
        half = self.size // 2
        y = y.reshape(-1, self.count, self.size, *y.shape[2:])
        y = y * self.weights.astype(y.dtype).reshape(1, self.count, self.size, *(1,) * (y.ndim - 3))
        rest = [(0, 0)] * (y.ndim - 2)
        first = jnp.pad(y[:, :, :half], [(0, 0), (0, 1), *rest])
        second = jnp.pad(y[:, :, half:], [(0, 0), (1, 0), *rest])
        return (first + second).reshape(len(y), self.length, *y.shape[3:])

    def score(self, score: ScoreFn) -> ScoreFn:
        """The score of whole signals [B, length, ...], of that of windows."""

        def whole(x: Array, t: Array) -> Array:
            t = jnp.broadcast_to(jnp.asarray(t), x.shape[:1])
            return self.join(score(self.split(x), jnp.repeat(t, self.count)))

        return whole

    def condition(self, given: Mapping[str, Array], along: Mapping[str, int]) -> dict[str, Array]:
        """The condition [B count, ...] of the windows; along: of what changes in time, samples of an entry, by name."""
        return {
            name: self.split(jnp.asarray(value), along[name])
            if name in along
            else jnp.repeat(jnp.asarray(value), self.count, axis=0)
            for name, value in given.items()
        }
