"""What a run has left in its workdir for a report: the log of the training, and likelihoods."""

import json
import math
import pathlib
from typing import NamedTuple

import numpy as np

from score_sde.evaluation.likelihoods import TABLE, columns
from score_sde.evaluation.per_image import OLD, PerImage
from score_sde.experiment.feature_folder import REPORT
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import read_json

Curve = tuple[np.ndarray, np.ndarray]
"""Steps and values."""


class Log(NamedTuple):
    """metrics.jsonl: every number that it has by step, by name; how many lines there are, and how many are damaged."""

    curves: dict[str, Curve]
    lines: int = 0
    damaged: int = 0


def log(metrics: pathlib.Path) -> Log:
    """What the file has; nothing where there is none. A last line cut off by a kill is no line. Raises OSError."""
    found: dict[str, list[tuple[int, float]]] = {}
    texts = metrics.read_bytes().split(b"\n")[:-1] if metrics.exists() else []
    lines = [_line(text) for text in texts]
    for line in filter(None, lines):
        for name, value in line.items():
            if isinstance(value, int | float) and name != "step" and abs(value) < math.inf:
                found.setdefault(name, []).append((line["step"], float(value)))
    curves = {
        name: (np.array([s for s, _ in points]), np.array([v for _, v in points])) for name, points in found.items()
    }
    return Log(curves, len(lines), lines.count(None))


def curves(metrics: pathlib.Path) -> dict[str, Curve]:
    """Every number that metrics.jsonl has by step, by name; empty where there is no such file."""
    return log(metrics).curves


def _line(text: bytes) -> dict | None:
    """The object of a line, None for what is none, or has no step."""
    try:
        line = json.loads(text.decode())
        return line if 0 <= line["step"] == int(line["step"]) < 2**53 else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


class Evaluations(NamedTuple):
    """What --mode evaluate found, by the names of its folders; those whose report.json is damaged or missing."""

    reports: dict[str, dict]
    damaged: tuple[str, ...] = ()


def evaluations(folder: pathlib.Path) -> Evaluations:
    """The whole report.json files in a run's folder of evaluations. Raises OSError."""
    reports, damaged = {}, []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else ():
        seals = Seals(place)
        if seals.whole(REPORT):
            reports[place.name] = read_json(place / REPORT)
        elif seals.known(REPORT):
            damaged.append(place.name)
    return Evaluations(reports, tuple(damaged))


class Likelihoods(NamedTuple):
    """Per dimension of every example [N], of the bound too where it was taken (else None), in bits or nats.

    Only finite ones; not_finite counts the examples whose figure or bound is not. fault: what is wrong with the file.
    """

    values: np.ndarray
    bound: np.ndarray | None
    unit: str = "bits"
    not_finite: int = 0
    fault: str = ""


def likelihoods(folder: pathlib.Path) -> Likelihoods | None:
    """What --mode likelihood wrote there and is whole, None where there is nothing. Raises OSError."""
    for unit in ("bits", "nats"):
        table = PerImage(folder / TABLE, columns(unit))
        if len(rows := table.rows()):
            values, bound = rows[:, 1], rows[:, 3]
            bounded, finite = np.isfinite(rows[:, 4]).any() or np.isfinite(bound).any(), np.isfinite(values)
            left_out = ~finite | (bounded & ~np.isfinite(bound))
            fault = table.fault() or ""
            return Likelihoods(
                values[finite],
                bound[np.isfinite(bound)] if bounded else None,
                unit,
                int(left_out.sum()),
                "" if fault == OLD else fault,
            )
    return None
