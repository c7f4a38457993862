"""Damped sinusoids of three frequencies: makes them, and holds a network's noise and few steps against the exact ones.

    python benchmarks/sinusoids.py --write runs/sinusoids.npz
    python launch.py --config configs/sinusoids.py
    python benchmarks/sinusoids.py --run runs/sinusoids --max 0.1
    python benchmarks/sinusoids.py --steps

A waveform has 32 samples x_n = exp(-.06 n) (a cos 2 pi f n + b sin 2 pi f n) + .02 w_n, a, b, w_n standard normal and
f one of .05, .11, .19 per sample. Given f it is N(0, C_f), C_f(n, m) = exp(-.06 (n + m)) cos 2 pi f (n - m) + .02^2
delta_nm, so the noise that a network is to predict is known: eps = sqrt(1 - abar) (abar C_f + (1 - abar) I)^{-1} x_t.
Its frames say f: four of them, one number for each frequency, 1 for its own.
  error     of --run, at levels abar: sqrt(E |eps_network - eps|^2 / E |eps|^2) over the held-out waveforms
  distance  of --steps, by the exact noise: sqrt(W_2^2 / E |x|^2) of the samples' law to the data's, of samples of six
            evaluations: of WaveGrad's six betas, by its own arithmetic with its clamp, and on grids of a pilot run
Exit codes: 0 done, 1 the largest error exceeds --max, 2 bad usage.
"""

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

FREQUENCIES, DECAY, NOISE = (0.05, 0.11, 0.19), 0.06, 0.02
LENGTH, FRAMES = 32, 4
TRAIN, TEST = 20_001, 999
"""Multiples of three: waveform number i has frequency number i mod 3."""
BETAS = (7e-6, 1.4e-4, 2.1e-3, 2.8e-2, 3.5e-1, 7e-1)
"""The six steps that were found by hand (Chen et al. 2021, section 4.1)."""


def covariances(length: int = LENGTH) -> np.ndarray:
    """C_f [3, length, length]."""
    n = np.arange(length)
    apart, sums = n[:, None] - n[None], n[:, None] + n[None]
    waves = np.cos(2 * np.pi * np.array(FREQUENCIES)[:, None, None] * apart)
    return np.exp(-DECAY * sums) * waves + NOISE**2 * np.eye(length)


def exact_noise(x: np.ndarray, abar: float, frequency: np.ndarray) -> np.ndarray:
    """E[eps | x_t, f] of x_t [N, length], their frequencies by number [N]: [N, length]."""
    whole = abar * covariances(x.shape[1]) + (1 - abar) * np.eye(x.shape[1])
    return (1 - abar) ** 0.5 * np.einsum("nij,nj->ni", np.linalg.inv(whole)[frequency], x)


def mixed_noise(x: np.ndarray, abar: float) -> np.ndarray:
    """E[eps | x_t] of x_t [N, length] whose frequency is any of the three, evenly: [N, length]."""
    whole = abar * covariances(x.shape[1]) + (1 - abar) * np.eye(x.shape[1])
    noise = (1 - abar) ** 0.5 * np.einsum("fij,nj->nfi", np.linalg.inv(whole), x)
    energy = np.einsum("nfi,ni->nf", noise, x) / (1 - abar) ** 0.5
    log = -0.5 * (energy + np.linalg.slogdet(whole)[1])
    shares = np.exp(log - log.max(1, keepdims=True))
    return np.einsum("nf,nfi->ni", shares / shares.sum(1, keepdims=True), noise)


def waveforms(count: int, seed: int, length: int = LENGTH) -> np.ndarray:
    """Draws float32 [count, length], number i of frequency number i mod 3."""
    roots = np.linalg.cholesky(covariances(length))
    z = np.random.default_rng(seed).standard_normal((count, length))
    return np.einsum("nij,nj->ni", roots[np.arange(count) % 3], z).astype(np.float32)


def frames(count: int) -> np.ndarray:
    """What says the frequency, float32 [count, FRAMES, 3]."""
    return np.repeat(np.eye(3, dtype=np.float32)[np.arange(count) % 3][:, None], FRAMES, axis=1)


def errors(run: pathlib.Path) -> dict[str, float]:
    """The trained network's error at every level, abar of .9, .5 and .1."""
    import jax
    import jax.numpy as jnp

    from score_sde.experiment.building import build
    from score_sde.experiment.frozen import config_of
    from score_sde.storage.checkpoint import Checkpoints
    from score_sde.storage.workdir import Workdir

    workdir = Workdir(run)
    record = workdir.record() or {}
    experiment = build(config_of(record), record, training=False)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, _ = experiment.restore(checkpoints)
    score = jax.jit(experiment.score(state, condition={"frames": jnp.asarray(frames(TEST))}))
    x0, z, found = waveforms(TEST, 1), np.random.default_rng(2).standard_normal((TEST, LENGTH)), {}
    for abar in (0.9, 0.5, 0.1):
        x = (abar**0.5 * x0 + (1 - abar) ** 0.5 * z).astype(np.float32)
        time = experiment.sde.time(jnp.float32(np.log(abar / (1 - abar))))
        own, exact = -((1 - abar) ** 0.5) * np.asarray(score(x, time)), exact_noise(x, abar, np.arange(TEST) % 3)
        found[f"{abar}"] = float(np.sqrt(np.sum((own - exact) ** 2) / np.sum(exact**2)))
    return found


