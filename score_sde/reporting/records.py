"""What a run has left in its workdir for a report: the log of the training, and likelihoods."""

import csv
import json
import math
import pathlib
from typing import NamedTuple

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]
"""Steps and values."""


def curves(metrics: pathlib.Path) -> dict[str, Curve]:
    """Every number that metrics.jsonl has by step, by name; empty where there is no such file."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in _lines(metrics):
        for name, value in line.items():
            if isinstance(value, int | float) and name != "step" and math.isfinite(value):
                found.setdefault(name, []).append((line["step"], value))
    return {
        name: (np.array([s for s, _ in points]), np.array([v for _, v in points])) for name, points in found.items()
    }


def _lines(metrics: pathlib.Path) -> list[dict]:
    """The objects of the file, a last line cut off by a kill left out."""
    lines = []
    for line in metrics.read_text().splitlines() if metrics.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


class Likelihoods(NamedTuple):
    """Per dimension of every example [N], of the bound too where it was taken (else None), in bits or nats."""

    values: np.ndarray
    bound: np.ndarray | None
    unit: str = "bits"


def likelihoods(folder: pathlib.Path) -> Likelihoods | None:
    """What --mode likelihood wrote there, None where it has not been run."""
    file = folder / "per_image.csv"
    if not file.exists():
        return None
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    if not rows:
        return None
    bound = [row.get("bound") or "nan" for row in rows]
    column = np.array([float(value) for value in bound])
    unit = "bits" if "bits_per_dim" in rows[0] else "nats"
    values = np.array([float(row[f"{unit}_per_dim"]) for row in rows])
    return Likelihoods(values, column if np.isfinite(column).all() else None, unit)
