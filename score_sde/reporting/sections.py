"""What a report shows and says: every measurement as a figure, its caption with the numbers, and a table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from score_sde.data.kinds import Kind
from score_sde.evaluation.neighbours import if_finite
from score_sde.evaluation.spectrum import Spectrum
from score_sde.evaluation.two_sample import number
from score_sde.reporting import figures
from score_sde.reporting.measure import Drawn, NoiseLevels, Path, Yardstick
from score_sde.reporting.page import Section, Table
from score_sde.reporting.rate_distortion import distortion
from score_sde.reporting.records import Likelihoods, Log
from score_sde.reporting.rows import BUDGETS
from score_sde.storage.images import as_images, grid, mark, shown

FIGURES = (
    "samples", "distance", "spectrum", "trajectory", "noise_levels", "rate_distortion", "training", "likelihood",
    "evaluation",
)  # fmt: skip
"""Names of the PNGs."""
SHOWN, COLUMNS = 8, 4
"""Samples in a cell, and how many of them side by side."""


class Result(NamedTuple):
    """What is kept of the samples of one solver and budget."""

    picture: np.ndarray
    evaluations: float
    seconds: float
    distance: float | None
    error: float | None
    samples: int
    not_finite: int
    neighbours: dict[str, Any]
    grainy: tuple[float, float] | None = None
    """Of pictures: the share that has more grain than real ones, and its error."""
    spectrum: Spectrum | None = None
    """Of fields."""


Results = Mapping[str, Mapping[int, Result]]
"""By the name of the solver and by the budget; the config's own way stands under the budget next to it."""


def result(drawn: Drawn, yardstick: Yardstick | None, kind: Kind | None = None) -> Result:
    """The first samples as a picture of their kind, the distance of all that are finite; None for what is not known."""
    x = drawn.x[drawn.finite]
    distance, error = map(if_finite, yardstick(x)) if yardstick else (None, None)
    neighbours = yardstick.neighbours(x) if yardstick else {}
    looked_at = drawn.x[:SHOWN] if kind is None else kind.pictured(drawn.x[:SHOWN])
    images = shown(looked_at, yardstick.scale if yardstick else None).images.copy()
    if len(bad := images[~drawn.finite[:SHOWN]]):
        mark(bad)
        images[~drawn.finite[:SHOWN]] = bad
    picture = np.asarray(grid(images, COLUMNS, padding=1))
    count = len(drawn.x)
    cost, grainy = (drawn.evaluations, drawn.seconds), yardstick.grainy(x) if yardstick else None
    spectrum = yardstick.spectrum(x) if yardstick else None
    return Result(picture, *cost, distance, error, count, count - len(x), neighbours, grainy, spectrum)


def not_finite(results: Results, levels: NoiseLevels | None, found: Likelihoods | None) -> list[str]:
    """What the figures leave out because it is no finite number, a part of a sentence each."""
    cells = [(name, r) for name, row in results.items() for r in row.values() if r.not_finite]
    parts = [
        f"{r.not_finite} of {r.samples} samples of {name} with {r.evaluations:.0f} evaluations" for name, r in cells
    ]
    if levels is not None and (bad := np.flatnonzero(levels.left_out)).size:
        where = f"log-SNR {levels.log_snr[bad].min():.1f} to {levels.log_snr[bad].max():.1f}"
        parts.append(f"the score of up to {levels.left_out.max()} of {levels.images} images at {where}")
    if found and found.not_finite:
        parts.append(f"the likelihood or bound of {found.not_finite} images")
    return parts


