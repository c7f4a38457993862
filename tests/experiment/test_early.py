"""What is said of averages that are still what they began with: when, how often, and that its remedies work."""

import re

import pytest

from score_sde.config.averages import stored_names
from score_sde.experiment import objects
from score_sde.experiment.early import LITTLE, Early, short_of_warm_up
from tests.tiny import tiny_config


def early(first: int = 0, trained: bool = False, **changes) -> Early:
    config = tiny_config(**{f"ema__{name}": value for name, value in changes.items()})
    return Early(objects.averages(config), 16, first, trained)


def test_the_share_of_a_constant_average_is_a_power_of_its_decay():
    found = early(averages=("constant", "warmup", "power"), decay=0.9999)
    assert found.share(300) == found.share(300, "constant") == 0.9999**300
    assert [found.share(300, name) for name in ("raw", "power_0.050", "power_0.070")] == [0, 0, 0]
    assert found.share(300, "warmup") < 1e-9
    assert found.summary(300, "power_0.05") == {"average": "power_0.050", "initial_share": 0}
    assert found.words(300) == "; 97 % of the average 'constant' is still the initial network"
    assert found.words(300, "raw") == ""


@pytest.mark.parametrize("last", [1, 2, 3, 10, 300, 5000, 100_000])
@pytest.mark.parametrize("kind", ["constant", "warmup", "half_life"])
def test_remedies_before_training_leave_less_than_is_spoken_of(kind, last):
    """Every field that they name, set alone, leaves a hundredth at most; a decay as few digits as may be."""
    slow = {"averages": (kind,), "decay": 0.999999, "half_life": 10**9, "rampup": -1.0}
    lines = early(**slow).before_training(0, last)
    if kind == "warmup" and last > 3:
        assert not lines
        return
    assert len(lines) == 1 and f"after {last} updates" in lines[0] and "sampling.average=raw" in lines[0]
    fields = re.findall(r"--config\.ema\.(\w+)=([^\s:]+)", lines[0].replace('"', ""))
    assert fields
    for name, value in fields:
        assert early(**{**slow, name: eval(value)}).share(last) <= LITTLE, (name, value)


def test_a_decay_that_fits_has_one_digit():
    (line,) = early(averages=("constant",), decay=0.9999).before_training(0, 300)
    assert line == (
        "after 300 updates, 97 % of the average 'constant' will still be the initial network: add"
        " --config.ema.averages=\"('warmup',)\" or set --config.ema.decay=0.98 or take the parameters themselves by"
        " --mode sample --config.sampling.average=raw"
    )


def test_a_run_that_goes_on_is_told_when_its_average_is_done():
    """0.999^4603 is the first power below a hundredth."""
    (line,) = early(averages=("constant",), decay=0.999).before_training(100, 200)
    assert "train on to --config.training.num_steps=4603 or take" in line and "decay=" not in line
    assert not early(averages=("constant",), decay=0.999).before_training(100, 4603)


def test_samples_are_told_of_once_a_level():
    found = early(averages=("constant",), decay=0.99)
    said = [found.using(step) for step in (10, 20, 100, 200, 250, 300, 400, 500)]
    assert [bool(line) for line in said] == [True, False, True, False, True, False, False, False]
    assert said[0] == (
        "at step 10, 90.4 % of the average 'constant' is still the initial network: take the parameters themselves by"
        " --mode sample --config.sampling.average=raw or train on to --config.training.num_steps=459"
    )
    other = early(averages=("constant",), decay=0.99).using(10, section="likelihood")
    assert other is not None and "--mode likelihood --config.likelihood.average=raw" in other


def test_weights_that_were_trained_elsewhere_are_no_fault_before_they_are_trained_on():
    found = early(first=1000, trained=True, averages=("constant",), decay=0.999)
    assert found.share(1000) == 0 and found.using(1000) is None
    assert "90.5 % of the average 'constant' is still the weights that the run began with" in (found.using(1100) or "")


def test_an_average_that_never_forgets_has_no_end():
    (line,) = early(averages=("constant",), decay=1 - 1e-9).before_training(5, 10)
    assert "num_steps" not in line and "sampling.average=raw" in line


def test_a_warm_up_longer_than_the_run():
    assert short_of_warm_up(5000, 5000) is None
    assert short_of_warm_up(5000, 300) == (
        "optimizer.warmup=5000 is longer than the training.num_steps=300 of the run, whose learning rate ends at 6 % of"
        " optimizer.learning_rate: set --config.optimizer.warmup=30"
    )


def test_the_names_are_those_of_the_config():
    config = tiny_config(ema__averages=("half_life", "power"))
    assert early(averages=("half_life", "power")).summary(1)["average"] == stored_names(config)[0]
