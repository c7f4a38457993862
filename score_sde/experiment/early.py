"""How much of a run's averages is still what they began with, and what to do where that is more than a little."""

import math
from collections.abc import Mapping

from score_sde.config.averages import RAW, canonical
from score_sde.training.ema import Average, WarmedUp

LITTLE = 0.01
"""The share of an average that may be what it began with and not be spoken of."""
LEVELS = (LITTLE, 0.1, 0.5)
FAR = 2**26
"""Updates beyond which no end of training is looked for."""


class Early:
    """The averages of one run, by name, the main one first, told of once per process and level of LEVELS.

    batch: examples of an update. first: the step they began at, which of an imported run is not 0. trained: whether
    they began with weights that were trained, and not with the initial network.
    """

    def __init__(self, averages: Mapping[str, Average], batch: int, first: int, trained: bool) -> None:
        self._averages, self._batch, self._first = averages, batch, first
        self._beginning = "the weights that the run began with" if trained else "the initial network"
        self._told: set[tuple[str, int]] = set()

    def share(self, step: int, average: str = "") -> float:
        """The part of the average of a name, the main one by default, that is what it began with.

        The parameters themselves have no such part, nor have widths that are put together after training.
        """
        found = self._averages.get(self._name(average))
        return 0.0 if found is None or step <= self._first else found.kept(self._first, step, self._batch)

    def summary(self, step: int, average: str = "") -> dict[str, str | float]:
        """What the settings of a result say of the average that it was made with."""
        return {"average": self._name(average), "initial_share": self.share(step, average)}

    def words(self, step: int, average: str = "") -> str:
        """For the end of a line about a result: nothing where there is little to say."""
        share = self.share(step, average)
        if share <= LITTLE:
            return ""
        return f"; {_percent(share)} of the average {self._name(average)!r} is still {self._beginning}"

    def before_training(self, step: int, last: int) -> list[str]:
        """What to say before training from one step to another: a line for each average that will not be done."""
        return [
            f"after {last} updates, {_percent(share)} of the average {name!r} will still be {self._beginning}: "
            + " or ".join((*(self._longer(name) if step else _fitting(name, last)), _raw("sampling")))
            for name in self._averages
            if (share := self.share(last, name)) > LITTLE
        ]

    def using(self, step: int, average: str = "", section: str = "sampling") -> str | None:
        """What to say where an average is sampled or evaluated; None where it was said, or need not be."""
        name, share = self._name(average), self.share(step, average)
        level = sum(share > least for least in LEVELS)
        if not level or (name, level) in self._told:
            return None
        self._told.add((name, level))
        remedies = " or ".join((_raw(section), *self._longer(name)))
        return f"at step {step}, {_percent(share)} of the average {name!r} is still {self._beginning}: {remedies}"

    def _name(self, average: str) -> str:
        return canonical(average) or next(iter(self._averages))

    def _longer(self, name: str) -> tuple[str, ...]:
        """The flag that trains on until the average is done."""
        low, high = self._first, self._first + 1
        while self.share(high, name) > LITTLE:
            low, high = high, 2 * high
            if high > FAR:
                return ()
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.share(middle, name) > LITTLE else (low, middle)
        return (f"train on to --config.training.num_steps={high}",)


def _fitting(name: str, last: int) -> tuple[str, ...]:
    """Flags of a new run under which the average of so many updates is done."""
    if name == "half_life":
        return ("add --config.ema.rampup=0.05",)
    missing = 1 - (LITTLE * (1 - 1e-9)) ** (1 / last)  # to leave LITTLE when it is rounded, too
    unit = 10.0 ** math.floor(math.log10(missing))
    decay = f"set --config.ema.decay={max(0.0, 1 - math.ceil(missing / unit) * unit):.8g}"
    done = name != "warmup" and WarmedUp(1 - 1e-9).kept(0, last, 1) <= LITTLE
    return ("add --config.ema.averages=\"('warmup',)\"",) * done + (decay,)


def _raw(section: str) -> str:
    """The flags for the parameters themselves; what training draws on its way and at its end is of the main average."""
    mode = {"sampling": "sample"}.get(section, section)
    return f"take the parameters themselves by --mode {mode} --config.{section}.average={RAW}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def short_of_warm_up(warmup: int, last: int) -> str | None:
    """What to say of a warm-up that is longer than the run."""
    if warmup <= last:
        return None
    return (
        f"optimizer.warmup={warmup} is longer than the training.num_steps={last} of the run, whose learning rate ends"
        f" at {_percent(last / warmup)} of optimizer.learning_rate: set --config.optimizer.warmup={last // 10}"
    )
