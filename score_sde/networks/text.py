"""What a U-Net is told of a text: rows of an encoder of its own, which the pixels of chosen levels ask.

Source: Rombach et al. 2022, section 3.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from score_sde.names import EMBEDDINGS, MASK, TOKENS
from score_sde.networks.layers import Dtype
from score_sde.networks.transformer import TextEncoder
from score_sde.typing import Array


@dataclass(frozen=True)
class Text:
    """condition["tokens"] int32 [B, L] of 0 .. vocabulary - 1, or with vocabulary 0 condition["embeddings"] [B, L, E].

    condition["mask"], bool [B, L], says which of them are there; left out, all. A text of which nothing is there is the
    null token alone. resolutions: the levels with cross-attention, by their shortest side in pixels. width, layers: of
    the encoder (TextEncoder); heads: of it and of the cross-attention. The module is made in the caller's scope.
    """

    resolutions: tuple[int, ...]
    vocabulary: int = 0
    width: int = 64
    layers: int = 2
    heads: int = 4
    positions: bool = True

    def encode(self, condition: Mapping[str, Array], dtype: Dtype) -> tuple[Array, Array]:
        """The rows [B, 1 + L, width] and which are there; ValueError where the condition has no text."""
        name = TOKENS if self.vocabulary else EMBEDDINGS
        if name not in condition:
            raise ValueError(f"the network reads {name} and was given none: pass condition={{{name!r}: [B, L, ...]}}")
        fields = (self.vocabulary, self.width, self.layers, self.heads, self.positions, dtype)
        return TextEncoder(*fields, name="text")(condition[name], condition.get(MASK))

    def asked_by(self, h: Array) -> bool:
        """Whether features h [B, *space, C] are of a chosen level."""
        return min(h.shape[1:-1]) in self.resolutions
