"""What certifies every solver: all SDEs and several grids in one compiled program, and exact answers."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from score_sde.scores.posterior import Large
from score_sde.sde import SDE
from score_sde.sde.analytic import Mixture
from score_sde.solvers import (
    DDIM,
    Ancestral,
    AncestralNoise,
    Churned,
    Data,
    DPMSolverMultistep,
    DPMSolverSDE,
    DPMSolverSinglestep,
    Euler,
    EulerMaruyama,
    ExponentialAdams,
    Heun,
    LinearMultistep,
    Noise,
    ReverseDiffusion,
    Solver,
    UniPC,
    UniPCVaryCoeff,
)
from tests.golden_files import load
from tests.oracles import FLOWING, recorded_law

COUNTS = (256, 512)
"""Steps whose errors are compared: enough for the highest order to show."""

R_FIRST, R_LAST = 4.0, 0.25
"""sigma / alpha at both ends: in between the mixture falls apart into its components."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OneOf(SDE):
    """The SDE of FLOWING with a number: a program over the numbers is compiled once for all of them."""

    index: jax.Array
    T: float = 1.0

    def _of(self, name, *arguments):
        values = [getattr(sde, name)(*arguments) for sde in FLOWING.values()]
        return sum(jnp.where(self.index == i, v, jnp.zeros_like(v)) for i, v in enumerate(values))

    def drift(self, x, t):
        return self._of("drift", x, t)

    def diffusion(self, t):
        return self._of("diffusion", t)

    def alpha(self, t):
        return self._of("alpha", t)

    def sigma(self, t):
        return self._of("sigma", t)

    def log_snr(self, t):
        return self._of("log_snr", t)

    def time(self, log_snr):
        return self._of("time", log_snr)

    @property
    def prior_std(self):
        return 1.0


DETERMINISTIC: dict[str, tuple[Solver, float]] = {
    "Euler": (Euler(), 1),
    "Heun": (Heun(), 2),
    "Midpoint": (Heun(0.5), 2),
    "DDIM": (DDIM(), 1),
    "DPM-Solver-2": (DPMSolverSinglestep(2, Noise()), 2),
    "DPM-Solver-3": (DPMSolverSinglestep(3, Noise()), 3),
    "DPM-Solver-3, Taylor": (DPMSolverSinglestep(3, Noise(), taylor=True), 3),
    "DPM-Solver++(2S)": (DPMSolverSinglestep(2), 2),
    "DPM-Solver++(3S)": (DPMSolverSinglestep(3), 3),
    "DPM-Solver multistep 2": (DPMSolverMultistep(2, Noise()), 2),
    "DPM-Solver multistep 3": (DPMSolverMultistep(3, Noise()), 2),
    "DPM-Solver++(2M)": (DPMSolverMultistep(2), 2),
    "DPM-Solver++(3M)": (DPMSolverMultistep(3), 2),
    "DEIS 2": (ExponentialAdams(2), 2),
    "DEIS 3": (ExponentialAdams(3), 3),
    "LMS 3, sigma": (LinearMultistep(3), 3),
    "LMS 4, sigma": (LinearMultistep(4), 4),
    "LMS 4, log sigma": (LinearMultistep(4, log_sigma=True), 4),
    "UniPC 2, bh1": (UniPC(2, exponential=False, lower_final=False), 3),
    "UniPC 2, bh2": (UniPC(2, lower_final=False), 3),
    "UniPC 3": (UniPC(3, lower_final=False), 4),
    "UniPC 3, noise": (UniPC(3, Noise(), lower_final=False), 4),
    "UniPC 2, vary_coeff": (UniPCVaryCoeff(2, lower_final=False), 1),
    "UniPC 3, vary_coeff": (UniPCVaryCoeff(3, lower_final=False), 1),
    "Exponential Adams 3": (ExponentialAdams(3, corrected=True), 4),
    "Exponential Adams 4": (ExponentialAdams(4, corrected=True), 5),
    "Exponential Adams 4, data": (ExponentialAdams(4, Data(), corrected=True), 5),
}
"""Every solver of the probability-flow ODE on a grid, and its global order; a new one joins here."""

STOCHASTIC: dict[str, tuple[Solver, float]] = {
    "Euler-Maruyama": (EulerMaruyama(), 1),
    "Euler-Maruyama, churn(t)": (EulerMaruyama(lambda t: t / (1 + t)), 1),
    "Reverse diffusion": (ReverseDiffusion(), 1),
    "Ancestral": (Ancestral(), 1),
    "Ancestral, large variance": (Ancestral(Large()), 1),
    "DDIM, eta 1/2": (DDIM(0.5), 1),
    "DPM-Solver++(2S) ancestral": (AncestralNoise(DPMSolverSinglestep(2)), 1),
    "DPM-Solver-2 ancestral": (AncestralNoise(DPMSolverSinglestep(2, Noise())), 1),
    "DPM-Solver++ SDE": (DPMSolverSDE(), 2),
    "Exponential Euler-Maruyama": (ExponentialAdams(1, Data(1.0)), 1),
    "SDE-DPM-Solver++(2M)": (DPMSolverMultistep(2, Data(1.0)), 2),
    "SDE-DPM-Solver++(3M)": (DPMSolverMultistep(3, Data(1.0), taylor=True), 2),
    "SDE Adams 2": (ExponentialAdams(2, Data(1.0)), 2),
    "SDE Adams 3": (ExponentialAdams(3, Data(1.0)), 2),
    "EDM with churn": (Churned(Heun(), 1e9, 0.0, 1e9, 1.0), 1),
}
"""Every solver that draws noise, and its weak order; a new one joins here."""


