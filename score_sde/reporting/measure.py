"""What a report measures on a trained model: samples and their distance, paths, the score at every noise level."""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import Config
from score_sde.data.kinds import Kind
from score_sde.data.sources import gather
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.devices.precision import at
from score_sde.evaluation.frechet import Estimate, Moments, frechet
from score_sde.evaluation.grain import grainy
from score_sde.evaluation.neighbours import flat, neighbour_figures, reading
from score_sde.evaluation.spectrum import Spectrum, spectrum
from score_sde.experiment import Experiment, objects
from score_sde.experiment.generation import Generator
from score_sde.experiment.kept_grids import KeptGrids
from score_sde.names import PRESENT
from score_sde.objectives.denoising import mean, perturb
from score_sde.objectives.variational import prior_term
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.subspace import Subspace, within
from score_sde.sde import SDE, denoiser
from score_sde.solvers import AdaptiveSolver, grids
from score_sde.solvers.sampling import trajectory
from score_sde.storage.images import as_images, shown
from score_sde.typing import Array, Keys, ScoreFn

DIMENSIONS = 256
"""At most so many numbers per image enter the Fréchet distance: larger images are averaged over blocks of pixels."""
MOST_NEIGHBOURS = 2000
"""Of the data, at most so many are neighbours of samples."""
NODES = 24
"""Noise levels at which the score is looked at."""
STOPS = 10
"""Times at which a path is shown."""


class Drawn(NamedTuple):
    """Samples [N, ...] in the data's units, evaluations per sample, seconds per sample once compiled (median).

    finite: bool [N], False for a sample that was not a finite number.
    """

    x: np.ndarray
    evaluations: float
    seconds: float
    finite: np.ndarray


def draw(experiment: Experiment, params: Any, count: int, grids: KeptGrids | None = None) -> Drawn:
    """Samples 0 .. count - 1 of the config's seed; grids: where optimised ones are kept."""
    generator = Generator(experiment, grids)
    drawn = generator(params, count, show=False)
    timed = drawn.seconds[1:] or generator(params, count, show=False).seconds
    per_image = statistics.median(timed) / experiment.config.sampling.batch_size
    return Drawn(drawn.x, drawn.evaluations, per_image, drawn.finite)


