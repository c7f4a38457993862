"""The figures of a report, drawn by matplotlib's objects from arrays alone: no global state, no display."""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from score_sde.evaluation.spectrum import Spectrum

WIDTH, DPI = 7.6, 150
"""Inches, and pixels per inch."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
"""Okabe and Ito's, told apart by most colour-blind readers."""
MARKERS = "osD^vP*X"

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "lines.markersize": 4,
}


class Cell(NamedTuple):
    """A strip of samples uint8 [H, W] or [H, W, 3] and the evaluations that one took."""

    picture: np.ndarray
    evaluations: float


class Point(NamedTuple):
    """A solver's distance with its standard error, by evaluations and by seconds per image."""

    evaluations: float
    seconds: float
    distance: float
    error: float


class Strip(NamedTuple):
    """Pictures side by side, with what stands above each and to the left of all."""

    label: str
    pictures: Sequence[np.ndarray]
    titles: Sequence[str]


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def _figure(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A white figure and its axes [rows, columns], in the project's style."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _picture(axes: Axes, picture: np.ndarray | None) -> None:
    """A picture without axes; an empty place where there is none."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if picture is not None:
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)


def samples(rows: Mapping[str, Mapping[int, Cell]], budgets: Sequence[int]) -> Figure:
    """Solvers below one another, budgets of evaluations side by side; the same seeds everywhere."""
    pictures = [cell.picture for cells in rows.values() for cell in cells.values()]
    ratio = max(p.shape[0] / p.shape[1] for p in pictures)
    height = len(rows) * (ratio * (WIDTH - 1.2) / len(budgets) + 0.28) + 0.2
    figure, axes = _figure(len(rows), len(budgets), height)
    for line, (name, cells) in zip(axes, rows.items()):
        for place, budget in zip(line, budgets):
            cell = cells.get(budget)
            _picture(place, cell.picture if cell else None)
            if cell:
                place.set_title(f"{cell.evaluations:.0f} evaluations", fontsize=8, pad=3)
        line[0].set_ylabel(name.replace("_", "\n_", 1) if len(name) > 12 else name, rotation=0, ha="right", va="center")
    return figure


def strips(lines: Sequence[Strip]) -> Figure:
    """Strips of pictures below one another."""
    columns = max(len(line.pictures) for line in lines)
    ratio = max(p.shape[0] / p.shape[1] for line in lines for p in line.pictures)
    above = sum(0.36 if any(line.titles) else 0.1 for line in lines)
    figure, axes = _figure(len(lines), columns, len(lines) * ratio * (WIDTH - 1.2) / columns + above)
    for row, line in zip(axes, lines):
        for place, picture, title in zip(row, line.pictures, line.titles):
            _picture(place, picture)
            place.set_title(title, fontsize=7, pad=2)
        row[0].set_ylabel(line.label, rotation=0, ha="right", va="center")
    return figure


def distances(
    solvers: Mapping[str, Sequence[Point]],
    references: Mapping[str, float],
    features: str = "pixel",
    time: str = "milliseconds per image, compiled",
) -> Figure:
    """Fréchet distance against evaluations and against seconds per image, with standard errors and reference lines.

    features: what the distance is of. time: what the seconds are, shown in milliseconds.
    """
    figure, ((left, right),) = _figure(1, 2, 3.7, sharey=True)
    for (name, points), colour, marker in zip(solvers.items(), itertools.cycle(COLOURS), itertools.cycle(MARKERS)):
        for axes, xs in ((left, [p.evaluations for p in points]), (right, [1000 * p.seconds for p in points])):
            axes.errorbar(
                xs,
                [p.distance for p in points],
                yerr=_within([p.distance for p in points], [p.error for p in points]),
                color=colour,
                marker=marker,
                capsize=2,
                linewidth=1.2,
                label=name if axes is left else None,
            )
    for (name, value), style in zip(references.items(), ("--", ":")):
        for axes in (left, right):
            axes.axhline(value, color="black", linestyle=style, linewidth=1, label=name if axes is left else None)
    left.set(xlabel="network evaluations per sample", ylabel=f"{features} Fréchet distance", xscale="log", yscale="log")
    right.set(xlabel=time, xscale="log")
    _plain(left.xaxis, right.xaxis, left.yaxis)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _within(values: Sequence[float], errors: Sequence[float]) -> np.ndarray:
    """Errors down and up [2, N] that leave a logarithmic axis something to show."""
    v, e = np.asarray(values), np.asarray(errors)
    return np.stack([np.minimum(e, 0.9 * np.abs(v)), e])


def _plain(*logarithmic: Axis) -> None:
    """Ticks of logarithmic axes at 1, 2 and 5 times powers of ten, written out."""
    for axis in logarithmic:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


Estimate = tuple[np.ndarray, np.ndarray]
"""Means and standard errors [K]."""


def noise_levels(t: np.ndarray, log_snr: np.ndarray, norm: Estimate, loss: Estimate, total: Estimate) -> Figure:
    """Score norm, loss and their sum against t and against the log-SNR."""
    figure, ((left, right),) = _figure(1, 2, 3.3, sharey=True)
    lines = ((r"$|\sigma s|^2/D$", norm, "o"), (r"$|\sigma s + z|^2/D$", loss, "s"), ("their sum", total, "D"))
    for axes, xs in ((left, t), (right, log_snr)):
        for (label, (value, error), marker), colour in zip(lines, COLOURS):
            name = label if axes is left else None
            axes.errorbar(
                xs, value, yerr=error, color=colour, marker=marker, markersize=3, capsize=2, linewidth=1, label=name
            )
        axes.axhline(1, color="black", linestyle="--", linewidth=1)
    left.set(xlabel="t", ylabel="mean over held-out images")
    if t.max() > 1:
        left.set_xscale("log")
    right.set(xlabel=r"log-SNR  $\log(\alpha^2/\sigma^2)$", ylim=(0, None))
    right.invert_xaxis()
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def spectra(own: Mapping[str, Spectrum], data: Spectrum) -> Figure:
    """Power against the wavenumber, and over the data's, with standard errors."""
    figure, ((left, right),) = _figure(1, 2, 3.3)
    left.plot(data.wavenumber[1:], data.mean[1:], color="black", linestyle="--", linewidth=1, label="training data")
    for (name, found), colour, marker in zip(own.items(), COLOURS, MARKERS):
        style = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 1, "capsize": 2}
        left.errorbar(found.wavenumber[1:], found.mean[1:], yerr=found.error[1:], **style, label=name)
        right.errorbar(found.wavenumber, found.mean / data.mean, yerr=found.error / data.mean, **style)
    right.axhline(1, color="black", linestyle="--", linewidth=1)
    left.set(xlabel="wavenumber", ylabel="power", xscale="log", yscale="log")
    right.set(xlabel="wavenumber", ylabel="power over the data's")
    _plain(left.xaxis)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def rate_distortion(rate: Estimate, distortion: Estimate, unit: str) -> Figure:
    """Root mean squared error against bits per dimension, both with their standard errors [K]."""
    figure, ((axes,),) = _figure(1, 1, 3.3)
    (bits, bits_error), (value, error) = rate, distortion
    axes.errorbar(bits, value, yerr=error, xerr=bits_error, color=COLOURS[0], marker="o", markersize=3, linewidth=1)
    axes.set(xlabel="rate in bits per dimension", ylabel=f"root mean squared error, {unit}", ylim=(0, None))
    return figure


