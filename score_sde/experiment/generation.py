"""Many samples from a trained model: batches of one compiled program, sample k a function of (seed, k)."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.data.captions import CAPTION
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.experiment.asking import lent
from score_sde.experiment.degrading import LEVEL
from score_sde.experiment.editing import is_kept, latents
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.kept_grids import KeptGrids
from score_sde.experiment.measuring import NUMBER, Measured, Y
from score_sde.experiment.program import Program
from score_sde.names import IMAGE, PRESENT
from score_sde.progress import Progress
from score_sde.rng import example_keys, positions, root_key
from score_sde.systems.base import Params

NOT_TOLD = (Y, IMAGE, LEVEL, PRESENT)
"""What samples are conditioned on and do not say, as it is large, as they do not a text but in words."""


class Generated(NamedTuple):
    """Samples [N, ...] in the data's units and dtype, their number of network evaluations, conditions, and the time.

    x: pictures are uint8 [N, H, W, C], real data float32. evaluations: the mean of counts, int32 [N]. condition: of
    every sample, by name, such as {"label": int32 [N]}. seconds: of every batch, the first one's with compiling.
    finite: bool [N], False for a sample that was not a finite number before it became bytes.
    """

    x: np.ndarray
    evaluations: float
    counts: np.ndarray
    condition: dict[str, np.ndarray]
    seconds: tuple[float, ...]
    finite: np.ndarray

    @property
    def classes(self) -> np.ndarray | None:
        """By which a picture of them has its rows: their labels, or captions; None without."""
        return self.condition.get("label", self.condition.get(CAPTION))

    @property
    def images(self) -> np.ndarray:
        """x, of pictures."""
        return self.x


class Drawn(NamedTuple):
    """One batch of `Generated`, of the samples first, first + 1, ..."""

    first: int
    x: np.ndarray
    counts: np.ndarray
    condition: dict[str, np.ndarray]
    finite: np.ndarray
    seconds: float

    def up_to(self, count: int) -> "Drawn":
        """The samples of these whose numbers are below the count."""
        arrays = {name: getattr(self, name) for name in ("x", "counts", "condition", "finite")}
        return self._replace(**jax.tree.map(lambda a: a[: count - self.first], arrays))


class Generator:
    """Draws samples by the config's `sampling` section, compiling its program once for a config.

    grids: where optimised grids are kept; None makes one anew at every call. A change of that section is noticed at
    the next call; one that asks for other objects, such as another network, is refused by a UsageError.
    """

    def __init__(self, experiment: Experiment, grids: KeptGrids | None = None) -> None:
        self._experiment, self._config, self._grids = experiment, experiment.config, grids

        def draw(params: Any, seed: jax.Array, condition: Any, times: jax.Array | None, position: jax.Array) -> Any:
            samples = experiment.draw(params, example_keys(root_key(seed), position), condition, times)
            finite = jnp.isfinite(samples.x).all(tuple(range(1, samples.x.ndim)))
            known = experiment.drawing.known(params, condition, samples.x)
            known |= latents(experiment.system, params, condition)
            x = experiment.kind.decode(samples.x)
            if PRESENT in condition:
                x = jnp.where(condition[PRESENT], x, jnp.nan)
            return x, samples.evaluations, finite, known

        self._draw = Program(experiment, "sampling", draw)
        self._times = Program(experiment, "sampling", experiment.times, seeded=True)

    def __call__(self, params: Params, count: int, *, show: bool = True) -> Generated:
        """Samples 0 .. count - 1 of sampling.seed, in batches of sampling.batch_size."""
        found = []
        with Progress("sampling", count, "samples", show=show) as progress:
            for drawn in self.batches(params, count):
                found.append(drawn)
                progress.update(len(drawn.x))
        seconds = tuple(drawn.seconds for drawn in found)
        parts = [(drawn.x, drawn.counts, drawn.condition, drawn.finite) for drawn in found]
        x, counts, condition, finite = jax.tree.map(lambda *parts: np.concatenate(parts), *parts)
        return Generated(x, float(np.mean(counts)), counts, condition, seconds, finite)

    def batches(self, params: Params, count: int, first: int = 0) -> Iterator[Drawn]:
        """Samples first .. count - 1, batch by batch as they are drawn; first: a multiple of sampling.batch_size.

        Raises UsageError, when first asked, for a config that has changed in what it was built of.
        """
        self._experiment.check()
        asked = self._experiment.asked
        if asked is not None:
            asked.check(count)
        size, seed = self._config.sampling.batch_size, np.uint32(self._config.sampling.seed)
        params = replicate({**params, **lent(self._experiment.drawing.parts, self._experiment.frozen)})
        times = self._optimised(params) if self._config.sampling.times == "optimised" else None
        for start in range(first, count, size):
            since = time.perf_counter()
            position = positions(start, size)
            condition = jax.tree.map(np.asarray, self._experiment.conditions(position))
            x, nfe, finite, known = collect(self._draw(params, seed, spread(condition), times, spread(position)))
            text = self._experiment.spec.text
            unsaid = {*NOT_TOLD, *(text.shapes if text else ())}
            told = {name: value for name, value in condition.items() if name not in unsaid and is_kept(name)}
            told |= {CAPTION: text.decode(condition)} if text and text.words else {}
            if isinstance(asked, Measured):
                told[NUMBER] = asked.of_samples(position)[NUMBER]
            told |= known
            whole = Drawn(start, x, np.broadcast_to(nfe, size), told, finite, time.perf_counter() - since)
            yield whole.up_to(count)

    def _optimised(self, params: Params) -> Any:
        """The grid for all batches, which takes a pilot run where it is not kept."""
        find = lambda: collect(self._times(params))
        return find() if self._grids is None else self._grids(params, dict(self._times.settings()), find)
