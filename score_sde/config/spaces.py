"""The axes of an example: which are of space, and which is of channels. Free of jax."""

from score_sde.errors import require

RANKS = {1: 1, 2: 2, 3: 2, 4: 3}
"""Axes of space by how many an example has, where data.rank does not say it: (L,), [H, W], [H, W, C], [D, H, W, C]."""


def space_rank(shape: tuple[int, ...], rank: int = 0) -> int:
    """How many axes of an example are of space. rank: data.rank, 0 to go by the shape; 0 for what has none."""
    return rank or RANKS.get(len(shape), 0)


def image_shape(shape: tuple[int, ...], rank: int = 0) -> tuple[int, ...]:
    """What networks of images are shown of data of a shape: with one channel more where all its axes are of space."""
    return (*shape, 1) if len(shape) == space_rank(shape, rank) else shape


def channels(shape: tuple[int, ...], rank: int = 0) -> int:
    """The number of channels of examples: the last axis where it is not of space, else one."""
    return image_shape(shape, rank)[-1] if space_rank(shape, rank) else 1


def check_space(shape: tuple[int, ...], rank: int) -> None:
    """UsageError for a data.rank that an example's axes do not have."""
    require(
        rank == 0 or len(shape) in (rank, rank + 1),
        f"data.rank={rank} and one example has the shape {shape}: it has {rank} axes, or {rank + 1} with the channels"
        " last; leave data.rank at 0 to go by the shape",
    )
