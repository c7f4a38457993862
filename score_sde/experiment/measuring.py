"""The config's `measurement` section carried out: a file of measurements, brought to the network's range."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import Config
from score_sde.config.fields import MEASURING
from score_sde.data import npz
from score_sde.data.kinds import Kind
from score_sde.errors import UsageError, require
from score_sde.guidance import MMPS, TMPD, DiffPIRScore, DPSScore, Matched, Measurement, PiGDM, PosteriorScore
from score_sde.guidance.operators import Mask, Operator, bicubic, blur, box, grey, mask, matrix
from score_sde.rng import numbers
from score_sde.sde import SDE
from score_sde.solvers import DDIM, DDRM, DPS, PGDM, Constrained, DiffPIR, RePaint, Replacement, Solver
from score_sde.typing import Array

Y, NUMBER = "y", "measurement"
"""What a sample's condition has of it: the measurement, for the sampler alone, and its number, which is kept."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Measurements of examples x in the network's range: y = A x + sigma_y n, y [N, ...]; `each` samples for each.

    stored: y in the data's units. truth: x in the data's units [N, ...], where the file knows it. units: (a, b), the
    data's units are a + b x. values: A's singular values, one for each of the data's dimensions. digest: the file's
    SHA-256, "" for the data's own, which are answered in turn.
    """

    A: Operator
    y: np.ndarray
    sigma_y: float
    each: int
    stored: np.ndarray
    truth: np.ndarray | None
    units: tuple[np.ndarray, np.ndarray]
    values: np.ndarray
    digest: str

    def of_samples(self, position: np.ndarray) -> dict[str, np.ndarray]:
        """The number [B] of the measurement that samples at these positions (two words each) [B, 2] answer, and it."""
        number = (numbers(position) // np.uint64(self.each) % np.uint64(len(self.y))).astype(np.int32)
        return {NUMBER: number, Y: self.y[number]}

    def given(self, y: Array) -> Measurement:
        """The measurement of a batch, of its y [B, ...]."""
        return Measurement(self.A, y, jnp.asarray(self.sigma_y, y.dtype))

    def unknown(self, variance: float) -> float:
        """`unknown_share` of this measurement, of data of this variance."""
        return unknown_share(self.values, self.sigma_y, variance)

    def pseudo_inverse(self, number: int) -> np.ndarray:
        """The shortest x that explains a measurement, in the data's units."""
        spectrum, (a, b) = self.A.spectrum, self.units
        assert spectrum is not None  # every operator of a file has singular values
        d = spectrum.values[None]
        x = spectrum.from_v(jnp.where(d > 0, spectrum.to_u(self.y[number][None]) / jnp.where(d > 0, d, 1), 0))
        return a + b * np.asarray(x[0], np.float64)

    @property
    def note(self) -> str:
        """What may be wrong with its unit, where the data are bytes."""
        low, high = float(self.stored.min()), float(self.stored.max())
        fraction = float(np.mean(self.units[1])) > 100 and -1 <= low < high <= 1
        return (
            f"y lies between {low:.3g} and {high:.3g}, and the data's units are bytes of 0 to 255, in which y and"
            " sigma_y are to be: multiply them by 255 if 1 is white"
        ) * fraction

    def check(self, count: int) -> None:
        """UsageError where there are more samples than a file asks for, unless it has one y alone."""
        most = len(self.y) * self.each
        require(
            len(self.y) == 1 or not self.digest or count <= most,
            f"sampling.num_samples={count} is more than the {len(self.y)} measurements times measurement.samples="
            f"{self.each}: set sampling.num_samples={most}, or raise measurement.samples",
        )


def unknown_share(values: np.ndarray, sigma_y: float, variance: float) -> float:
    """The share of Gaussian data's variance, mean over dimensions, that is left by singular values [D] of A."""
    noise = max(sigma_y, 1e-6) ** 2
    return float(np.mean(noise / (variance * values**2 + noise)))


OPERATORS: dict[str, tuple[str, Callable[[np.ndarray, tuple[int, ...]], Operator]]] = {
    "inpaint": ("mask", mask),
    "blur": ("kernel", blur),
    "matrix": ("matrix", matrix),
    "box": ("", lambda y, shape: box(_factor(y, shape), shape)),
    "bicubic": ("", lambda y, shape: bicubic(_factor(y, shape), shape)),
    "gray": ("", lambda y, shape: grey(shape)),
}
"""By measurement.name: the array that it is made of, where there is one, and how; the others are made for y's shape."""


