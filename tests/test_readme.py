"""The README's own code, executed as it stands, and what it claims of it."""

import pathlib
import re
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import score_sde
from score_sde.cli.main import parse
from score_sde.config import load
from score_sde.config.validation import validate
from score_sde.rng import example_keys, normal, positions, root_key
from score_sde.sde import reverse
from score_sde.sde.analytic import gaussian
from score_sde.solvers import grids
from tests.golden_files import relative_error

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LIBRARY, *OWN = BLOCKS


@pytest.fixture(scope="module")
def namespace():
    """The names that the blocks about an SDE and a solver of one's own define, run in order."""
    names: dict = {"__name__": "readme"}
    for block in OWN:
        exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_example_recovers_the_covariance(namespace):
    covariance = np.cov(np.asarray(namespace["draws"].x).T)
    np.testing.assert_allclose(covariance, [[1, 0.5], [0.5, 1]], atol=5 * np.sqrt(2 / 4096))
    assert int(namespace["draws"].evaluations) == 81


def test_the_examples_sde_is_the_one_of_its_marginal(float64, namespace):
    """f = alpha'/alpha and g^2 = (sigma^2)' - 2 f sigma^2 by autodiff; the flow is rectified flow's velocity."""
    sde, t = namespace["Straight"](), jnp.linspace(0.01, 0.99, 50)
    slope = lambda f: jax.vmap(jax.grad(f))(t)
    rate = slope(lambda t: jnp.log(sde.alpha(t)))
    x, mean, std = normal(example_keys(root_key(0), positions(0, 50)), (6,)), 0.4, 0.7
    assert relative_error(sde.drift(x, t), rate[:, None] * x) < 1e-12
    assert relative_error(sde.diffusion(t) ** 2, slope(lambda t: sde.sigma(t) ** 2) - 2 * rate * t**2) < 1e-12
    np.testing.assert_allclose(sde.time(sde.log_snr(t)), t, rtol=1e-12)
    np.testing.assert_allclose(sde.log_snr(t), 2 * jnp.log(sde.alpha(t) / sde.sigma(t)), rtol=1e-12, atol=1e-12)
    score = gaussian(jnp.full(6, mean), jnp.eye(6) * std**2).score(sde)
    s = t[:, None]
    velocity = (s - (1 - s) * std**2) / ((1 - s) ** 2 * std**2 + s**2) * (x - (1 - s) * mean) - mean  # E[eps - x_0 | x]
    assert relative_error(reverse(sde, score, churn=0.0).drift(x, t), velocity) < 1e-9


def test_the_examples_solver_has_order_two(float64, namespace):
    sde, solver = namespace["Straight"](), namespace["Heun"]()
    data = gaussian(jnp.ones(2), jnp.eye(2) * 0.25)
    x = normal(example_keys(root_key(0), positions(0, 4)), (2,)) * sde.T
    exact = data.flow(sde)(x, sde.T, 0.5)
    errors = []
    for n in (40, 80, 160):
        grid = grids.log_snr(sde, 0.5, n)
        body = lambda x, ts: (solver.step(x, sde, data.score(sde), x, *ts, ()).x, None)
        errors.append(relative_error(jax.lax.scan(body, x, (grid[:-1], grid[1:]))[0], exact))
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.15)


def test_the_examples_are_about_ten_lines():
    for block in OWN[:2]:
        body = block[block.index("@") :].strip().splitlines()
        assert len(body) <= 12


def test_the_library_block_trains_and_samples(tmp_path, monkeypatch):
    """As it stands, but for a smaller network and batch than those of the config that it takes."""
    config = load("digits")
    config.network.update(nf=8, ch_mult=(1,), attn_resolutions=())
    config.sampling.update(batch_size=16)
    monkeypatch.setattr("score_sde.config.reading.load", lambda name: config)
    monkeypatch.delitem(vars(score_sde), "load", raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    exec(compile(LIBRARY, "README.md", "exec"), names)
    assert names["images"].shape == (16, 8, 8, 1)
    assert names["images"].std() > 10
    assert (tmp_path / "runs" / "notebook" / "metrics.jsonl").exists()


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_commands_that_ci_reads_are_there_once():
    for name in ("main", "test"):
        assert len(re.findall(rf"<!-- command: {name} -->\n```bash\n(.*?)\n```", README)) == 1


def test_every_launch_command_parses_and_validates():
    """Flags, config files and overrides; the shell's line continuations joined, its comments dropped."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    lines = [
        shlex.split(line.split("launch.py")[1], comments=True) for line in blocks.splitlines() if "launch.py" in line
    ]
    commands = [line for line in lines if "--help" not in line]
    assert len(commands) >= 5
    for command in commands:
        validate(parse(["launch.py", *command]).config)


def test_every_test_that_a_document_names_exists():
    """The deviations name the test that shows each."""
    text = (ROOT / "docs" / "deviations.md").read_text()
    for file, name in re.findall(r"(\w*/?test_\w+\.py)(?:::(\w+))?", text):
        source = (ROOT / "tests" / file).read_text()
        assert f"def {name}(" in source or not name, (file, name)