class Yardstick:
    """How far samples are from data [N, ...] in pixel space, of large ones the Fréchet distance by means of blocks."""

    def __init__(self, kind: Kind, data: np.ndarray) -> None:
        height, width, channels = as_images(data).shape[1:]
        self.block, self.count, self.scale = 1, len(data), shown(data).scale
        self._kind, self._data = kind, kind.comparable(data[:MOST_NEIGHBOURS])
        numbers = lambda block: (height // block) * (width // block) * channels
        while numbers(self.block) > DIMENSIONS and self.block < min(height, width):
            self.block += 1
        self._moments, self.data_spectrum = Moments.of(self._vectors(data)), self.spectrum(data)

    def __call__(self, samples: np.ndarray) -> Estimate:
        """The Fréchet distance of samples [N, ...] and its error, of these samples alone; NaN of fewer than two."""
        return frechet(self._vectors(samples), self._moments) if len(samples) > 1 else Estimate(float("nan"))

    def grainy(self, samples: np.ndarray) -> tuple[float, float] | None:
        """The share of samples [N, H, W, C] with more grain than real pictures and its error; None of no pictures."""
        if samples.dtype != np.uint8 or samples.ndim != 4 or min(samples.shape[:3]) < 3:
            return None
        return grainy(samples, self._data)

    def neighbours(self, samples: np.ndarray) -> dict[str, Any]:
        """What nearest neighbours say of samples [N, ...], by name, and how it reads."""
        found = neighbour_figures(flat(self._kind.comparable(samples)), flat(self._data))
        return found | {"reading": reading(found["accuracy_on_samples"], found["accuracy_on_data"], len(samples))}

    def spectrum(self, samples: np.ndarray) -> Spectrum | None:
        """The power spectrum of two samples [N, ...] or more that are no pictures; None of others."""
        if samples.dtype == np.uint8 or samples.ndim < 3 or len(samples) < 2:
            return None
        return spectrum(as_images(self._kind.comparable(samples)))

    def _vectors(self, x: np.ndarray) -> np.ndarray:
        """Bytes on the [-1, 1] scale, real data standardised; what is left at the lower and right edge is cut off."""
        images = as_images(self._kind.comparable(x))
        (n, height, width, channels), b = images.shape, self.block
        height, width = height // b, width // b
        blocks = images[:, : height * b, : width * b].reshape(n, height, b, width, b, channels)
        means = blocks.mean(axis=(2, 4), dtype=np.float64).reshape(n, -1)
        return means / 127.5 - 1 if x.dtype == np.uint8 else means


class Path(NamedTuple):
    """One sample on its way: t, log-SNR, alpha and sigma [K], x_t and E[x_0 | x_t] [K, H, W, C] as the network's."""

    t: np.ndarray
    log_snr: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    x: np.ndarray
    denoised: np.ndarray


def path(experiment: Experiment, params: Any) -> Path | None:
    """The path of sample 0 at STOPS nodes of the grid, both ends among them; None for an adaptive solver."""
    if isinstance(experiment.solver({}), AdaptiveSolver):
        return None
    config = experiment.config

    def walk(params: Any, position: Array, condition: dict[str, Array]) -> tuple[Array, ...]:
        keys = example_keys(root_key(config.sampling.seed), position)
        score, grid = experiment.score_of(params, condition), experiment.times(params)
        sde = experiment.system.sde(params)
        solver: Any = experiment.solver(params, condition)
        stops = jnp.round(jnp.linspace(0, len(grid) - 1, STOPS)).astype(int)
        t = grid[stops]
        x = trajectory(keys, score, sde, experiment.shape, solver=solver, times=grid)[stops, 0]
        at_stops = experiment.score_of(params, {name: jnp.repeat(v, STOPS, 0) for name, v in condition.items()})
        expected = denoiser(sde, at_stops)(x, t)
        if experiment.spec.points:
            x, expected = (jnp.where(condition[PRESENT], v, jnp.nan) for v in (x, expected))
        return t, sde.log_snr(t), sde.alpha(t), sde.sigma(t), x, expected

    position = positions(0, 1)
    condition = replicate(experiment.conditions(position))
    walk = at(config.sampling.precision, walk)
    return Path(*collect(jax.jit(walk)(replicate(params), replicate(position), condition)))


class NoiseLevels(NamedTuple):
    """t and log-SNR [K]; mean over images and standard error [K] each of what `look` takes per image.

    rate: the same of what `rates` makes of it, None where it was not asked for. Of the images, those are left out at a
    level at which one of the three is not finite; left_out [K] counts them. NaN where none is left.
    """

    t: np.ndarray
    log_snr: np.ndarray
    norm: tuple[np.ndarray, np.ndarray]
    loss: tuple[np.ndarray, np.ndarray]
    total: tuple[np.ndarray, np.ndarray]
    images: int
    left_out: np.ndarray
    rate: tuple[np.ndarray, np.ndarray] | None = None


def noise_levels(
    experiment: Experiment, params: Any, chosen: np.ndarray, source: Any, given: Mapping[str, Any]
) -> NoiseLevels:
    """The score on the examples of a source with the numbers chosen, in batches of sampling.batch_size.

    given: what the source's examples are conditioned on, by name.
    """
    config, sde = experiment.config, experiment.system.sde(params)
    grid = _levels(config, sde)
    size = min(config.sampling.batch_size, len(chosen))

    def at_examples(params: Any, stored: Array, position: Array, condition: dict[str, Array]) -> tuple[Any, Array]:
        keys = child(example_keys(root_key(config.seed), position), Purpose.EVALUATION)
        x0 = experiment.kind.encode(keys, stored, training=False)
        condition = condition | (experiment.degradation.of_examples(keys, x0) if experiment.degradation else {})
        x0, condition = experiment.drawing.conditions.there(x0, condition)
        space = experiment.score_system.subspace(condition)
        looked = look(keys, experiment.score_of(params, condition), sde, x0, grid, space)
        if space is None:
            return looked, prior_term(sde, x0) / x0[0].size
        rest = (1 - space.dimension / x0[0].size) * prior_term(sde, jnp.zeros_like(x0))
        return looked, (prior_term(sde, space.project(x0)) - rest) / space.dimension

    program, params = jax.jit(at(config.evaluation.precision, at_examples)), replicate(params)
    found, priors, told = [], [], experiment.chosen(given)
    for first in range(0, len(chosen), size):
        numbers = chosen[first : first + size]
        padded = np.pad(numbers, (0, size - len(numbers)), mode="edge")
        condition = {name: gather(values, padded) for name, values in told.items()}
        batch = spread((gather(source, padded), positions(first, size), condition))
        looked, prior = collect(program(params, *batch))
        found.append([part[:, : len(numbers)] for part in looked])
        priors.append(prior[: len(numbers)])
    values = [np.concatenate(parts, axis=1, dtype=np.float64) for parts in zip(*found)]
    finite = np.asarray(np.isfinite(values).all(0))
    norm, loss, total = (_summary(value, finite) for value in values)
    log_snr, left_out = np.asarray(sde.log_snr(grid)), (~finite).sum(1)
    spent = rates(log_snr, values[1], np.concatenate(priors))
    rate = _summary(spent, np.logical_and.accumulate(finite) & np.isfinite(spent))
    return NoiseLevels(np.asarray(grid), log_snr, norm, loss, total, len(chosen), left_out, rate)


def rates(log_snr: np.ndarray, loss: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """What it costs to send x_t of a falling grid of t, in nats per dimension [K, B]: the bound's terms above t.

        rate(t) = KL(q(x_T | x_0) || prior) + 1/2 integral of E|sigma s + z|^2 over the log-SNR from T to t,

    by the trapezoidal rule. The receiver then knows x_0 up to distortion(t) = (sigma / alpha)^2 E|sigma s + z|^2, the
    error of the denoiser. log_snr [K] rises, loss is |sigma s + z|^2 and prior the KL term per dimension, [K, B] and
    [B]. Of Gaussian data of variance v they are Shannon's: 1/2 ln(1 + v alpha^2 / sigma^2), at the distortion
    v sigma^2 / (alpha^2 v + sigma^2). Source: Ho et al. 2020, section 4.3.
    """
    steps = np.diff(log_snr)[:, None] * (loss[1:] + loss[:-1]) / 4
    return prior + np.concatenate([np.zeros((1, loss.shape[1])), np.cumsum(steps, axis=0)])


def look(
    keys: Keys, score: ScoreFn, sde: SDE, x0: Array, grid: Array, space: Subspace | None = None
) -> tuple[Array, Array, Array]:
    """The score at every t of the grid, s = s(x_t, t): [K, B] each of, in the subspace where x0 lies,

        |sigma s|^2 / D,  |sigma s + z|^2 / D  and  1 + 2 (sigma s . (sigma s + z)) / D.

    The third is the sum of the first two with |z|^2 replaced by its mean D, which lowers the variance. It is 1 in the
    mean under the exact score, for which E[z . sigma s] = -E|sigma s|^2.
    """
    own, dimension = child(keys, Purpose.NOISE), None if space is None else space.dimension
    if space is not None:
        x0, score = space.project(x0), within(score, space)

    def at(node: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        k, t = node
        z = normal(child(own, k), x0.shape[1:], x0.dtype)
        z = z if space is None else space.project(z)
        x, sigma = perturb(sde, x0, t, z)
        scaled = sigma * score(x, t)
        own_mean = lambda v: mean(v, dimension)
        return own_mean(scaled**2), own_mean((scaled + z) ** 2), 1 + 2 * own_mean(scaled * (scaled + z))

    return jax.lax.map(at, (jnp.arange(len(grid)), grid))


def _levels(config: Config, sde: SDE) -> Array:
    """NODES times from T down to sampling.t_min, equally spaced in log-SNR, or discrete levels."""
    if config.sde.discrete:
        levels = objects.levels(config)
        return grids.levels(sde, levels, min(NODES, levels.num_scales))
    return grids.log_snr(sde, config.sampling.t_min, NODES - 1)


def _summary(values: np.ndarray, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error [K] over the finite images of values [K, B]; NaN of none, and of one for the error."""
    rows = [row[use] for row, use in zip(values, finite)]
    nan = float("nan")
    means = [row.mean() if len(row) else nan for row in rows]
    errors = [row.std(ddof=1) / np.sqrt(len(row)) if len(row) > 1 else nan for row in rows]
    return np.array(means), np.array(errors)