def numbers(results: Results, levels: NoiseLevels | None) -> dict[str, Any]:
    """What the figures were drawn from, for programs to read."""
    solvers = {name: {str(budget): _numbers_of(r) for budget, r in row.items()} for name, row in results.items()}
    if levels is None:
        return {"solvers": solvers}
    columns = {"t": levels.t, "log_snr": levels.log_snr}
    measured = {"score_norm": levels.norm, "loss": levels.loss, "sum": levels.total}
    if levels.rate is not None:
        measured |= {"rate": levels.rate, "distortion": distortion(levels)}
    for name, (value, error) in measured.items():
        columns |= {name: value, f"{name}_standard_error": error}
    by_level: dict[str, list] = {name: [if_finite(v) for v in values] for name, values in columns.items()}
    by_level["left_out"] = levels.left_out.tolist()
    return {"solvers": solvers, "noise_levels": {"images": levels.images, **by_level}}


def _numbers_of(r: Result) -> dict[str, Any]:
    found = {name: value for name, value in r._asdict().items() if name not in ("picture", "spectrum")}
    return found | ({"spectrum": {n: v.tolist() for n, v in r.spectrum._asdict().items()}} if r.spectrum else {})


def samples(results: Results, seed: int) -> Section:
    """The pictures of every solver and budget."""
    cells = {name: {b: figures.Cell(r.picture, r.evaluations) for b, r in row.items()} for name, row in results.items()}
    caption = (
        f"Samples 0 to {SHOWN - 1} of seed {seed} in every cell: each begins with the same noise, and whatever noise"
        " a solver adds is the same too. Down a column the cost is the same, along a row the solver. To be seen:"
        " from which budget on the samples are clean, and that the solvers of the probability-flow ODE agree with one"
        " another image by image once their steps are small enough, while those that add noise go elsewhere."
    )
    if missing := not_finite(results, None, None):
        caption += f" Not finite, shown as chequerboards and left out of all figures: {'; '.join(missing)}."
    return Section("Samples", caption, "samples", figures.png(figures.samples(cells, _budgets(results))))


def distances(
    results: Results,
    count: int,
    yardstick: Yardstick,
    held_out: tuple[int, float] | None,
    choices: Mapping[str, Mapping[str, Any]],
) -> Section:
    """The distance against evaluations and time, of the finite samples; choices: what auto takes from now on."""
    points = {
        name: [
            figures.Point(r.evaluations, r.seconds, r.distance, r.error or 0.0)
            for r in row.values()
            if r.distance is not None
        ]
        for name, row in results.items()
    }
    references = {f"{held_out[0]} held-out images": held_out[1]} if held_out else {}
    if not any(points.values()):
        return Section("Distance against cost", "Not measured: there are not two finite samples, or not two images.")
    best = min(((p, name) for name, row in points.items() for p in row), key=lambda found: found[0].distance)
    averaged = (
        f", both averaged over blocks of {yardstick.block} x {yardstick.block} pixels" if yardstick.block > 1 else ""
    )
    caption = (
        f"Fréchet distance of {count} samples from {yardstick.count} training images in pixel space{averaged}: lower is"
        f" better. The least is {best[0].distance:.3f} ± {best[0].error:.3f}, by {best[1]} with"
        f" {best[0].evaluations:.0f} evaluations. Bars: one standard error, by the jackknife over samples. The distance"
        " grows as samples get fewer, so compare numbers of equal counts alone."
    )
    if held_out:
        caption += (
            f" {held_out[0]} held-out images, which no network has made, are {held_out[1]:.3f} away (dashed line)."
        )
    if missing := not_finite(results, None, None):
        caption += f" Computed without what is not finite: {'; '.join(missing)}."
    if choices:
        taken = (f"from {n} evaluations on {', '.join(map(str, fields.values()))}" for n, fields in choices.items())
        caption += f" sampling.solver=auto takes on this run, by distance and grain: {'; '.join(taken)}."
    return Section(
        "Distance against cost",
        caption,
        "distance",
        figures.png(figures.distances(points, references)),
        _distance_table(results),
    )


