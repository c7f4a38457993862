"""What one forward pass of a U-Net carries along, and what it makes its blocks of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn

from score_sde.networks.layers import Names, fold_in
from score_sde.typing import Array, Keys


@dataclass
class Pass:
    """Counted names, the embedding [B, 4 nf], dropout keys, style [B, S], a text's rows [B, L, E] and mask [B, L]."""

    temb: Array | None
    dropout_keys: Keys | None
    style: Array | None = None
    text: tuple[Array, Array] | None = None
    names: Names = field(default_factory=Names)
    blocks: int = 0

    def next_block(self) -> int:
        """The number of the next residual block, from 1 on."""
        self.blocks += 1
        return self.blocks

    def beside(self, number: Any) -> tuple[Array | None, Keys | None, Array | None]:
        """What that block is given beside its input: the embedding, its dropout keys [B], the style."""
        return self.temb, None if self.dropout_keys is None else fold_in(self.dropout_keys, number), self.style


class Block(NamedTuple):
    """The published name of a kind of block, without its number, and what makes a module of it.

    given: what it is called with beside the features, where it is no residual block.
    """

    kind: str
    make: Callable[..., nn.Module]
    given: tuple[Any, ...] = ()
