"""Likelihoods of many examples: batches of one compiled program, one by one a function of (seed, number)."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import SCHEMA, Config
from score_sde.config.validation import check_likelihood
from score_sde.data.sources import Source, gather
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.errors import require
from score_sde.evaluation.estimates import Mean, degrees_of_freedom, over_images, per_image
from score_sde.evaluation.per_image import PerImage
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.objects import DIVERGENCES
from score_sde.experiment.program import Program
from score_sde.likelihood import log_likelihood
from score_sde.likelihood.bound import sde_bound
from score_sde.rng import Purpose, child, example_keys, root_key, words
from score_sde.solvers import RK45
from score_sde.storage.workdir import write_json
from score_sde.typing import Array


def columns(unit: str) -> tuple[str, ...]:
    """Those of per_image.csv; unit: bits or nats."""
    return ("index", f"{unit}_per_dim", "standard_error", "bound", "bound_standard_error", "evaluations")


class ImageLikelihood:
    """The ODE's likelihood and the SDE's bound by the config's `likelihood` section, its program compiled once.

    In bits per dimension of bytes, which are dequantised uniformly, whatever the training, and in nats per dimension of
    real data, of the density in the data's own units. Noise and probes are functions of likelihood.seed, of the
    example's number and of the repetition. The network without dropout.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._program = Program(experiment, "likelihood", self._estimate, seeded=True)

    def __call__(
        self, params: Any, source: Source, numbers: np.ndarray, given: Mapping[str, Source] | None = None
    ) -> Iterator[np.ndarray]:
        """Rows of `columns` [B, columns], batch by batch, of the examples with these numbers [n]; the last is padded.

        given: what the source's examples are conditioned on, by name; `likelihood.label` may ask for another label.
        """
        self._experiment.check()
        check_likelihood(self._experiment.config)
        devices, conditions = jax.device_count(), self._experiment.drawing.conditions
        size = max(1, min(self._config.batch_size, -(-len(numbers) // devices) * devices))
        params = replicate(params)
        for first in range(0, len(numbers), size):
            batch = numbers[first : first + size]
            padded = np.pad(batch, (0, size - len(batch)), mode="edge")
            condition = conditions.of_examples(self._config.label, given or {}, padded)
            placed = spread((gather(source, padded), words(padded), condition))
            repetitions = range(self._config.dequantizations)
            found = [collect(self._program(params, *placed, np.uint32(k))) for k in repetitions]
            yield _rows(batch, *(np.stack(values, 1, dtype=np.float64)[: len(batch)] for values in zip(*found)))

    @property
    def _config(self) -> Config:
        return self._experiment.config.likelihood

    def _estimate(
        self, params: Any, stored: Array, position: Array, condition: dict[str, Array], repetition: Array
    ) -> tuple[Array, Array, Array]:
        """Per dimension [B, M], the bound [B, 1] and evaluations [B], of one repetition for stored examples."""
        c, sde, kind = self._config, self._experiment.sde, self._experiment.kind
        score = self._experiment.score_of(params, condition)
        root = jax.random.fold_in(root_key(c.seed), Purpose.EVALUATION)
        keys = child(example_keys(root, position), repetition)
        x0 = kind.continuous(keys, stored)
        per_dimension = lambda nats: kind.per_dimension(nats, x0.shape[1:])
        solver = RK45(c.rtol, c.atol, per_sample=True)
        options = {"divergence": DIVERGENCES[c.divergence](c), "solver": solver, "t_min": c.t_min}
        log_prob, _, evaluations = log_likelihood(keys, score, sde, x0, **options)
        bound = jnp.full(len(x0), jnp.nan)
        if c.bound_samples:
            bound = sde_bound(keys, score, sde, x0, samples=c.bound_samples, t_min=c.t_min).total
        return per_dimension(-log_prob), per_dimension(bound)[:, None], jnp.broadcast_to(evaluations, len(x0))


def _rows(numbers: np.ndarray, values: np.ndarray, bound: np.ndarray, evaluations: np.ndarray) -> np.ndarray:
    """values [n, K, M], bound [n, K, 1], evaluations [n, K] -> rows of `columns` [n, 6]."""
    return np.stack([numbers, *per_image(values), *per_image(bound), evaluations.mean(1)], axis=1)


class LikelihoodFolder:
    """per_image.csv, settings.json and summary.json of one setting and checkpoint in a run's `likelihood` directory."""

    def __init__(self, path: pathlib.Path, settings: dict[str, Any], unit: str = "bits") -> None:
        self.path, self.settings, self.unit = path, json.loads(json.dumps(settings)), unit
        self.table, self.summary = PerImage(path / "per_image.csv", columns(unit)), path / "summary.json"

    def resume(self, overwrite: bool) -> int:
        """How many images are done; UsageError where the figures are of other settings and may not be overwritten."""
        file = self.path / "settings.json"
        if file.exists() and completed(_read(file), self.settings) == self.settings:
            self.table.mend()
            return len(self.table.rows())
        require(
            overwrite or not self.table.path.exists(),
            f"{self.path} holds figures of other settings or of another checkpoint: add --overwrite, or move it away",
        )
        for old in (file, self.summary):
            old.unlink(missing_ok=True)
        self.table.start()
        write_json(file, self.settings)
        return 0

    def finish(self) -> dict[str, Any]:
        """Write and return the summary of all rows; None where nothing tells a number."""
        rows, c = self.table.rows(), self.settings["likelihood"]
        probes = 1 if c["divergence"] in ("coloured", "exact") else c["probes"]
        found: dict[str, Any] = {"num_images": len(rows)}
        for name, prefix, estimates in ((f"{self.unit}_per_dim", "", probes), ("bound", "bound_", 1)):
            column = self.table.columns.index(name)
            freedom = degrees_of_freedom(c["dequantizations"], estimates)
            mean, *errors = over_images(rows[:, column], rows[:, column + 1], freedom)
            found[name] = mean
            found |= {prefix + field: value for field, value in zip(Mean._fields[1:], errors)}
        found["evaluations"] = rows[:, -1].mean()
        found = {name: _or_none(value) for name, value in found.items()} | self.settings
        write_json(self.summary, found)
        return found


def completed(old: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What a settings.json of earlier versions says of these settings: fields that came later had their defaults."""
    found = old if isinstance(old, dict) else {}
    later = lambda name, part: {field: SCHEMA[f"{name}.{field}"] for field in part} | (found.get(name) or {})
    return {name: later(name, part) if isinstance(part, dict) else found.get(name) for name, part in settings.items()}


def _or_none(value: Any) -> Any:
    """The number, or the two of an interval, None where it is not finite, which JSON has no word for."""
    if isinstance(value, tuple):
        return [_or_none(end) for end in value]
    return value if np.isfinite(value) else None


def _read(file: pathlib.Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError:
        return None


def describe(summary: dict[str, Any]) -> str:
    """The summary's figures, a line each."""
    lines, unit = [], "bits" if "bits_per_dim" in summary else "nats"
    for name, prefix, what in (
        (f"{unit}_per_dim", "", "probability-flow ODE"),
        ("bound", "bound_", "the SDE, at most"),
    ):
        if summary[name] is not None:
            estimates, images = (_half_width(summary[f"{prefix}interval{end}"]) for end in ("", "_images"))
            lines.append(f"{what}: {summary[name]:.4f} {unit}/dim, 95 % +-{estimates} by noise, +-{images} by images")
    return "\n".join(lines)


def _half_width(interval: list[float | None]) -> str:
    low, high = interval
    return "?" if low is None or high is None else f"{(high - low) / 2:.4f}"