def grids(sde: SDE, counts: tuple[int, ...], slow_start: bool) -> jax.Array:
    """Grids of so many steps, each continued by its last node to one length [len(counts), N + 1].

    Equal in log-SNR, or its third root, so that the first steps, which a multistep method takes at low order for want
    of outputs, are so short that they do not hide its order.
    """
    power = 3 if slow_start else 1
    nodes = [np.append(np.linspace(0, 1, n + 1) ** power, np.ones(max(counts) - n)) for n in counts]
    first, last = -2 * np.log(R_FIRST), -2 * np.log(R_LAST)
    return sde.time(first + (last - first) * jnp.asarray(np.stack(nodes)))


def carried(solver: Solver, data: Mixture, sde: SDE, y: jax.Array, times: jax.Array, *noise: jax.Array) -> jax.Array:
    """y = x / alpha at the end of a grid, started from y at its first node; steps of no length change nothing.

    noise [N, B, 2] is what the solvers that draw it are given, as often as they do; 0 without.
    """
    score, x = data.score(sde), y * sde.alpha(times[0])

    def body(carry, node):
        t, s, z = node
        x, memory = carry
        if hasattr(solver, "given"):
            step = solver.given(sde, score, x, t, s, memory, *(jnp.broadcast_to(one, x.shape) for one in z))
        else:
            step = solver.step(None, sde, score, x, t, s, memory)
        moved = t != s
        return jax.tree.map(lambda a, b: jnp.where(moved, a, b), (step.x, step.memory), (x, memory)), None

    nodes = (times[:-1], times[1:], noise or (jnp.zeros(len(times) - 1),))
    (x, _), _ = jax.lax.scan(body, (x, solver.init(sde, x, times)), nodes)
    return x / sde.alpha(times[-1])


@cache
def exact_flow() -> tuple[np.ndarray, np.ndarray]:
    """Points y at R_FIRST and where the probability flow takes them at R_LAST, by scipy in float64 [8, 2].

    In y = x / alpha and r = sigma / alpha the flow dy / dr = (y - D(y; r)) / r is that of every linear SDE.
    """
    g = load("closed_form", "solvers")
    w, mu, s = (g[f"mix__{k}"] for k in ("w", "mu", "s"))

    def slope(r, y):
        offset, variance = y.reshape(-1, 1, 2) - mu, s**2 + r**2
        share = w / variance * np.exp(-0.5 * (offset**2).sum(-1) / variance)
        share /= share.sum(-1, keepdims=True)
        return (r * (share / variance)[..., None] * offset).sum(1).ravel()

    y = R_FIRST * np.random.default_rng(0).standard_normal((8, 2))
    end = solve_ivp(slope, (R_FIRST, R_LAST), y.ravel(), method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    return y, end.reshape(y.shape)


def errors(solver: Solver, counts: tuple[int, ...], slow_start: bool = True) -> np.ndarray:
    """RMS error of y at the end under every SDE of FLOWING and for every count of steps [SDEs, counts]."""
    (start, end), data = exact_flow(), recorded_law("mix")

    def run(index):
        sde = OneOf(index)
        run = lambda times: carried(solver, data, sde, jnp.asarray(start), times)
        return jax.vmap(run)(grids(sde, counts, slow_start))

    ends = jax.jit(jax.vmap(run))(jnp.arange(len(FLOWING)))
    return np.sqrt(np.mean((np.asarray(ends) - end) ** 2, axis=(-1, -2)))


SAMPLES = 10_000
"""Of the weak errors."""


def weak_errors(solver: Solver, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """E y^2 at the end with N steps less that with 2 N, under every SDE [SDEs, counts - 1], and its standard error.

    Each count is twice the one before. Both runs follow one Brownian path: the noise of a long step is that of the two
    short ones in it, z = (e^{-d} z_1 + z_2) / sqrt(1 + e^{-2 d}) with d their length in log(alpha / sigma), which is a
    standard normal for every solver, and makes the difference's variance small.
    """
    data, g = recorded_law("mix"), load("closed_form", "solvers")
    w, mu, s = (g[f"mix__{k}"] for k in ("w", "mu", "s"))
    rng = np.random.default_rng(1)
    k = rng.choice(len(w), SAMPLES, p=w)
    y = mu[k] + np.sqrt(s[k] ** 2 + R_FIRST**2)[:, None] * rng.standard_normal((SAMPLES, 2))
    noise = [rng.standard_normal((counts[-1], SAMPLES, 2))]
    for count in counts[-2::-1]:
        fade = np.exp(-np.log(R_FIRST / R_LAST) / (2 * count))
        joined = (fade * noise[0][0::2] + noise[0][1::2]) / np.sqrt(1 + fade**2)
        noise.insert(0, joined)
    padded = np.stack([np.pad(z, ((0, counts[-1] - len(z)), (0, 0), (0, 0))) for z in noise])
    bridges = (rng.standard_normal(padded.shape),) if isinstance(solver, DPMSolverSDE) else ()

    def run(index, y, *noise):
        sde = OneOf(index)
        carry = lambda inputs: carried(solver, data, sde, y, *inputs) ** 2
        squares = jax.lax.map(carry, (grids(sde, counts, slow_start=False), *noise))
        difference = squares[:-1] - squares[1:]
        return difference.mean((1, 2)), difference.mean(2).std(1) / jnp.sqrt(SAMPLES)

    every = jax.jit(lambda indices, *a: jax.lax.map(lambda i: run(i, *a), indices))
    found = every(jnp.arange(len(FLOWING)), y, padded, *bridges)
    return tuple(np.asarray(a) for a in found)


def orders(found: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """The slopes between successive counts of steps."""
    return np.log(np.abs(found[:, :-1] / found[:, 1:])) / np.log(np.divide(counts[1:], counts[:-1]))
