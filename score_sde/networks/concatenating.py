"""Networks that are shown a picture beside x: its channels joined to x's, and how noisy it has been made.

Source: Saharia et al. 2021 (SR3); Saharia et al. 2022 (Palette); Dhariwal & Nichol 2021, section 6; Ho et al. 2022
(cascades), section 4.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.contract import check_choices
from score_sde.networks.layers import positional_embedding
from score_sde.typing import Array

METHODS = ("bicubic", "bilinear", "nearest")


class Concatenating(nn.Module):
    """x [B, H, W, C] and condition["image"] [B, h, w, c] -> the network of both, [B, H, W, C + c] -> [B, H, W, ...].

    The image is resized to H and W. first: whether its channels come before x's, as of SR3 and Palette, or behind them,
    as of ADM. method: bicubic (SR3), bilinear with half-pixel centres (ADM) or nearest. told: of how many numbers the
    level of the image's own noise, condition["level"] [B], is embedded for the network's "augment" input; 0 where it
    has none. The network's out_channels are x's C, which it cannot know. Images of x's range, and of zero mean if x has
    it. Raises ValueError for an image that is not [B, h, w, c], one that is missing, and a level that is.
    """

    network: nn.Module
    first: bool = False
    method: str = "bicubic"
    told: int = 0

    def __post_init__(self) -> None:
        check_choices(self, {"method": METHODS})
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Array | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        given = dict(condition or {})
        if "image" not in given or (self.told and "level" not in given):
            raise ValueError(
                f"the condition has {sorted(given)}: it needs an image [B, h, w, c], and a level if told > 0"
            )
        image = resized(given.pop("image"), x.shape, self.method)
        level = given.pop("level", None)
        if self.told and level is not None:
            given["augment"] = positional_embedding(1000 * level, self.told)
        both = [image.astype(x.dtype), x] if self.first else [x, image.astype(x.dtype)]
        more: dict[str, Any] = {"condition": given} if given else {}
        return self.network(jnp.concatenate(both, axis=-1), label, sigma, dropout_keys, **more)  # pyright: ignore[reportCallIssue]


def resized(image: Array, shape: tuple[int, ...], method: str) -> Array:
    """The image [B, h, w, c] with the height and width of a shape (B, H, W, C), itself where it has them.

    Raises ValueError for another number of axes or of examples.
    """
    if image.ndim != 4 or len(image) != shape[0]:
        raise ValueError(
            f"the image has shape {image.shape}: beside examples of shape {shape} give [{shape[0]}, h, w, c]"
        )
    if image.shape[1:3] == shape[1:3]:
        return image
    name = {"bicubic": "cubic", "bilinear": "linear", "nearest": "nearest"}[method]
    return jax.image.resize(image, (*image.shape[:1], *shape[1:3], image.shape[-1]), name)
