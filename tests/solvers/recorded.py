"""Runs of a solver over a recorded grid, with recorded noise, every state kept."""

import jax
import jax.numpy as jnp

from score_sde.sde import SDE
from score_sde.solvers import Solver
from score_sde.typing import Array, ScoreFn


def trajectory(solver: Solver, sde: SDE, score: ScoreFn, x: Array, times: Array, *noise: Array | None) -> Array:
    """x at every node [N + 1, B, ...]; noise [N, B, ...] for the solvers that draw it, as often as they do."""

    @jax.jit
    def run(x, times, noise):
        def body(carry, inputs):
            x, memory = carry
            t, s, z = inputs
            if hasattr(solver, "given"):
                step = solver.given(sde, score, x, t, s, memory, *(jnp.broadcast_to(one, x.shape) for one in z))
            else:
                step = solver.step(None, sde, score, x, t, s, memory)
            return (step.x, step.memory), step.x

        _, states = jax.lax.scan(body, (x, solver.init(sde, x, times)), (times[:-1], times[1:], noise))
        return jnp.concatenate([x[None], states])

    x, times = jnp.asarray(x), jnp.asarray(times)
    return run(x, times, tuple(jnp.asarray(z) for z in noise if z is not None) or (jnp.zeros(len(times) - 1),))