def _distance_table(results: Results) -> Table:
    """A solver per row, a budget per column."""

    def text(row: Mapping[int, Result], budget: int) -> str:
        r = row.get(budget)
        if r is None or r.distance is None:
            return ""
        cost = "" if r.evaluations == budget else f" ({r.evaluations:.0f})"
        grain = "" if r.grainy is None else f", {100 * r.grainy[0]:.2g} % grainy"
        return f"{r.distance:.3f} ± {r.error:.3f}{grain}, {1000 * r.seconds:.3g} ms{cost}"

    budgets = _budgets(results)
    heading = ("solver", *(f"{b} evaluations" for b in budgets))
    return Table(heading, [(name, *(text(row, b) for b in budgets)) for name, row in results.items()])


def _budgets(results: Results) -> list[int]:
    """The columns: the solvers' and, where there are students, theirs."""
    return sorted({*BUDGETS, *(budget for row in results.values() for budget in row)})


def neighbours(results: Results) -> Section:
    """What nearest neighbours say of every solver and budget."""
    caption = (
        "Nearest neighbours among as many samples and training images, in pixel space. The accuracies are those of the"
        " leave-one-out 1-NN classifier: how often a sample's nearest neighbour is a sample, and an image's an image."
        " Both are near 0.5 for samples of the data's law; a mean of 0.5 says nothing where one is low and the other"
        " high, as for noise. Precision: the share of samples within the data's neighbourhoods of three; recall: of the"
        " data within the samples'."
    )
    names = ("accuracy_on_samples", "accuracy_on_data", "precision", "recall")
    rows = [
        (name, f"{r.evaluations:.0f}", *(number(r.neighbours[n]) for n in names), r.neighbours["reading"])
        for name, row in results.items()
        for r in row.values()
    ]
    heading = ("solver", "evaluations", "1-NN accuracy on samples", "on data", "precision", "recall", "reading")
    return Section("Nearest neighbours", caption, table=Table(heading, rows))


def trajectories(paths: Mapping[str, Path], centered: bool, points: Kind | None = None) -> Section:
    """One sample on its way, by several solvers from the same noise; points: the kind of point sets."""
    lines = []
    seen = lambda x, limit: visible(x, limit, centered) if points is None else points.pictured(x[None])[0]
    for name, path in paths.items():
        titles = [f"t = {t:.3g}\nlog-SNR {s:.1f}" for t, s in zip(path.t, path.log_snr)]
        limits = path.alpha + 2 * path.sigma
        states = [seen(x, limit) for x, limit in zip(path.x, limits)]
        lines.append(figures.Strip(f"{name}\n$x_t$", states, titles))
        denoised = [seen(x, 1.0) for x in path.denoised]
        lines.append(figures.Strip(r"$E[x_0\,|\,x_t]$", denoised, [""] * len(denoised)))
    contrast = "States are shown with the contrast alpha + 2 sigma."
    if points is not None:
        contrast = "Every set fits into its picture."
    caption = (
        "Sample 0 on its way from the prior (left) to the data (right), and below each state what the network expects"
        f" of its end. {contrast} Good: the expectation begins near the mean of"
        " the data and sharpens without jumps; middle times decide on the shape, the last ones on the detail. (Near T a"
        " network that predicts noise has its errors divided by a tiny alpha: the first expectations may be wild.)"
    )
    states = [x for path in paths.values() for part in (path.x, path.denoised) for x in part]
    bad = sum(not np.isfinite(x).all() for x in states)
    if bad and points is None:
        caption += f" {bad} of {len(states)} pictures have numbers that are not finite, shown grey."
    return Section("Trajectory", caption, "trajectory", figures.png(figures.strips(lines)))


def visible(x: np.ndarray, limit: float, centered: bool) -> np.ndarray:
    """A state [...] of the network's range as bytes [H, W] or [H, W, 3]; ± limit, as of [-1, 1], is cut off."""
    x = as_images(x[None])[0]
    x = np.nan_to_num(x if centered else 2 * x - 1, nan=0.0)
    pixels = np.round(127.5 * (np.clip(x / limit, -1, 1) + 1)).astype(np.uint8)
    return pixels[..., 0] if pixels.shape[-1] < 3 else pixels[..., :3]


