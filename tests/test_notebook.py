"""The notebook, executed from its first cell to its last with less training, and what its badge opens."""

import json
import os
import pathlib
import re
import subprocess
import sys

from tests.processes import environment

ROOT = pathlib.Path(__file__).parents[1]
TOUR = ROOT / "notebooks" / "tour.ipynb"
SHORTER = {
    "STEPS = 500 ": "STEPS = 4 ",
    "SAMPLES = 200 ": "SAMPLES = 20 ",
    "nf=32, ch_mult=(1, 2)": "nf=8, ch_mult=(1,)",
    "attn_resolutions=(4,)": "attn_resolutions=()",
    "batch_size=100": "batch_size=20",
    "held_out[:64]": "held_out[:32]",
}
"""What stands in the notebook, once, and what the test makes of it."""
SHALLOW = """
from score_sde.experiment import objects
from tests import light

own = dict(objects.NETWORKS)
objects.NETWORKS.update(light.NETWORKS)
"""
PROBE = """
assert set(drawn) == set(WAYS) and len(WAYS) == 6
assert all(images.shape == (SAMPLES, 8, 8, 1) and images.std() > 10 for images in drawn.values())
assert upright.log_prob.shape == (32, 4) and bool(jnp.isfinite(upright.log_prob).all())
assert back < 0.2, back  # of a range of 2, by a network that has hardly been trained
objects.NETWORKS.update(own)
whole = build(get_config())
score = lambda params, x: whole.score_of(params)(x, jnp.float32(0.5))
assert jax.eval_shape(score, whole.abstract_state().params, x0).shape == x0.shape
print("probed")
"""


def cells(kind: str) -> list[str]:
    book = json.loads(TOUR.read_text())
    assert book["nbformat"] == 4
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def test_every_cell_runs(tmp_path):
    """In a process of its own, elsewhere, with the package on its path and warnings that are no errors.

    With a shallow network in the place of the notebook's own, which is only traced: it would be compiled 13 times.
    """
    source = "\n\n".join(cells("code"))
    for there, instead in SHORTER.items():
        assert source.count(there) == 1, there
        source = source.replace(there, instead)
    (tmp_path / "tour.py").write_text(SHALLOW + source + PROBE)
    env = environment(pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])) | {"MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "tour.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("probed\n")
    assert done.stdout.count("evaluations, Fréchet distance") == 6


def test_the_badge_opens_what_the_first_cell_installs():
    """One repository throughout, the notebook by its own path; no outputs are kept."""
    badge = re.search(r"colab\.research\.google\.com/github/([\w-]+/[\w-]+)/blob/main/(\S+)\)", cells("markdown")[0])
    assert badge is not None
    assert badge[2] == str(TOUR.relative_to(ROOT))
    assert set(re.findall(r"github\.com/([\w-]+/[\w-]+)", cells("code")[0])) == {badge[1]}
    for cell in json.loads(TOUR.read_text())["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
