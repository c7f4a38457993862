"""The names of folders of samples, and the settings that tell them apart."""

import hashlib
import pathlib
import re
from typing import Any

from score_sde.config import Config
from score_sde.config.editing_checks import is_edited
from score_sde.config.guidance_checks import is_neutral, strength
from score_sde.experiment.captions import word
from score_sde.experiment.experiment import Experiment
from score_sde.storage.workdir import Workdir


def samples_name(sampling: Config, guidance: Config, guide: str = "") -> str:
    """The name of the folder of these samples: the fields that one compares; settings.json has them all."""
    c, g = sampling, guidance
    name = f"{'reference-' * c.reference}{c.solver}-{c.num_steps}-seed{c.seed}"
    label = "_".join(re.findall(r"[\w.]+", c.label))
    label = label if len(label) < 80 else hashlib.sha256(label.encode()).hexdigest()[:16]
    name += (f"-{c.average}" if c.average else "") + (f"-label_{label}" if label else "")
    name += f"-caption_{word(c.caption)}" if c.caption else ""
    name += f"-frames_{word(c.condition)}" if c.condition else ""
    name += f"-length{c.length}" if c.length else ""
    name += f"-points_{'_'.join(re.findall(r'[0-9a-z]+', c.points))}" if c.points else ""
    if strength(g) != 1:
        name += f"-guided{strength(g):g}" + (f"_by_{_word(guide)}" if guide else "")
    name += f"-classifier{g.classifier_scale:g}" if g.classifier_scale else ""
    name += f"-{_word(g.log_prob)}{g.log_prob_scale:g}" if g.log_prob else ""
    name += "-levels" + "_".join(f"{level:g}" for level in g.interval) if g.interval else ""
    return (
        name + (f"-rescaled{g.rescale:g}" if g.rescale else "") + (f"-{g.threshold}" if g.threshold != "none" else "")
    )


def _word(path: str) -> str:
    """The end of a path as a word of a folder's name."""
    return re.sub(r"[^\w.]+", "_", pathlib.PurePath(path).name)[-40:]


def samples_folder(experiment: Experiment, workdir: Workdir) -> pathlib.Path:
    """Where a run's samples by its config's fields are."""
    c = experiment.config
    return workdir.samples / (samples_name(c.sampling, c.guidance, c.frozen.guide) + answering(experiment))


def answering(experiment: Experiment) -> str:
    """What the folder's name says of the measurements that samples answer: the operator, the method, which file.

    Of examples that are edited: how, up to which time, which file.
    """
    c, asked, drawing = experiment.config, experiment.asked, experiment.drawing
    if asked is None:
        return ""
    several = f"particles{c.guidance.particles}" if c.guidance.particles > 1 else ""
    if is_edited(c):
        repeats = f"repeats{c.editing.repeats}" if c.editing.repeats > 1 else ""
        parts = (c.editing.name, f"{c.editing.time:g}", repeats)
    elif experiment.degradation is not None:
        parts = (c.degradation.name, f"level{c.degradation.level:g}" if c.degradation.level else "")
    else:
        parts = (c.measurement.name, drawing.method, several)
    return "".join(f"-{part}" for part in (*parts, asked.digest[:8]) if part)


def settings_of(experiment: Experiment, step: int | None) -> dict[str, Any]:
    """What tells samples from others: fields, the checkpoint, and what auto stood for."""
    choice, guidance, asked = experiment.drawing.choice, experiment.config.guidance, experiment.asked
    chosen: dict[str, Any] = experiment.spec.told | ({} if choice is None else {"auto": choice.words()})
    chosen |= {"rate": rate} if (rate := experiment.config.data.rate) else {}
    if asked is not None:
        section = "editing" if is_edited(experiment.config) else "measurement"
        chosen |= {section: experiment.config[section].to_dict(), f"{section}_sha256": asked.digest}
        chosen |= {"posterior_score": experiment.drawing.method} if section == "measurement" else {}
    if experiment.degradation is not None:
        chosen["level"] = experiment.config.degradation.level
    if asked is not None or not is_neutral(guidance):
        chosen["guidance"] = guidance.to_dict()
        if parts := experiment.drawing.parts:
            chosen["frozen"] = {part: found.record._asdict() for part, found in parts.items()}
    return {"sampling": experiment.config.sampling.to_dict(), "step": step, **chosen}