def distances() -> dict[str, float]:
    """How far the laws of samples of six evaluations are from the data's, by the exact noise."""
    import jax
    import jax.numpy as jnp

    from score_sde.rng import example_keys, positions, root_key
    from score_sde.sde import vp
    from score_sde.sde.analytic import Mixture, gaussian
    from score_sde.solvers import DDIM, ExponentialAdams, grids, pilot

    sde, laws = vp(), [gaussian(jnp.zeros(LENGTH), jnp.asarray(c, jnp.float32)) for c in covariances()]
    parts = (jnp.stack([law.variances for law in laws]), jnp.stack([law.basis for law in laws]))
    mixture = Mixture(jnp.ones(3) / 3, jnp.zeros((3, LENGTH)), *parts)
    keys = example_keys(root_key(0), positions(0, pilot.SAMPLES))
    found = {"betas": relative(_of_betas()), "betas, reference": relative(_of_reference())}
    for name, solver in (("ddim", DDIM()), ("adams_3", ExponentialAdams(3, corrected=True, lower_final=True))):
        found_by = functools.partial(pilot.optimised, solver=solver, t_min=1e-3, num_steps=5)
        chosen = jax.jit(lambda keys, found_by=found_by: found_by(keys, mixture.score(sde), sde, (LENGTH,)))(keys)
        for grid, times in (("optimised", chosen), ("log_snr", grids.log_snr(sde, 1e-3, 5))):
            found[f"{name}, {grid}"] = relative(_of_ode(sde, laws, solver, times))
    return found


def relative(found: np.ndarray) -> float:
    """The distance of laws N(0, found [3, D, D]) to the data's: the root of sum W_2^2 / sum E |x|^2."""
    total = 0.0
    for own, exact in zip(found, covariances(), strict=True):
        variances, basis = np.linalg.eigh(exact)
        root = basis * np.sqrt(variances) @ basis.T
        both = np.linalg.eigvalsh(root @ own @ root)
        total += np.trace(own) + np.trace(exact) - 2 * np.sqrt(np.maximum(both, 0)).sum()
    return float(np.sqrt(max(total, 0) / np.trace(covariances(), axis1=1, axis2=2).sum()))


def _of_betas() -> np.ndarray:
    """The covariances [3, D, D] of WaveGrad's steps without a clamp, in closed form."""
    beta, found, eye = np.array(BETAS), np.stack([np.eye(LENGTH)] * 3), np.eye(LENGTH)
    abar = np.cumprod(1 - beta)
    below = np.append(1.0, abar[:-1])
    for i in reversed(range(len(beta))):
        inverse = np.linalg.inv(abar[i] * covariances() + (1 - abar[i]) * eye)
        gain = (eye - beta[i] * inverse) / (1 - beta[i]) ** 0.5
        found = gain @ found @ gain + beta[i] * (1 - below[i]) / (1 - abar[i]) * eye
    return found


def _of_reference(count: int = 30_000) -> np.ndarray:
    """Those of its own arithmetic, of so many samples for each frequency."""
    import jax
    import jax.numpy as jnp

    from score_sde.solvers.reference_wavegrad import inference

    values, bases = map(jnp.asarray, np.linalg.eigh(covariances()))

    def drawn(frequency: int) -> np.ndarray:
        def predict(x: jax.Array, level: jax.Array) -> jax.Array:
            abar = level[:, None] ** 2
            scaled = x @ bases[frequency] / (abar * values[frequency][None] + 1 - abar)
            return jnp.sqrt(1 - abar) * scaled @ bases[frequency].T

        first, *rest = jax.random.split(jax.random.key(frequency), 1 + len(BETAS))
        draw = lambda i: jax.random.normal(jnp.stack(rest)[i], (count, LENGTH))
        return np.asarray(inference(predict, BETAS, jax.random.normal(first, (count, LENGTH)), draw), float)

    samples = [drawn(frequency) for frequency in range(3)]
    return np.stack([x.T @ x / count for x in samples])


def _of_ode(sde: Any, laws: Sequence[Any], solver: Any, times: Any) -> np.ndarray:
    """Those of a solver of the ODE, a linear map M of what it begins with: M M^T of the images of the unit vectors."""
    import jax
    import jax.numpy as jnp

    from score_sde.rng import example_keys, positions, root_key
    from score_sde.solvers.sampling import carried

    keys = example_keys(root_key(0), positions(0, LENGTH))
    map_of = jax.jit(
        lambda law, times: carried(keys, law.score(sde), sde, jnp.eye(LENGTH), solver=solver, times=times).x
    )
    images = [map_of(law, times) for law in laws]
    return np.stack([np.asarray(x, float).T @ np.asarray(x, float) for x in images])


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path, help="write training and held-out waveforms there")
    parser.add_argument("--run", type=pathlib.Path, help="a run of configs/sinusoids.py")
    parser.add_argument("--max", type=float, default=np.inf, help="exit with 1 if the largest error is above")
    parser.add_argument("--steps", action="store_true", help="compare samples of six evaluations")
    arguments = parser.parse_args(argv[1:])
    if arguments.write is not None:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        own, other = ({"": waveforms(n, seed), "frames": frames(n)} for n, seed in ((TRAIN, 0), (TEST, 1)))
        np.savez(arguments.write, train=own[""], frames=own["frames"], test=other[""], test_frames=other["frames"])
        print(f"{TRAIN} waveforms to train on and {TEST} held out in {arguments.write}")
    if arguments.steps:
        print(json.dumps({"distance": distances()}, indent=1))
    if arguments.run is None:
        return 0
    if not (arguments.run / "config.json").exists():
        print(f"sinusoids: {arguments.run} holds no run: train it first", file=sys.stderr)
        return 2
    found = errors(arguments.run)
    print(json.dumps({"error": found}, indent=1))
    return int(max(found.values()) > arguments.max)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
