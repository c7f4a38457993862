"""How far samplers of posteriors are from the exact ones: linear measurements of Gaussian data and of a mixture.

    python benchmarks/inverse.py --json benchmarks/results/cpu_2core_inverse.json --picture docs/particles.png

The problems are those of tests/golden/conditioning (scoreboard.csv: other people's methods on them). Every method has
the same network evaluations, all particles' counted; its vector-Jacobian products are not.

Mixture, of eight numbers: sliced W2, 64 directions, of --chains samples against 100,000 exact draws, mean over two
measurements. floor: of as many exact draws. exact: the exact conditional denoiser, ancestral steps on EDM's grid. bar:
the published method that was best there, as recorded and remade with these chains. auto: sampling.solver=auto with
guidance.method=auto. mmps: three products, ancestral steps. ode: MMPS solved, the probability flow by Adams' third
order. particles: four, led by MMPS, on a quarter of the steps. best: the best of these four.
Gaussian data: ode is W2 of the probability-flow ODE with MMPS solved, of its affine map itself, at 49 evaluations; heun
that of the recorded Heun column; mmps_3 is how far samples by three products are, root of mean square, from those of
the exact denoiser with the same noise, and exact that denoiser's own W2 as recorded, at 250: W2 of the first is at most
their sum. Particles by number: W2 on one problem, 100 steps each.
Exit codes: 0 done, 1 a bound of --check does not hold, 2 bad usage.
"""

import argparse
import csv
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.config import default
from score_sde.config.automatic import answering
from score_sde.errors import UsageError, require
from score_sde.experiment.measuring import unknown_share
from score_sde.guidance import MMPS, TMPD, DPSScore, Matched, Measurement, PiGDM
from score_sde.guidance.operators import matrix
from score_sde.progress import Progress
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import karras, vp
from score_sde.sde.analytic import Mixture, mixture
from score_sde.sde.conditioning import condition
from score_sde.sde.exploding import Karras
from score_sde.solvers import DDIM, DDRM, PGDM, Constrained, ExponentialAdams, Heun, Peaked, Replacement, grids
from score_sde.solvers.particles import sample_particles
from score_sde.solvers.sampling import sample
from score_sde.typing import Array, ScoreFn

GOLDEN = common.ROOT / "tests" / "golden" / "conditioning"
PROBLEMS, NOISES = ("inpaint", "blur", "box"), ("0.01", "0.1", "0.5")
EDM, VP, EVALUATIONS = karras(80.0), vp(), 250
BARS = {
    ("inpaint", "0.01"): "ddnm_plus", ("inpaint", "0.1"): "dps_cov0", ("inpaint", "0.5"): "tmpd_diag",
    ("blur", "0.01"): "mmps", ("blur", "0.1"): "replacement_aware", ("blur", "0.5"): "tmpd",
    ("box", "0.01"): "pgdm1", ("box", "0.1"): "pigdm_v", ("box", "0.5"): "replacement_aware",
}  # fmt: skip
"""The best published method on the mixture at 250 evaluations, by scoreboard.csv."""
Draw = Callable[[Array, Measurement], Array]
"""(keys [N], measurement) -> samples [N, D]."""