def likelihood(values: np.ndarray, bound: np.ndarray | None = None, unit: str = "bits") -> Figure:
    """A histogram of the ODE's bits or nats per dimension [N], and of the SDE's bound where it is known."""
    figure, ((axes,),) = _figure(1, 1, 3.0)
    ode, sde = "probability-flow ODE", "bound of the SDE"
    sets = {ode: values} if bound is None else {ode: values, sde: bound}
    edges = np.histogram_bin_edges(np.concatenate(list(sets.values())), bins=min(40, max(5, len(values) // 4)))
    for (name, own), colour in zip(sets.items(), COLOURS):
        axes.hist(own, edges, color=colour, alpha=0.6, label=f"{name}: mean {own.mean():.3f}")
        axes.axvline(own.mean(), color=colour, linestyle="--", linewidth=1)
    axes.set(xlabel=f"{unit} per dimension of an image", ylabel="images")
    axes.legend(fontsize=8, frameon=False)
    return figure


def training(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """The losses and the gradient norm, (steps, values) by the names of metrics.jsonl."""
    figure, ((left, right),) = _figure(1, 2, 3.0)
    losses = [name for name in curves if name == "loss" or name.startswith("held_out_loss")]
    for axes, names in ((left, losses), (right, [name for name in ("gradient_norm",) if name in curves])):
        for name, colour in zip(names, COLOURS):
            marker = "" if len(curves[name][0]) > 40 else "."
            axes.plot(*curves[name], color=colour, marker=marker, linewidth=1.2, label=name)
        axes.set(xlabel="step")
        if names:
            axes.legend(fontsize=8, frameon=False)
        if names and min(curves[name][1].min() for name in names) > 0:
            axes.set_yscale("log")
            _plain(axes.yaxis)
    return figure
