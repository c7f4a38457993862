"""A trained run of tokens as one page: samples by how many are unmasked at once, the training, the bound."""

import io
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from score_sde.evaluation.likelihoods import TABLE, own_columns
from score_sde.evaluation.per_image import PerImage
from score_sde.experiment import Experiment
from score_sde.experiment.building import reconfigured
from score_sde.experiment.generation import Generator
from score_sde.reporting import sections
from score_sde.reporting.page import Section, Table
from score_sde.reporting.records import log
from score_sde.reporting.report import INDEX, facts, report, write
from score_sde.storage.images import grid, strips
from score_sde.storage.workdir import Workdir
from score_sde.systems import Masked

STEPS = (1, 4, 16, 64)
"""Steps that samples are drawn in, beside the config's own."""
SHOWN = 8
"""Samples of each."""


def report_for(experiment: Experiment) -> Callable[..., pathlib.Path]:
    """What makes the page about a run: of tokens `report_of_tokens`, else `report.report`."""
    return report_of_tokens if isinstance(experiment.system, Masked) else report


def report_of_tokens(experiment: Experiment, params: Any, step: int, workdir: Workdir, command: str) -> pathlib.Path:
    """Draw samples with these parameters, write the page and return its path; an earlier one is replaced.

    step: of the checkpoint. command: the run's command line without a mode. All processes of a run call this; the first
    one writes.
    """
    own = experiment.config.sampling.num_steps
    drawn = {steps: _drawn(experiment, params, steps) for steps in sorted({*STEPS, own})}
    parts = [_samples(experiment, drawn), sections.training(log(workdir.metrics)), _bound(workdir, command)]
    if jax.process_index() == 0:
        numbers = {"step": step, "samples": {str(steps): x.tolist() for steps, x in drawn.items()}}
        about = facts(experiment, params, step, workdir)
        del about["SDE"]
        write(workdir, experiment, about, parts, numbers, {"step": step})
    return workdir.report / INDEX


def _drawn(experiment: Experiment, params: Any, steps: int) -> np.ndarray:
    """The first samples [SHOWN, ...] in so many steps."""
    config = experiment.config.copy_and_resolve_references()
    config.sampling.num_steps = steps
    return Generator(reconfigured(experiment, config))(params, SHOWN, show=False).x


def _samples(experiment: Experiment, drawn: dict[int, np.ndarray]) -> Section:
    """The same samples in ever more steps, as texts or as strips of colours."""
    caption = (
        f"{SHOWN} samples each, of sampling.seed={experiment.config.sampling.seed}, in ever more steps. Tokens that one"
        " step unmasks are drawn independently of one another, so few steps break what belongs together; with as many"
        " steps as tokens or more there is little of that left."
    )
    if experiment.spec.texts(drawn[STEPS[0]]) is None:
        picture, png = grid(np.concatenate([strips(x) for x in drawn.values()]), 1), io.BytesIO()
        picture.save(png, "png")
        order = ", ".join(map(str, drawn))
        caption += f" From top to bottom {SHOWN} strips of {order} steps; a colour is a token."
        return Section("Samples", caption, "samples", png.getvalue())
    shown = lambda text: text.replace("\n", " ↵ ")
    rows = [(str(steps), shown(text)) for steps, x in drawn.items() for text in experiment.spec.texts(x) or ()]
    return Section("Samples", caption, table=Table(("steps", "text"), rows))


def _bound(workdir: Workdir, command: str) -> Section:
    """The bound of held-out examples, as --mode likelihood has found it."""
    table = PerImage(workdir.path / "likelihood" / TABLE, own_columns("nats", (), False))
    rows = table.rows() if table.path.exists() else np.zeros((0, 1))
    values = rows[np.isfinite(rows[:, 1]), 1] if len(rows) else rows[:, 0]
    if not len(values):
        return Section(
            "Likelihood", f"Not computed yet: {command} --mode likelihood does, and then --mode report again."
        )
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    caption = (
        f"The bound on the negative log-likelihood of {len(values)} examples, nats of a token: {values.mean():.4f} +-"
        f" {error:.4f}, which is a perplexity of {np.exp(values.mean()):.3f} or less. It is of few masks and times for"
        " each example, so a lone one's value means little."
    )
    return Section("Likelihood", caption)
