"""What a report says of evaluations: every one in a table, and a figure of those that can be compared."""

from collections.abc import Mapping
from typing import Any

from score_sde.evaluation.figures import TITLES, known, written
from score_sde.reporting.figures import Point, distances, png
from score_sde.reporting.page import Section, Table
from score_sde.reporting.records import Evaluations

KIND = ("features", "preprocessing", "fingerprint", "num_samples", "num_data", "dataset", "split")
"""What evaluations must have alike to be points of one figure."""


def evaluation(found: Evaluations, command: str) -> Section:
    """What --mode evaluate has found, with the Fréchet distances that can be compared against their cost."""
    title, reports, mode = "Evaluation", found.reports, f"{command} --mode evaluate"
    damaged = f" Damaged: {', '.join(found.damaged)}; {mode} makes them again." if found.damaged else ""
    if not reports:
        return Section(title, f"Not computed yet: {mode} does, and then --mode report again.{damaged}")
    caption = (
        "Figures of samples against data by the features of a network, each with its error, in"
        " evaluation/*/report.json. Fréchet distances are comparable between equal features, preprocessing and numbers"
        " alone."
    )
    points, kind = _comparable(reports)
    if not points:
        return Section(title, caption + damaged, table=_evaluation_table(reports))
    caption += (
        f" The figure: {kind['num_samples']:,} samples against {kind['num_data']:,} of {kind['dataset']} by"
        f" {kind['features']}."
    )
    features = "pixel" if kind["features"] == "pixels" else kind["features"]
    picture = png(distances(points, {}, features, "milliseconds per sample, with its features and compiling"))
    return Section(title, caption + damaged, "evaluation", picture, _evaluation_table(reports))


def _evaluation_table(reports: Mapping[str, dict]) -> Table:
    """An evaluation per row, a figure per column."""
    names = known(reports.values())
    heading = ("samples", "n", "features", "evaluations", *(TITLES[name] for name in names))
    rows = [
        (
            name,
            f"{r['num_samples']:,}",
            " ".join(filter(None, (r["features"], r["preprocessing"]))),
            "" if r["evaluations"] is None else f"{r['evaluations']:.0f}",
            *(written(r, figure) for figure in names),
        )
        for name, r in reports.items()
    ]
    return Table(heading, rows)


def _comparable(reports: Mapping[str, dict]) -> tuple[dict[str, list[Point]], dict[str, Any]]:
    """The points by solver of the largest group of evaluations of one kind, and the kind; none of a single one."""
    groups: dict[tuple, list[dict]] = {}
    for r in reports.values():
        if r["evaluations"] is not None and r["frechet_distance"] is not None:
            groups.setdefault(tuple(r.get(name) for name in KIND), []).append(r)
    largest = max(groups, key=lambda kind: len(groups[kind]), default=None)
    if largest is None or len(groups[largest]) < 2:
        return {}, {}
    points: dict[str, list[Point]] = {}
    for r in sorted(groups[largest], key=lambda r: r["evaluations"]):
        cost = r["evaluations"], r["seconds"] / (r["num_samples"] + r["not_finite"])
        point = Point(*cost, r["frechet_distance"], r["frechet_distance_error"] or 0.0)
        points.setdefault(f"{r['solver']}, step {r['step']}", []).append(point)
    return points, dict(zip(KIND, largest))