def noise_levels(found: NoiseLevels, held_out: bool) -> Section:
    """The score's norm and the loss over noise levels."""
    total, error = found.total
    title = "Score and loss at every noise level"
    if np.isnan(total).all():
        return Section(title, f"Not measured: at none of {len(total)} noise levels is the score finite on any image.")
    worst = int(np.nanargmax(np.abs(total - 1)))
    caption = (
        f"The score s on {found.images} {'held-out' if held_out else 'training'} images with fresh noise z, at"
        f" {len(found.t)} noise levels: its squared norm and the denoising loss per dimension, with standard errors."
        " Where noise is all there is (low log-SNR) the score knows it all, norm 1 and loss 0; where there is little,"
        " the noise cannot be told from the data. Of an exact score the two add up to 1 in the mean at every level: a"
        " sum below 1 is a score too short, a sum above 1 one too long. Here it is furthest from 1 at log-SNR"
        f" {found.log_snr[worst]:.1f}, where it is {total[worst]:.3f} ± {error[worst]:.3f}."
    )
    if missing := not_finite({}, found, None):
        caption += f" Computed without what is not finite: {missing[0]}."
    picture = figures.noise_levels(found.t, found.log_snr, found.norm, found.loss, found.total)
    return Section(title, caption, "noise_levels", figures.png(picture))


def training(log: Log) -> Section:
    """The log of the training."""
    curves = log.curves
    damaged = f" {log.damaged} of {log.lines} lines of metrics.jsonl are damaged and left out." if log.damaged else ""
    if "loss" not in curves:
        why = (
            "metrics.jsonl has no loss"
            if log.lines
            else "No metrics.jsonl: this run was imported, or has not logged anything"
        )
        return Section("Training", f"{why}.{damaged}")
    steps, loss = curves["loss"]
    caption = (
        f"The loss that was trained on, from {loss[0]:.4g} at step {steps[0]} to {loss[-1]:.4g} at step {steps[-1]}, a"
        " mean over the steps between two lines of metrics.jsonl"
    )
    held_out = [name for name in curves if name.startswith("held_out_loss")]
    caption += "".join(f"; {name} ends at {curves[name][1][-1]:.4g}" for name in held_out)
    caption += (
        ". Right: the norm of its gradient before clipping. Good: both fall fast, then slowly; a held-out loss that"
        " turns upwards while the loss falls tells of overfitting, spikes of a learning rate too high."
    )
    if without := log.lines - log.damaged - len(steps):
        caption += f" {without} of {log.lines} lines have no finite loss and are left out."
    caption += damaged
    return Section("Training", caption, "training", figures.png(figures.training(curves)))


def likelihood(found: Likelihoods | None, command: str) -> Section:
    """The histogram of bits or nats per dimension."""
    if found is None:
        return Section(
            "Likelihood", f"Not computed yet: {command} --mode likelihood does, and then --mode report again."
        )
    bits, unit = found.values, found.unit
    advice = f": {command} --mode likelihood mends it" if found.fault else ""
    said = f" per_image.csv {found.fault}; these are its whole rows{advice}." if found.fault else ""
    if found.not_finite:
        said += f" Computed without what is not finite: the likelihood or bound of {found.not_finite} images."
    if not len(bits):
        return Section("Likelihood", f"No image has a likelihood that is finite.{said}")
    error = bits.std(ddof=1) / np.sqrt(len(bits)) if len(bits) > 1 else float("nan")
    caption = (
        f"Negative log-likelihood of {len(bits)} images in {unit} per dimension, by the probability-flow ODE: mean"
        f" {bits.mean():.3f} ± {error:.3f}, from {bits.min():.2f} to {bits.max():.2f}. Lower is better; a long tail to"
        " the right is of images unlike the training data."
    )
    if found.bound is not None:
        caption += f" The mean bound of the reverse SDE, another model of the same score, is {found.bound.mean():.3f}."
    return Section("Likelihood", caption + said, "likelihood", figures.png(figures.likelihood(bits, found.bound, unit)))
