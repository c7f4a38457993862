"""The config's `editing` section carried out: a file of examples, brought to the network's range, edited or met."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import Config
from score_sde.config.sampling_checks import ADAPTIVE
from score_sde.data.kinds import Bytes, Kind
from score_sde.errors import UsageError, require
from score_sde.experiment.measuring import Measured, read, stacked, state_of
from score_sde.guidance.operators import mask
from score_sde.likelihood.encoding import decode, encode, interpolate
from score_sde.rng import numbers
from score_sde.sde import SDE
from score_sde.solvers import RK45, AdaptiveSolver, Solver, grids
from score_sde.solvers.editing import edit
from score_sde.solvers.sampling import Samples
from score_sde.systems import VAE, Condition, System
from score_sde.systems.base import Params
from score_sde.typing import Array, Keys, ScoreFn

NUMBER, WEIGHT = "example", "weight"
"""What is kept of a sample: of which example or pair it is, and how far it is from the first of the pair, 0 to 1."""
X, KEEP, LABEL, END, END_LABEL = (f"editing.{name}" for name in ("x", "keep", "label", "end", "end_label"))
"""What the sampler alone is given."""
LATENT = "latent"
"""The latents of examples, which are kept beside their reconstructions."""
KNOWN = ("correct", "correct_before")
"""Whether a classifier knows purified examples, and knew what they were made of."""
ADAPT = (
    "this is the accuracy under the perturbation that the examples have, and no bound on others: attacks adapt, by"
    " gradients through the purification and means over its noise (Nie et al. 2022), so an attack that knows nothing of"
    " it says little of robustness"
)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples x in the network's range [N, ...], or the firsts of pairs, with `each` samples of each.

    stored: x in the data's units. truth: what is to come out in the data's units [N, ...], where the file knows it; of
    pairs the other one. keep: 1 for what stays. label: classes int32 [N]. end, end_label: of pairs the others'. digest:
    the file's SHA-256.
    """

    x: np.ndarray
    each: int
    stored: np.ndarray
    truth: np.ndarray | None
    keep: np.ndarray | None
    label: np.ndarray | None
    end: np.ndarray | None
    end_label: np.ndarray | None
    is_bytes: bool
    digest: str

    def of_samples(self, position: np.ndarray, own_label: bool) -> dict[str, np.ndarray]:
        """What samples at these positions (two words each) [B, 2] are made of; own_label: under the example's class."""
        k = numbers(position)
        number = np.minimum(k // np.uint64(self.each), np.uint64(len(self.x) - 1)).astype(np.int32)
        found: dict[str, np.ndarray] = {NUMBER: number}
        parts = {X: self.x, KEEP: self.keep, LABEL: self.label, END: self.end, END_LABEL: self.end_label}
        found |= {name: part[number] for name, part in parts.items() if part is not None}
        if self.end is not None:
            found[WEIGHT] = ((k % np.uint64(self.each)) / (self.each - 1)).astype(np.float32)
        if own_label and self.label is not None:
            found["label"] = self.label[number]
        return found

    def check(self, count: int) -> None:
        """UsageError where there are more samples than are asked for; one x alone is edited any number of times."""
        most = len(self.x) * self.each
        require(
            (len(self.x) == 1 and self.end is None) or count <= most,
            f"sampling.num_samples={count} is more than the {len(self.x)} {'examples' if self.end is None else 'pairs'}"
            f" times editing.samples={self.each}: set sampling.num_samples={most}, or raise editing.samples",
        )

    @property
    def note(self) -> str:
        """What may be wrong with its unit, where the data are bytes."""
        low, high = float(self.stored.min()), float(self.stored.max())
        return (
            f"x lies between {low:.3g} and {high:.3g}, and the data's units are bytes of 0 to 255: multiply it by 255"
            " if 1 is white"
        ) * (self.is_bytes and high <= 1)


Asked = Measured | Examples
"""The file that samples are made by: of measurements, or of examples."""


def examples(config: Config, kind: Kind, shape: tuple[int, ...], classes: int, told: bool) -> Examples:
    """What the file of a valid `editing` section holds, for examples of this shape.

    classes: how many labels there are, 0 for none; told: whether the network is told them. Raises UsageError for a file
    that is missing, lacks an array, or does not fit.
    """
    c = config.editing
    state = state_of("editing.path", c.path, "name an .npz file with x")
    asked = (c.name, c.samples, bool(config.frozen.classifier), told, config.sampling.solver in ADAPTIVE)
    with jax.ensure_compile_time_eval():  # it may first be asked for while a program is traced
        return _examples(*state, asked, kind, shape, classes)


@functools.lru_cache(maxsize=4)
def _examples(
    path: str, time: int, size: int, asked: Any, kind: Kind, shape: tuple[int, ...], classes: int
) -> Examples:
    """Of a state of the file, by its time and size, read once."""
    del time, size
    name, each, classified, told, adaptive = asked
    is_bytes = isinstance(kind, Bytes)
    try:
        arrays, digest = read(path, "x")
        stored = _shaped("x", arrays["x"], shape)
        _check_range(stored, is_bytes)
        truth = _shaped("truth", arrays["truth"], shape) if "truth" in arrays else None
        require(
            truth is None or len(truth) == len(stored),
            f"has `truth` of {truth is None or len(truth)} examples and x of {len(stored)}: give one of each",
        )
        keep = _mask(arrays["mask"], shape, len(stored)) if "mask" in arrays else None
        require(
            keep is None or (name == "edit" and not adaptive),
            f"has a mask, which is for editing.name='edit' with a solver on a grid, not for {name!r} with one that"
            " chooses its own steps: leave it out, or set editing.name and sampling.solver",
        )
        label = _labels(arrays["y"], len(stored), classes) if "y" in arrays and classes else None
        require(
            label is not None or not (name == "purify" and classified),
            "has no `y`, the classes that frozen.classifier is to find: add them, int [N], or leave frozen.classifier"
            " empty",
        )
        require(
            label is not None or not (name == "interpolate" and told),
            "has no `y`, the classes under which this network encodes x: add them, int [N]",
        )
        require(
            name != "interpolate" or len(stored) % 2 == 0,
            f"has {len(stored)} examples, and editing.name='interpolate' goes from x[0] to x[1], from x[2] to x[3] and"
            " so on: give an even number",
        )
    except UsageError as error:
        raise UsageError(f"editing.path={path}: {error}") from None
    a, b = kind.units
    x = ((stored - a) / b).astype(np.float32)
    found = Examples(x, each, stored, truth, keep, label, None, None, is_bytes, digest)
    if name != "interpolate":
        return found
    halves = lambda part: (None, None) if part is None else (part[::2], part[1::2])
    (x, end), (stored, truth), (label, end_label) = halves(x), halves(stored), halves(label)
    more = {"end": end, "end_label": end_label}
    return dataclasses.replace(found, x=x, stored=stored, truth=truth, label=label, **more)


def _shaped(name: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Examples as [N, *shape] float64, one at least; UsageError for others, and for what is not finite."""
    found = stacked(x, shape)
    if found is None or not len(found):
        raise UsageError(
            f"has `{name}` of shape {x.shape}, and the data's examples have shape {shape}: give [N,"
            f" {', '.join(map(str, shape))}]"
        )
    require(bool(np.isfinite(found).all()), f"has numbers in `{name}` that are not finite: mend them")
    return found


def _check_range(x: np.ndarray, is_bytes: bool) -> None:
    low, high = float(x.min()), float(x.max())
    require(
        not is_bytes or (low >= 0 and high <= 255),
        f"has x between {low:.4g} and {high:.4g}, and the data's units are bytes of 0 to 255: clip it, or multiply it",
    )


def _mask(known: np.ndarray, shape: tuple[int, ...], count: int) -> np.ndarray:
    """One for all, or one of each: float32 [N, *shape]."""
    pixels = shape[:2] if len(shape) == 3 else shape
    several = len(known) == count and known.shape[1:] in (shape, pixels)
    found = [mask(one, shape).mask for one in (known if several else [known])]
    return np.broadcast_to(np.stack([np.asarray(one) for one in found]), (count, *shape))


def _labels(y: np.ndarray, count: int, classes: int) -> np.ndarray:
    fits = y.shape == (count,) and y.dtype.kind in "iu" and (y >= 0).all() and (y < classes).all()
    require(
        fits,
        f"has y of shape {y.shape} and dtype {y.dtype}: give the class of each of the {count} examples, an integer of 0"
        f" to {classes - 1}",
    )
    return y.astype(np.int32)


def parted(condition: Condition) -> tuple[dict[str, Any], dict[str, Any]]:
    """What editing has of a condition, and what is the network's."""
    ours = {name: value for name, value in condition.items() if is_ours(name)}
    return ours, {name: value for name, value in condition.items() if name not in ours}


def is_ours(name: str) -> bool:
    """Whether a part of a condition is editing's."""
    return name in (NUMBER, WEIGHT, X, KEEP, LABEL, END, END_LABEL)


def is_kept(name: str) -> bool:
    """Whether a part of a condition is kept beside its sample."""
    return name in (NUMBER, WEIGHT) or not is_ours(name)


def below(c: Config, times: Array) -> Array:
    """The grid [N + 1] from editing.time down; UsageError for one that the grid does not reach."""
    first, last = float(times[0]), float(times[-1])
    require(
        last < c.editing.time <= first,
        f"editing.time={c.editing.time} is to lie on the grid of sampling.times={c.sampling.times!r}, above {last:g}"
        f" and not above {first:g}: choose another time or grid",
    )
    return grids.below(times, c.editing.time)


def edited(
    c: Config,
    keys: Keys,
    given: Mapping[str, Any],
    score: ScoreFn,
    sde: SDE,
    *,
    solver: Solver | AdaptiveSolver,
    times: Array,
) -> Samples:
    """SDEdit and purification of what `of_samples` gives: solvers.editing.edit, evaluations as there."""
    options = {"repeats": c.editing.repeats, "denoise": c.sampling.denoise}
    return edit(keys, score, sde, given[X], solver=solver, times=times, keep=given.get(KEEP), **options)


def decoded(system: VAE, params: Params, condition: Condition) -> Samples | None:
    """An autoencoder's reconstructions of what `of_samples` gives, or what lies between the two of pairs; else None."""
    if X not in condition:
        return None
    if END in condition:
        return Samples(system.interpolate(params, *(condition[name] for name in (X, END, WEIGHT))), jnp.int32(3))
    return Samples(system.reconstruct(params, condition[X]), jnp.int32(2))


def latents(system: System, params: Params, condition: Condition) -> dict[str, Array]:
    """The latents [B, ...] that examples are reconstructed of, by the name LATENT; else nothing."""
    if not isinstance(system, VAE) or X not in condition or END in condition:
        return {}
    return {LATENT: system.encode(params, condition[X])[0]}


def between(
    c: Config, given: Mapping[str, Any], ends: tuple[ScoreFn, ScoreFn], score: ScoreFn, sde: SDE, solver: RK45
) -> tuple[Samples, Array]:
    """What lies between the two of pairs, as likelihood.encoding.blend has it, and the evaluations of encoding [B].

    ends: the scores that encode; score: the one that decodes, whose evaluations are those of the samples.
    """
    options: dict[str, Any] = {"solver": solver, "t_min": c.sampling.t_min, "level": c.editing.time or None}
    (z0, first), (z1, second) = (encode(s, sde, given[x], **options) for s, x in zip(ends, (X, END), strict=True))
    x, evaluations = decode(score, sde, interpolate(z0, z1, given[WEIGHT][None])[0], **options)
    return Samples(x, evaluations), first + second
