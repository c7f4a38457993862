"""The notebooks, executed from the first cell to the last with less training, and what their badges open."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.processes import environment

ROOT = pathlib.Path(__file__).parents[1]
BOOKS = ("tour", "conditioning", "few_steps", "vae_to_words")
SHORTER = {
    "tour": {
        "STEPS = 500 ": "STEPS = 4 ",
        "SAMPLES = 200 ": "SAMPLES = 20 ",
        "nf=32, ch_mult=(1, 2)": "nf=8, ch_mult=(1,)",
        "attn_resolutions=(4,)": "attn_resolutions=()",
        "batch_size=100": "batch_size=20",
        "held_out[:64]": "held_out[:32]",
    },
    "conditioning": {
        "STEPS = 500 ": "STEPS = 4 ",
        "EACH = 64 ": "EACH = 5 ",
        "nf=32, ch_mult=(1, 2)": "nf=8, ch_mult=(1,)",
        "attn_resolutions=(4,)": "attn_resolutions=()",
        "num_steps=30": "num_steps=5",
        "batch_size=100": "batch_size=20",
    },
    "few_steps": {
        "STEPS = 600 ": "STEPS = 4 ",
        "UPDATES = 150 ": "UPDATES = 2 ",
        "SAMPLES = 500 ": "SAMPLES = 20 ",
        "steps = (8, 4, 2, 1)": "steps = (2, 1)",
        "num_steps=49": "num_steps=4",
    },
    "vae_to_words": {
        "STEPS = 4000 ": "STEPS = 4 ",
        "WORDS = 500 ": "WORDS = 4 ",
        "DRAWS = 50 ": "DRAWS = 1 ",
        "steps_per_call=100": "steps_per_call=2",
        "num_steps=30": "num_steps=3",
        "batch_size=64": "batch_size=20",
        "n = 96_000": "n = 4_000",
    },
}
"""What stands in a notebook, once, and what the test makes of it."""
SHALLOW = """
from score_sde.experiment import objects
from tests.training.small import Labelled, Shallow, Told

own = dict(objects.NETWORKS)
objects.NETWORKS.update(ncsnpp=lambda c, s: Told() if s.text else Labelled() if s.labels else Shallow())
"""
PROBES = {
    "tour": """
assert set(drawn) == set(WAYS) and len(WAYS) == 6
assert all(images.shape == (SAMPLES, 8, 8, 1) and images.std() > 10 for images in drawn.values())
assert upright.log_prob.shape == (32, 4) and bool(jnp.isfinite(upright.log_prob).all())
assert back < 0.2, back  # of a range of 2, by a network that has hardly been trained
objects.NETWORKS.update(own)
whole = build(get_config())
score = lambda params, x: whole.score_of(params)(x, jnp.float32(0.5))
assert jax.eval_shape(score, whole.abstract_state().params, x0).shape == x0.shape
print("probed")
""",
    "conditioning": """
assert set(drawn.condition["label"]) == set(range(10)) and drawn.evaluations == 12  # 6, of two networks' worth
for found in (halves, finer):
    assert found.x.shape == (4 * EACH, 8, 8, 1) and np.isfinite(found.x).all()
    assert list(np.bincount(found.condition["measurement"])) == [EACH] * 4
# Of 144 means and standard deviations of a thousand: 5 standard errors.
assert off < 5 / 1000**0.5 and wide < 5 / 2000**0.5, (off, wide)
print("probed")
""",
    "few_steps": """
import numpy as np

assert [found.evaluations for found in drawn.values()] == [5, 2, 1] and list(figures) == list(drawn)
assert all(found.images.shape == (SAMPLES, 8, 8, 1) for found in drawn.values())
assert np.abs(drawn["steps_2"].images.astype(float) - drawn["steps_1"].images).mean() < 64  # from the same noise
print("probed")
""",
    "vae_to_words": """
best = [part.mean() for part in figures["probabilistic PCA, exact"]]
assert np.allclose(best, [14.65, 13.58], atol=0.02) and abs(float(draws[0].mean()) - log_p(x[:100]).mean()) < 0.02
assert apart < 1e-2 and len(figures) == 5 and all(np.isfinite(part).all() for pair in figures.values() for part in pair)
mine, theirs = both.values()  # of 20,000 draws each: 5 standard errors
assert abs(mine.mean() - theirs.mean()) < 5 * np.hypot(mine.std(), theirs.std()) / COUNT**0.5
spread = max(std for _, std in found.values()) / n**0.5
assert len(found) == 4 and np.ptp([bound for bound, _ in found.values()]) < 5 * spread
assert set(drawn) == {1.0, 2.0} and all(images.shape == (100, 8, 16, 1) for images in drawn.values())
assert shares["true pictures"] > 0.9
print("probed")
""",
}


def path_of(book: str) -> pathlib.Path:
    return ROOT / "notebooks" / f"{book}.ipynb"


def cells(name: str, kind: str) -> list[str]:
    book = json.loads(path_of(name).read_text())
    assert book["nbformat"] == 4
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("name", BOOKS)
def test_every_cell_runs(tmp_path, name):
    """In a process of its own, elsewhere, with the package on its path and warnings that are no errors.

    With a shallow network in the place of the notebook's own, which is only traced: it would be compiled many times.
    """
    source = "\n\n".join(cells(name, "code"))
    for there, instead in SHORTER[name].items():
        assert source.count(there) == 1, there
        source = source.replace(there, instead)
    (tmp_path / "book.py").write_text(SHALLOW + source + PROBES[name])
    env = environment(pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])) | {"MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "book.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("probed\n")
    assert done.stdout.count("evaluations, Fréchet distance") == (6 if name == "tour" else 0)


@pytest.mark.parametrize("name", BOOKS)
def test_the_badge_opens_what_the_first_cell_installs(name):
    """One repository throughout, the notebook by its own path; no outputs are kept."""
    badge = re.search(
        r"colab\.research\.google\.com/github/([\w-]+/[\w-]+)/blob/main/(\S+)\)", cells(name, "markdown")[0]
    )
    assert badge is not None
    assert badge[2] == str(path_of(name).relative_to(ROOT))
    assert set(re.findall(r"github\.com/([\w-]+/[\w-]+)", cells(name, "code")[0])) == {badge[1]}
    for cell in json.loads(path_of(name).read_text())["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_every_notebook_is_tested():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(BOOKS)
