"""What does not go together of waveforms, their frames and their few steps is refused with the remedy."""

import pathlib

import pytest

from score_sde.config import load
from score_sde.config.system_checks import check_mode
from score_sde.config.validation import validate
from score_sde.errors import UsageError

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
REFUSED = [  # of configs/wavegrad.py changes, and what the sentence must hold
    ({"data.length": 0}, ["data.length=0", "such as 7200"]),
    ({"data.length": 7201}, ["data.length=7201 is no multiple of data.hop=300"]),
    ({"data.hop": 150}, ["network.factors=(5, 5, 3, 2, 2) make 300 samples", "data.hop=150"]),
    ({"data.rate": 0}, ["data.rate=0", "give samples per second"]),
    ({"data.name": "array"}, ["data.length=7200", "has no effect on 'array'"]),
    ({"data.condition": ()}, ["has no effect without frames"]),
    ({"network.name": "ddpm"}, ["data.condition contains 'frames'"]),
    ({"network.up_widths": (512, 512)}, ["up_widths=(512, 512)", "one entry per block"]),
    ({"parametrization.label": "level", "training.times": "levels"}, ["set it to 'alpha'"]),
    ({"training.times": "levels"}, ["'alpha'", "'between_levels'"]),
    ({"sde.discrete": False}, ["training.times='between_levels'", "set sde.discrete=True"]),
    ({"sde.name": "ve"}, ["'between_levels' is of alpha", "sde.name='ve'"]),
    ({"sampling.times": "uniform"}, ["sampling.betas", "have no effect"]),
    ({"sampling.num_steps": 6}, ["sampling.num_steps=6", "set them to 5 and True"]),
    ({"sampling.betas": (0.5, 1.0)}, ["give two or more numbers in (0, 1)"]),
    ({"sampling.reference": True, "sampling.solver": "ddim"}, ["set them to 'ancestral' and 'noise'"]),
    ({"sampling.length": 14_400, "sampling.reference": True}, ["sampling.length=14400", "set it to False"]),
    ({"sampling.length": 14_400, "guidance.threshold": "static"}, ["sampling.length=14400", "not guided"]),
    ({"training.objective": "variational"}, ["training.objective='variational'", "choose 'denoising'"]),
]


def test_longer_signals_are_not_compared_with_the_data():
    config = load(str(CONFIGS / "wavegrad.py"))
    config.sampling.length = 14_400
    check_mode(config, "sample")
    with pytest.raises(UsageError, match=r"sampling\.length=14400 draws longer signals"):
        check_mode(config, "report")


@pytest.mark.parametrize(
    ("changes", "words"), REFUSED, ids=lambda value: " ".join(value) if type(value) is dict else ""
)
def test_what_does_not_go_together_is_refused_with_the_remedy(changes, words):
    config = load(str(CONFIGS / "wavegrad.py"))
    validate(config)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UsageError) as error:
        validate(config)
    assert all(word in str(error.value) for word in words), error.value