LIMIT = 2.0
"""PosteriorScore.limit, of trained networks."""
METHODS: dict[str, Callable[[Config, float], PosteriorScore]] = {
    "matched": lambda c, v: Matched(c.products, v, limit=LIMIT),
    "mmps": lambda c, v: MMPS(c.products, variance=v, limit=LIMIT),
    "tmpd": lambda c, v: TMPD(limit=LIMIT),
    "pigdm": lambda c, v: PiGDM(v, limit=LIMIT),
    "dps": lambda c, v: DPSScore(),
    "diffpir": lambda c, v: DiffPIRScore(c.step),
}
"""Posterior scores by guidance.method, of a `guidance` section and the data's variance in the network's range."""
AUTOMATIC = "matched"
"""What guidance.method='auto' stands for, with solvers whose steps hold no measurement."""
RULES: dict[str, Callable[[Config, SDE, Measurement], Solver]] = {
    "ddrm": lambda c, sde, m: DDRM(m),
    "dps": lambda c, sde, m: DPS(m, c.step),
    "pgdm": lambda c, sde, m: PGDM(m),
    "diffpir": lambda c, sde, m: DiffPIR(m, c.step),
    "repaint": lambda c, sde, m: RePaint(Replacement(sde, m), repeats=c.repeats),
    "replacement": lambda c, sde, m: Constrained(DDIM(1.0), Replacement(sde, m)),
}
"""Solvers that hold a measurement, by sampling.solver."""


def method(config: Config) -> str:
    """The posterior score's name, of what guidance.method says; "" where the solver's steps hold the measurement."""
    name = config.guidance.method
    return "" if config.sampling.solver in MEASURING else AUTOMATIC if name == "auto" else name


def posterior_score(config: Config, kind: str) -> PosteriorScore | None:
    """It, for data of this kind."""
    name = method(config)
    return METHODS[name](config.guidance, variance_of(config, kind)) if name else None


def variance_of(config: Config, kind: str) -> float:
    """The data's variance in the network's range: real data are standardised, of bytes the config says it."""
    return config.parametrization.sigma_data**2 if kind == "bytes" else 1.0


def measured(c: Config, kind: Kind, shape: tuple[int, ...]) -> Measured:
    """What the file of a valid `measurement` section holds, for examples of this shape.

    Raises UsageError for a file that is missing, lacks an array, or does not fit.
    """
    state = state_of("measurement.path", c.path, "name an .npz file with y and sigma_y")
    with jax.ensure_compile_time_eval():  # it may first be asked for while a program is traced
        return _measured(c.name, *state, c.samples, kind, shape)


def state_of(field: str, path: str, remedy: str) -> tuple[str, int, int]:
    """The file's path, time in ns and size in bytes, by which it is known read; UsageError where there is none."""
    place = pathlib.Path(path).expanduser()
    require(place.is_file(), f"{field}={path} is not a file: {remedy}")
    state = place.stat()
    return str(place), state.st_mtime_ns, state.st_size


@functools.lru_cache(maxsize=4)
def _measured(name: str, path: str, time: int, size: int, each: int, kind: Kind, shape: tuple[int, ...]) -> Measured:
    """Of a state of the file, by its time and size, read once."""
    del time, size
    try:
        arrays, digest = read(path, "y", "sigma_y")
        part, make = OPERATORS[name]
        require(not part or part in arrays, f"has no `{part}`, which measurement.name={name!r} is made of")
        A = make(arrays[part if part else "y"], shape)
        stored = shaped(arrays["y"], A, shape)
        found = in_range(A, stored, noise(arrays["sigma_y"]), truth(arrays, len(stored), shape), kind, shape)
    except UsageError as error:
        raise UsageError(f"measurement.path={path}: {error}") from None
    return dataclasses.replace(found, each=each, digest=digest)


