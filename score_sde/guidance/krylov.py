"""A few steps of Krylov solvers from 0, for a batch of systems at once, every example by its own coefficients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from score_sde.guidance.measurement import dot, times
from score_sde.typing import Array

Product = Callable[[Array], tuple[Array, Any]]
"""p [B, ...] -> (M p, and whatever linear images of p are wanted of the solution too)."""
Solver = Callable[[Product, Array, int, Callable[[Array], Array]], tuple[Array, Any]]


def conjugate_gradients(
    product: Product, b: Array, steps: int, precondition: Callable[[Array], Array] = lambda r: r
) -> tuple[Array, Any]:
    """(u, its images) after some steps for M u = b [B, ...], M symmetric positive definite; preconditioned by P ~ M^-1.

    Every step takes one product. Source: Hestenes & Stiefel 1952.
    """
    z = precondition(b)
    x, images, r, p, rz = jnp.zeros_like(b), None, b, z, dot(b, z)
    for _ in range(steps):
        Mp, more = product(p)
        a = _ratio(rz, dot(p, Mp))
        x, r = x + times(a, p), r - times(a, Mp)
        images = _add(images, a, more)
        z = precondition(r)
        rz, last = dot(r, z), rz
        p = z + times(_ratio(rz, last), p)
    return x, images


def minimal_residuals(
    product: Product, b: Array, steps: int, precondition: Callable[[Array], Array] = lambda r: r
) -> tuple[Array, Any]:
    """(u, its images) of the least residual in the Krylov space of some steps, M any with a positive symmetric part.

    GMRES' iterates by conjugate residuals. Every step takes one product. Source: Eisenstat et al. 1983.
    """
    x, images, r, taken = jnp.zeros_like(b), None, b, []
    for _ in range(steps):
        p = precondition(r)
        Mp, more = product(p)
        for q, Mq, image in taken:
            c = _ratio(dot(Mp, Mq), dot(Mq, Mq))
            p, Mp = p - times(c, q), Mp - times(c, Mq)
            more = _add(more, -c, image)
        taken.append((p, Mp, more))
        a = _ratio(dot(r, Mp), dot(Mp, Mp))
        x, r = x + times(a, p), r - times(a, Mp)
        images = _add(images, a, more)
    return x, images


SOLVERS: dict[str, Solver] = {"cg": conjugate_gradients, "gmres": minimal_residuals}


def _ratio(a: Array, b: Array) -> Array:
    """a / b, 0 where b is: the system is solved."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _add(total: Any, a: Array, more: Any) -> Any:
    scaled = jax.tree.map(lambda x: times(a, x), more)
    return scaled if total is None else jax.tree.map(jnp.add, total, scaled)