def main(argv: list[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=16_384, help="samples of every method (%(default)s)")
    parser.add_argument("--particles", type=int, default=2_048, help="samples of the particles' figure (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here")
    parser.add_argument("--picture", type=pathlib.Path, help="draw W2 by the number of particles here, a .png")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the best is worse than asked for")
    arguments = parser.parse_args(argv[1:])
    try:
        require(arguments.chains >= 256, f"--chains {arguments.chains} must be at least 256: sliced W2 is of many")
    except UsageError as error:
        print(f"inverse: {error}", file=sys.stderr)
        return 2
    with Progress("inverse", 9 * 2 + 9 + 1, "problems") as progress:
        mixtures = [row for p in PROBLEMS for row in of_mixture(p, arguments.chains, progress)]
        gaussians = [row for p in PROBLEMS for row in of_gaussian(p, progress)]
        particles = [by_particles(arguments.particles)]
    common.report(
        "inverse", argv[0], argv[1:], default(), mixtures, arguments.json, gaussian=gaussians, particles=particles
    )
    if arguments.picture:
        draw_particles(particles[0], arguments.picture)
    held = {}
    for name in ("auto", "best"):
        good = sum(row[name] <= max(0.8 * row["bar_remade"], 1.2 * row["floor"]) for row in mixtures)
        worst = max(row[name] / max(row["bar_remade"], row["floor"]) for row in mixtures)
        print(f"{name}: within max(0.8 bar, 1.2 floor) on {good} of 9, at most {worst:.2f} of max(bar, floor)")
        held[name] = good >= 7 and worst <= 1.1
    print(f"auto is at most {max(row['auto'] / row['best'] for row in mixtures):.2f} times the best")
    return int(arguments.check and not held["best"])


def of_mixture(problem: str, count: int, progress: Progress) -> list[common.Row]:
    """The rows of one operator."""
    data = law("mix")
    variance = float(np.mean(np.diag(np.asarray(data.moments()[1]).reshape(8, 8))))
    exact_keys, keys = of(100_000, 7), of(count, 0)
    rows = []
    for noise in NOISES:
        found: dict[str, list[float]] = {}
        for number in range(2):
            seen, posterior = measured("mix", problem, noise, number)
            reference = np.asarray(posterior.sample(exact_keys))
            draws = methods(data, variance, seen, problem, noise, posterior)
            for name, draw in draws.items():
                x = np.asarray(jax.jit(draw)(keys, seen))
                found.setdefault(name, []).append(sliced(x, reference))
            progress.update(1)
        mean = {name: float(np.mean(values)) for name, values in found.items()}
        bar = BARS[problem, noise]
        recorded = min(float(row["w2"]) for row in scoreboard("mix", problem, noise, "250") if row["method"] == bar)
        order = ("auto", "mmps", "ode", "particles")
        row = {"problem": problem, "sigma_y": noise, "floor": mean["floor"], "exact": mean["exact"], "bar": bar}
        own = {name: mean[name] for name in order}
        rows.append(row | {"bar_recorded": recorded, "bar_remade": mean["bar"]} | own | {"best": min(own.values())})
    return rows


def methods(
    data: Mixture, variance: float, seen: Measurement, problem: str, noise: str, posterior: Mixture
) -> dict[str, Draw]:
    """What is compared, by its column."""
    ancestral = grids.karras(EDM, 0.002, EVALUATIONS - 1)
    steps = lambda score, times=ancestral, sde=EDM, solver=None: (
        lambda keys, seen: sample(keys, score(seen), sde, (8,), solver=solver or DDIM(1.0), times=times).x
    )
    values = np.asarray(seen.A.spectrum.values)  # pyright: ignore[reportOptionalMemberAccess]
    unknown = unknown_share(values, float(noise), variance)
    choice = answering(EVALUATIONS, True, unknown, variance**0.5).fields
    times = grids.peaked(EDM, 0.005, choice["num_steps"], choice["churn"], choice["center"])
    peaked = ExponentialAdams(1, Peaked(choice["churn"], choice["center"]))
    own = data.score(EDM)
    few = grids.peaked(EDM, 0.005, EVALUATIONS // 4 - 1, 1.0, choice["center"])
    return {
        "floor": lambda keys, seen: posterior.sample(keys),
        "exact": steps(lambda seen: posterior.score(EDM)),
        "bar": bar(BARS[problem, noise], data, variance, steps),
        "auto": steps(lambda seen: Matched(3, variance)(own, EDM, seen), times, solver=peaked),
        "mmps": steps(lambda seen: MMPS(3, variance=variance)(own, EDM, seen)),
        "ode": steps(
            lambda seen: MMPS(8, variance=variance)(own, EDM, seen),
            grids.log_snr(EDM, 0.002, EVALUATIONS - 2),
            solver=ExponentialAdams(3, corrected=True),
        ),
        "particles": lambda keys, seen: sample_particles(
            keys, own, EDM, (8,), posterior=MMPS(3, variance=variance), measurement=seen, times=few, count=4,
            variance=variance,
        ).x,
    }  # fmt: skip


def bar(name: str, data: Mixture, variance: float, steps: Any) -> Draw:
    """A published method, on the grid that it was best on."""
    uniform = grids.uniform(VP, 1 / EVALUATIONS, EVALUATIONS - 1)
    ancestral, heun = grids.karras(EDM, 0.002, EVALUATIONS - 1), grids.karras(EDM, 0.002, EVALUATIONS // 2 - 1)
    by = lambda posterior, sde: lambda seen: posterior(data.score(sde), sde, seen)
    own = data.score(EDM)
    rules = {
        "ddnm_plus": lambda seen: DDRM(seen, eta_b=1.0),
        "pgdm1": lambda seen: PGDM(seen),
        "replacement_aware": lambda seen: Constrained(DDIM(1.0), Replacement(EDM, seen)),
    }
    if name in rules:
        return lambda keys, seen: sample(keys, own, EDM, (8,), solver=rules[name](seen), times=ancestral).x
    scores = {
        "dps_cov0": lambda: steps(by(DPSScore(None), VP), uniform, VP),
        "tmpd_diag": lambda: steps(by(TMPD("diagonal", None), VP), uniform, VP),
        "tmpd": lambda: steps(by(TMPD("rows", None), VP), uniform, VP),
        "pigdm_v": lambda: steps(by(PiGDM(variance), VP), uniform, VP),
        "mmps": lambda: steps(by(MMPS(8, variance=variance), EDM), heun, EDM, Heun()),
    }
    return scores[name]()


def of_gaussian(problem: str, progress: Progress) -> list[common.Row]:
    """The rows of one operator, in float64: means over four measurements."""
    rows = []
    for noise in NOISES:
        ode, apart = [], []
        for number in range(4):
            with jax.enable_x64(True):
                seen, posterior = measured("gauss", problem, noise, number)
                score = MMPS(8)(law("gauss").score(EDM), EDM, seen)
                ode.append(affine_w2(score, posterior))
            if number == 0:
                apart.append(coupled(problem, noise))
        table = scoreboard("gauss", problem, noise)
        recorded = {(r["nfe"], r["grid"]): float(r["w2"]) for r in table if r["method"] == "oracle"}
        exact, heun = recorded["250", "edm_rho7"], recorded["50", "edm_heun"]
        row = {"problem": problem, "sigma_y": noise, "ode": float(np.mean(ode)), "heun": heun}
        more = {"ratio": row["ode"] / heun, "exact": exact, "mmps_3": float(np.mean(apart))}
        rows.append(row | more | {"at_most": 1 + more["mmps_3"] / exact})
        progress.update(1)
    return rows


def affine_w2(score: ScoreFn, posterior: Mixture) -> float:
    """W2 of what the ODE makes of N(0, T^2 I), an affine map, from the Gaussian posterior."""
    times, solver = grids.log_snr(EDM, 0.002, 48), ExponentialAdams(4, corrected=True)
    prior = jnp.concatenate([jnp.zeros((1, 8)), jnp.eye(8)]) * EDM.T

    class From(Karras):
        """EDM's process, begun at given places."""

        def prior_sample(self, keys: Array, shape: tuple[int, ...]) -> Array:
            return prior

    x = jax.jit(lambda keys: sample(keys, score, From(EDM.T), (8,), solver=solver, times=times).x)(of(9, 0))
    mean, linear = np.asarray(x[0]), np.asarray(x[1:] - x[0]).T
    target, covariance = (np.asarray(a) for a in posterior.moments())
    return w2(mean, linear @ linear.T, target.reshape(-1), covariance.reshape(8, 8))


def coupled(problem: str, noise: str) -> float:
    """Root of the mean square, over chains with the same noise, of MMPS's samples less the exact denoiser's."""
    data, times = law("gauss"), grids.karras(EDM, 0.002, EVALUATIONS - 1)
    seen, posterior = measured("gauss", problem, noise, 0)
    draw = lambda score: jax.jit(lambda keys: sample(keys, score, EDM, (8,), solver=DDIM(1.0), times=times).x)(
        of(2048, 0)
    )
    one, other = draw(MMPS(3)(data.score(EDM), EDM, seen)), draw(posterior.score(EDM))
    return float(jnp.sqrt(jnp.mean(jnp.sum((one - other) ** 2, 1))))


def by_particles(count: int) -> common.Row:
    """W2 on the mixture's masked numbers at sigma_y 0.1 by 1, 4, 16 and 64 particles, led by MMPS."""
    data, times = law("mix"), jnp.asarray(np.geomspace(80.0, 0.01, 100), jnp.float32)
    variance = float(np.mean(np.diag(np.asarray(data.moments()[1]).reshape(8, 8))))
    found: dict[str, list[float]] = {}
    for number in range(2):
        seen, posterior = measured("mix", "inpaint", "0.1", number)
        reference = np.asarray(posterior.sample(of(100_000, 7)))
        found.setdefault("floor", []).append(sliced(np.asarray(posterior.sample(of(count, 9))), reference))
        for particles in (1, 4, 16, 64):
            options = {"posterior": MMPS(3, variance=variance), "measurement": seen, "times": times}
            draw = jax.jit(
                lambda keys, particles=particles, options=options: (
                    sample_particles(keys, data.score(EDM), EDM, (8,), count=particles, variance=variance, **options).x
                )
            )
            x = np.concatenate([np.asarray(draw(part)) for part in jnp.split(of(count, 0), count // 256)])
            found.setdefault(f"particles_{particles}", []).append(sliced(x, reference))
    return {"problem": "inpaint", "sigma_y": "0.1"} | {name: float(np.mean(v)) for name, v in found.items()}


def draw_particles(row: common.Row, path: pathlib.Path) -> None:
    """W2 against particles, and the floor."""
    import matplotlib.pyplot as plt

    counts = [int(name.removeprefix("particles_")) for name in row if name.startswith("particles_")]
    figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    axis.loglog(counts, [row[f"particles_{n}"] for n in counts], "o-", label="particles led by MMPS")
    axis.axhline(row["floor"], color="gray", linestyle="--", label="exact draws, as many")
    axis.set_xticks(counts, [str(n) for n in counts], minor=False)
    axis.minorticks_off()
    axis.set_xlabel("particles to a sample")
    axis.set_ylabel("sliced W2 to the exact posterior")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def law(name: str) -> Mixture:
    """The data: gauss, or mix."""
    with np.load(GOLDEN / "oracles.npz") as arrays:
        weights, means, covariances = (jnp.asarray(arrays[f"{name}/{k}"], float) for k in ("w", "mu", "cov"))
    return mixture(weights, means, covariances=covariances)


def measured(data: str, problem: str, noise: str, number: int) -> tuple[Measurement, Mixture]:
    """A recorded measurement, and its exact posterior."""
    with np.load(GOLDEN / "scoreboard_problems.npz") as arrays:
        A, y = arrays[f"{data}/{problem}/A"], arrays[f"{data}/{problem}/sy{noise}/y"][number]
    posterior = condition(law(data), jnp.asarray(A, float), jnp.asarray(y, float), float(noise))
    return Measurement(matrix(A, (8,)), jnp.asarray(y, float)[None], jnp.asarray(float(noise))), posterior


def scoreboard(data: str, problem: str, noise: str, evaluations: str = "") -> list[dict[str, str]]:
    """What was recorded of a problem."""
    wanted = {"data": data, "problem": problem, "sigma_y": noise} | ({"nfe": evaluations} if evaluations else {})
    with (GOLDEN / "scoreboard.csv").open() as file:
        return [row for row in csv.DictReader(file) if wanted.items() <= row.items()]


def of(count: int, seed: int) -> Array:
    """Keys of so many samples."""
    return example_keys(root_key(seed), positions(0, count))


def sliced(x: np.ndarray, reference: np.ndarray) -> float:
    """Sliced W2 of samples [N, D] and [M, D]: root of the mean square of quantiles' differences in 64 directions."""
    directions = np.random.default_rng(0).standard_normal((64, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    levels = (np.arange(len(x)) + 0.5) / len(x)
    return float(
        np.sqrt(np.mean((np.sort(x @ directions.T, 0) - np.quantile(reference @ directions.T, levels, axis=0)) ** 2))
    )


def w2(mean: np.ndarray, covariance: np.ndarray, other: np.ndarray, others: np.ndarray) -> float:
    """W2 of two Gaussians: |dm|^2 + tr(C + C' - 2 (C'^1/2 C C'^1/2)^1/2), its root."""
    values, basis = np.linalg.eigh(others)
    root = basis * np.sqrt(np.maximum(values, 0)) @ basis.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance @ root), 0)).sum()
    return float(np.sqrt(max(0.0, np.sum((mean - other) ** 2) + np.trace(covariance + others) - 2 * cross)))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