def in_range(
    A: Operator, stored: np.ndarray, sigma_y: float, x: np.ndarray | None, kind: Kind, shape: tuple[int, ...]
) -> Measured:
    """What is stored [N, ...], of A x + sigma_y n in the data's units, in the network's range; x: the truth."""
    a, b = kind.units
    unit = float(np.mean(b))
    # y = A (a + b x) + sigma_y n, divided by the unit.
    y = (stored - np.asarray(A(jnp.broadcast_to(jnp.asarray(a, float), (1, *shape))), np.float64)) / unit
    scaled = in_units(A, kind)
    spectrum = scaled.spectrum
    assert spectrum is not None  # as every operator of a file has
    values = np.asarray(spectrum.values, np.float64)
    return Measured(scaled, y.astype(np.float32), sigma_y / unit, 1, stored, x, (a, b), values, "")


def in_units(A: Operator, kind: Kind) -> Operator:
    """Of examples in the network's range: A x but for a constant, over the mean of the channels' units."""
    b = kind.units[1]
    return A if np.ptp(b) == 0 else A.scaled(b / float(np.mean(b)))


def read(path: str, *names: str) -> tuple[dict[str, np.ndarray], str]:
    """The file's arrays of real numbers by name, these among them, and its SHA-256; UsageError for another file."""
    data = pathlib.Path(path).read_bytes()
    try:
        arrays = npz.arrays(data)
    except npz.UNREADABLE as error:
        raise UsageError(f"cannot be read ({npz.reason(error)}): write it by np.savez") from None
    for name in names:
        made = ", ".join(f"{n}=..." for n in names)
        require(name in arrays, f"has no `{name}`: np.savez(path, {made}), in the data's units")
    for name, array in arrays.items():
        require(
            array.dtype.kind in "biuf" or name == "settings",
            f"has `{name}` of dtype {array.dtype}, which are no real numbers",
        )
    return arrays, hashlib.sha256(data).hexdigest()


def noise(sigma_y: np.ndarray) -> float:
    """The one standard deviation."""
    require(sigma_y.size == 1, f"has sigma_y of shape {sigma_y.shape}: give one number for all")
    found = float(sigma_y.reshape(()))
    require(
        np.isfinite(found) and found >= 0,
        f"has sigma_y={found}: it is the standard deviation of the noise in y, so give 0 or more",
    )
    return found


def truth(arrays: dict[str, np.ndarray], count: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """What was measured, where the file knows it."""
    x = arrays.get("x")
    require(
        x is None or x.shape == (count, *shape),
        f"has a truth x of another shape than [{count}, {', '.join(map(str, shape))}]: mend it, or leave it out",
    )
    return x


def shaped(y: np.ndarray, A: Operator, shape: tuple[int, ...]) -> np.ndarray:
    """y as [N, ...] of the operator's measurements, what a mask hides 0.

    UsageError for another shape, and for what is not finite.
    """
    expected = jax.eval_shape(A, jax.ShapeDtypeStruct((1, *shape), jnp.result_type(float))).shape[1:]
    found = stacked(y, expected)
    if found is None:
        raise UsageError(
            f"has y of shape {y.shape}: a measurement of an example of shape {shape} has shape {expected}, so give [N,"
            f" {', '.join(map(str, expected))}]"
        )
    found = np.where(np.asarray(A.mask) > 0, found, 0) if isinstance(A, Mask) else found
    require(np.isfinite(found).all(), "has numbers in y that are not finite: leave them out by a mask, or mend them")
    return found


def stacked(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """x as [N, *shape] float64, one alone and ones without a last axis of 1 too; None where it is of another shape."""
    short = shape[:-1] if shape[-1:] == (1,) else shape
    fits = any(x.shape == form or (x.ndim == len(form) + 1 and x.shape[1:] == form) for form in (shape, short))
    return x.reshape(-1, *shape).astype(np.float64) if fits else None


def _factor(y: np.ndarray, shape: tuple[int, ...]) -> int:
    """By how much pictures of this shape were brought down to y, [N, H, W, C] or [H, W, C], perhaps without C = 1."""
    several = y.ndim > len(shape) or (y.ndim == len(shape) and y.shape[-1] != shape[-1])
    height = y.shape[several] if y.ndim > several else 0
    require(
        0 < height < shape[0] and shape[0] % height == 0,
        f"has y of shape {y.shape}, which is no whole fraction of examples of shape {shape}",
    )
    return shape[0] // height
