"""Too few examples, or all alike: said before training, and never a traceback behind it."""

import json

import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.loop.sufficient import check_sufficient
from score_sde.storage.workdir import Workdir
from tests.data.making import random_images
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")
SOME = random_images(80, channels=1)


def experiment_of(tmp_path, images, wanted=0, **changes):
    np.save(tmp_path / "x.npy", images)
    config = tiny_config(data__name="array", data__path=str(tmp_path / "x.npy"), training__num_steps=1, **changes)
    config.evaluation.final_samples = wanted
    config.data.num_channels = images.shape[-1]
    return build(config)


COLOURS = np.concatenate([SOME, SOME // 2, np.full_like(SOME, 7)], -1)
SAID = {
    "enough": (SOME, 80, []),
    "no figures": (SOME[:64], 0, []),
    "fewer than dimensions": (SOME[:64], 80, ["64 training examples are no more than the 64 dimensions of one"]),
    "fewer samples": (SOME, 8, ["8 samples are no more than the 64 dimensions of one"]),
    "one": (SOME[:1], 0, []),
    "constant": (np.full_like(SOME, 3), 0, ["training examples: every value is 3 (80 looked at)"]),
    "all the same": (SOME[:1].repeat(80, 0), 0, ["training examples: all pictures are the same (80"]),
    "a constant channel": (COLOURS, 0, ["training examples: channel 2 is constant (80"]),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_said(case, tmp_path):
    images, wanted, expected = SAID[case]
    lines = check_sufficient(experiment_of(tmp_path, images, wanted))
    assert len(lines) == len(expected)
    assert all(line.startswith(words) for line, words in zip(lines, expected))


def test_one_picture_is_refused_where_figures_are_asked_for_and_the_remedy_works(tmp_path):
    experiment = experiment_of(tmp_path, SOME[:1], 4)
    workdir = Workdir(tmp_path / "run")
    with pytest.raises(UsageError, match=r"^evaluation\.final_samples=4 compares .* set evaluation\.final_samples=0"):
        modes.train(experiment.config, workdir)
    assert not workdir.path.exists()
    experiment.config.evaluation.final_samples = 0
    assert modes.train(experiment.config, workdir) == 0


@pytest.mark.parametrize("images, held_out", [(SOME[:3], 1), (np.zeros_like(SOME[:3]), 0)], ids=["few", "constant"])
def test_a_run_on_few_or_equal_pictures_ends_well(images, held_out, tmp_path):
    """With figures, held-out losses and a batch larger than the set."""
    changes = {"data__held_out": held_out, "evaluation__every": held_out}
    experiment = experiment_of(tmp_path, images, 4, **changes)
    assert modes.train(experiment.config, Workdir(tmp_path / "run")) == 0
    figures = json.loads((tmp_path / "run" / "evaluation" / "final_00000001.json").read_text())
    assert np.isfinite(figures["frechet_distance"])
