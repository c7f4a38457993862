"""The contract of a system, which is what a run trains: parts that learn, their losses, and how samples come of them.

One training loop, one checkpoint and one log serve every system. A loss may not fall (a generator's stays near its
equilibrium): each system states its own figure.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from score_sde.sde import SDE
from score_sde.solvers.sampling import Samples
from score_sde.training.step import Params as Params
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn

Condition = Mapping[str, Array]
"""What examples are conditioned on, by name, such as {"label": int32 [B]}; {} for nothing."""


class System(Protocol):
    """What is trained; pure functions of parameters {part: tree}, so a frozen dataclass. Free of loops and files."""

    @property
    def parts(self) -> tuple[str, ...]:
        """What learns, by name; every part has its own optimizer, clip and averages."""
        ...

    @property
    def frozen(self) -> tuple[str, ...]:
        """Parts of other runs that it asks for, such as ("teacher",)."""
        ...

    def init(self, key: Array, frozen: Params) -> Params:
        """Fresh parameters {part: tree} of a key []; a student may start at its teacher's.

        frozen: such as {"teacher": the teacher's own parts}.
        """
        ...

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of every example [B] and, for the log, its terms by name [B] each.

        One loss in which every part meets only its own terms (jax.lax.stop_gradient keeps the others out). view: step,
        averages and frozen parts, which no gradient reaches. x0 [B, ...] as the data's kind encodes it; u [B] in
        [0, 1): the quantile of the example's time. training: False for held-out examples, without dropout.
        """
        ...

    def sde(self, params: Params | None = None) -> SDE:
        """The noise process: a constant, or made of parameters where the schedule is learned."""
        ...

    def score(self, params: Params, condition: Condition | None = None) -> ScoreFn:
        """The score function under a condition; ValueError where the system has none."""
        ...

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """One sample per key [B] in the network's range; pure, to be jitted."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A system that has a bound of its own on the likelihood, which --mode likelihood averages over draws."""

    @property
    def discrete(self) -> bool:
        """Whether it bounds the probability of the data as they are stored, and not a density of what is dequantised.

        Then x0 is as the data's kind encodes it without training, else as its `continuous` has it.
        """
        ...

    def bound(self, params: Params, keys: Keys, x0: Array, condition: Condition) -> tuple[Array, dict[str, Array]]:
        """The negative evidence lower bound of every example [B] in nats, and its terms by name [B] each.

        By one draw of the example's own key, without bias: of the density of x0 [B, ...] as it is given, or of the
        stored data's probability.
        """
        ...


@runtime_checkable
class Weighted(Bounded, Protocol):
    """One whose bound is the mean of a log ratio, so that several draws together bound more closely."""

    def importance_weighted(
        self, params: Params, keys: Keys, x0: Array, condition: Condition, *, samples: int
    ) -> Array:
        """-log of the mean ratio of so many draws [B], in nats: the importance-weighted bound (Burda et al. 2016)."""
        ...
