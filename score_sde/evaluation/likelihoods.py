"""The folder of a run's likelihoods: rows as they are computed, what they are of, and their means."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from score_sde.config import SCHEMA
from score_sde.errors import require
from score_sde.evaluation.estimates import Mean, degrees_of_freedom, over_images
from score_sde.evaluation.per_image import OLD, PerImage
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import as_json, read_json, write_json

SETTINGS, SUMMARY, PILOT, TABLE = "settings.json", "summary.json", "pilot.json", "per_image.csv"
BEFORE = {"likelihood.solver": "rk45"}
"""What fields had no name for when what they choose was not there yet, where that is not their default."""


FIRST_TIME = {"grid": "of latents with the noise of", "rk45": "prior by the probability-flow ODE from"}
"""What t_0 is of, by likelihood.solver."""


class Figure(NamedTuple):
    """A figure of an image, per dimension, which has its standard error beside it.

    name: its column; prefix: what the summary's other fields of it begin with; estimates: of one repetition; wanted:
    whether it was asked for.
    """

    name: str
    prefix: str
    words: str
    estimates: int = 1
    wanted: bool = True

    @property
    def columns(self) -> tuple[str, str]:
        """It and its standard error."""
        return self.name, f"{self.prefix}standard_error"


def figures(unit: str, c: Mapping[str, Any], own: bool = False) -> tuple[Figure, ...]:
    """Those of a section `likelihood` in bits or nats: of a score's ODE and SDE, or of a system's own bound."""
    if own:
        weighted = Figure("importance_weighted", "importance_", f"of {c['importance_samples']} draws, at most")
        return Figure(f"{unit}_per_dim", "", "at most"), *((weighted,) if c["importance_samples"] else ())
    probes = 1 if c["divergence"] in ("coloured", "exact") else c["probes"]
    return (
        Figure(f"{unit}_per_dim", "", "probability-flow ODE", probes),
        Figure("bound", "bound_", "the SDE, at most", wanted=bool(c["bound_samples"])),
    )


def columns(unit: str, classes: tuple[int, ...] = ()) -> tuple[str, ...]:
    """Those of per_image.csv; unit: bits or nats. classes: under which the likelihood is taken too."""
    by_class = ("label", *(f"{unit}_per_dim_of_{k}" for k in classes)) if classes else ()
    return ("index", f"{unit}_per_dim", "standard_error", "bound", "bound_standard_error", "evaluations", *by_class)


def own_columns(unit: str, terms: tuple[str, ...], weighted: bool) -> tuple[str, ...]:
    """Those of a system's own bound, which ends in its nats and its terms'; weighted: with the importance-weighted."""
    names = [*figures(unit, {"importance_samples": int(weighted)}, own=True)]
    return ("index", *(column for figure in names for column in figure.columns), "nats", *terms)


class LikelihoodFolder:
    """per_image.csv, settings.json, pilot.json and summary.json of one setting and checkpoint in a run's directory.

    Whoever calls `resume` holds the folder's lock. notes: what `resume` found damaged, and what becomes of it. terms:
    those of a system's own bound; None for the likelihood of a score.
    """

    def __init__(
        self,
        path: pathlib.Path,
        settings: dict[str, Any],
        unit: str = "bits",
        classes: tuple[int, ...] = (),
        terms: tuple[str, ...] | None = None,
    ) -> None:
        self.path, self.settings, self.unit, self.terms = path, json.loads(json.dumps(settings)), unit, terms
        weighted = terms is not None and settings["likelihood"]["importance_samples"] > 0
        names = columns(unit, classes) if terms is None else own_columns(unit, terms, weighted)
        self.table, self.notes = PerImage(path / TABLE, names), list[str]()
        self._seals = Seals(path)

    def resume(self, overwrite: bool) -> int:
        """How many images are done; UsageError where the figures are of other settings and may not be overwritten."""
        fault = self._seals.fault(SETTINGS)
        if not self._is_of_these_settings(fault):
            require(overwrite or not self.table.path.exists(), self._refusal(fault))
            self._start()
            return 0
        done = self._mended()
        if fault:  # behind the rows, which are known to be of an earlier version while nothing is sealed
            self.notes.append(f"{self.path / SETTINGS} {fault}: it is written again")
            self._write(SETTINGS, self.settings)
        return done

    def _mended(self) -> int:
        """How many rows are whole; what is damaged is noted."""
        for name in (SUMMARY, PILOT):
            if self._seals.known(name) and (fault := self._seals.fault(name)):
                self.notes.append(f"{self.path / name} {fault}: it is written again")
        fault = self.table.fault()
        self.table.mend()
        done = len(self.table.rows())
        if fault:
            rest = "" if fault == OLD else ", the others computed again"
            self.notes.append(f"{self.table.path} {fault}: {done} whole rows are kept{rest}")
        return done

    def _is_of_these_settings(self, fault: str | None) -> bool:
        """Whether settings.json, with that fault, or its seal where it is damaged, is of them."""
        if fault in (None, "is not sealed"):
            return completed(read_json(self.path / SETTINGS), self.settings) == self.settings
        return self._seals.is_of(SETTINGS, as_json(self.settings))

    def _refusal(self, fault: str | None) -> str:
        damage = f" ({SETTINGS} {fault})" if fault in ("is damaged", "is missing") else ""
        of = f"{self.path} holds figures of other settings or of another checkpoint"
        return f"{of}{damage}: add --overwrite, or move it away"

    def _start(self) -> None:
        """The old rows go first: killed at any point, no row is taken for one of other settings."""
        self.table.path.unlink(missing_ok=True)
        self._seals.forget(SUMMARY, PILOT, SETTINGS)
        for name in (SUMMARY, PILOT, SETTINGS):
            (self.path / name).unlink(missing_ok=True)
        self._write(SETTINGS, self.settings)
        self.table.start()

    def pilot(self) -> dict[str, Any] | None:
        """What `keep` was given, where it is whole: rows to come must be of the grid that those before are of."""
        return read_json(self.path / PILOT) if self._seals.known(PILOT) and not self._seals.fault(PILOT) else None

    def keep(self, pilot: dict[str, Any]) -> None:
        """Remember what a pilot found."""
        self._write(PILOT, pilot)

    def finish(self, more: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write and return the summary of all rows; None where nothing tells a number. more: what else it holds.

        Means are of the images whose figure is finite; not_finite and bound_not_finite count the others.
        """
        rows, c = self.table.rows(), self.settings["likelihood"]
        found: dict[str, Any] = {"num_images": len(rows)}
        for figure in figures(self.unit, c, self.terms is not None):
            column = self.table.columns.index(figure.name)
            finite = rows[np.isfinite(rows[:, column])]
            freedom = degrees_of_freedom(c["dequantizations"], figure.estimates)
            mean, *errors = over_images(finite[:, column], finite[:, column + 1], freedom)
            found[figure.name] = mean
            found |= {figure.prefix + field: value for field, value in zip(Mean._fields[1:], errors)}
            found[f"{figure.prefix}not_finite"] = len(rows) - len(finite) if figure.wanted else 0
        if self.terms is None:
            found["evaluations"] = rows[:, self.table.columns.index("evaluations")].mean() if len(rows) else None
        else:
            found["nats"], found["terms"] = self._nats(rows)
        found |= more or {}
        pilot = {name: len(v) if name == "times" else v for name, v in (self.pilot() or {}).items()}
        found = {name: _or_none(value) for name, value in found.items()} | {"pilot": pilot or None} | self.settings
        self._write(SUMMARY, found)
        return found

    def _nats(self, rows: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        """Mean and standard error over images of the whole bound and of every term, of finite ones, in nats."""

        def told(name: str) -> dict[str, Any]:
            values = rows[:, self.table.columns.index(name)]
            found = over_images(values[np.isfinite(values)], np.zeros(np.isfinite(values).sum()), 0)
            return {"mean": _or_none(found.mean), "standard_error_images": _or_none(found.standard_error_images)}

        return told("nats"), {name: told(name) for name in self.terms or ()}

    def _write(self, name: str, value: dict[str, Any]) -> None:
        write_json(self.path / name, value)
        self._seals.seal(name)


def completed(old: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What a settings.json of earlier versions says of these settings: fields that came later had their defaults."""
    found = _dict(old)
    before = lambda name: BEFORE.get(name, SCHEMA[name])
    later = lambda name, part: {field: before(f"{name}.{field}") for field in part} | _dict(found.get(name))
    return {name: later(name, part) if isinstance(part, dict) else found.get(name) for name, part in settings.items()}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _or_none(value: Any) -> Any:
    """The number, or the two of an interval, None where it is not finite, which JSON has no word for."""
    if isinstance(value, tuple):
        return [_or_none(end) for end in value]
    if isinstance(value, dict):
        return value
    return value if value is not None and np.isfinite(value) else None


def describe(summary: dict[str, Any]) -> str:
    """The summary's figures, a line each, with how many images are in none, and of latents their bound's t_0."""
    lines, unit, own = [], "bits" if "bits_per_dim" in summary else "nats", "terms" in summary
    for figure in figures(unit, summary["likelihood"], own):
        parts, left_out = [], summary[f"{figure.prefix}not_finite"]
        if summary[figure.name] is not None:
            estimates, images = (_half_width(summary[f"{figure.prefix}interval{end}"]) for end in ("", "_images"))
            parts = [f"{summary[figure.name]:.4f} {unit}/dim", f"95 % +-{estimates} by noise", f"+-{images} by images"]
        if left_out:
            parts.append(f"{left_out} of {summary['num_images']} images left out, whose figure is not finite")
        lines += [f"{figure.words}: {', '.join(parts)}"] if parts else []
    if own and summary["nats"]["mean"] is not None:
        terms = [_nats(name, term) for name, term in summary["terms"].items()]
        lines.append(f"nats of an image: {', '.join([_nats('in all', summary['nats']), *terms])}")
    if "perplexity" in summary:
        bits = summary["nats_per_dim"] / math.log(2)
        lines.append(f"of a token: perplexity {summary['perplexity']:.4f}, {bits:.4f} bits, at most")
    if "t_0" in summary:
        lines.append(f"{FIRST_TIME[summary['likelihood']['solver']]} t_0 = {summary['t_0']:g} (training.t_min)")
    if summary.get("accuracy") is not None:
        own = f"log p of the own class {summary['log_posterior']:.3f} nats"
        lines.append(f"class by the likelihoods: {summary['accuracy']:.1%} are given their own, {own}")
    return "\n".join([*lines, *_piloted(summary.get("pilot"), unit)])


def _piloted(pilot: dict[str, Any] | None, unit: str) -> list[str]:
    """The solver's error in words, where it is known."""
    if pilot is None:
        return []
    if not pilot["times"]:
        return ["solved by rk45: no grid of fewer evaluations was within likelihood.accuracy"]
    off = f"{pilot['error']:+.4f} +-{pilot['standard_error']:.4f} {unit}/dim"
    return [f"solver: {pilot['times']} nodes, off rk45 by {off} on {pilot['examples']} examples"]


def _nats(name: str, term: dict[str, Any]) -> str:
    """A mean with its standard error over images, where there are two."""
    error = term["standard_error_images"]
    return f"{name} {term['mean']:.2f}" + ("" if error is None else f" +-{error:.2f}")


def _half_width(interval: list[float | None]) -> str:
    low, high = interval
    return "?" if low is None or high is None else f"{(high - low) / 2:.4f}"
