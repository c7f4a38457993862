"""The training state as it was before states had parts: one tree of parameters, averages and optimizer state."""

from score_sde.training.step import TrainState


def unwrapped(state: TrainState) -> TrainState:
    """A state of one part in the layout of before."""
    (part,) = state.params
    averages = {name: tree[part] for name, tree in state.averages.items()}
    return TrainState(state.step, state.params[part], averages, state.optimizer[part])


def wrapped(state: TrainState, part: str) -> TrainState:
    """A state of that layout as one of the part of this name."""
    averages = {name: {part: tree} for name, tree in state.averages.items()}
    return TrainState(state.step, {part: state.params}, averages, {part: state.optimizer})
