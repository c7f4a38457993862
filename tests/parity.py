"""Run every comparison with the recorded official outputs and write docs/parity.md: python -m tests.parity

Also checks that nothing recorded was forgotten: every array of tests/golden/song2021, and of EDM's files in
tests/golden/solvers, that is an output is compared.
"""

import os
import pathlib
import platform
import re
import sys
from collections import defaultdict

import pytest

from score_sde.storage.workdir import versions
from tests.golden_files import COMPARISONS, GOLDEN, TOLERANCES, Comparison, load

ROOT = pathlib.Path(__file__).parent.parent
TESTS = [
    "tests/sde/test_sdes.py", "tests/sde/test_chain.py", "tests/scores/test_parametrization.py",
    "tests/objectives/test_denoising.py", "tests/likelihood/test_ode.py", "tests/solvers/test_reference.py",
    "tests/training/test_optimizer.py", "tests/networks/test_layers.py", "tests/networks/test_ncsnpp.py",
    "tests/networks/test_ddpm.py", "tests/networks/test_ncsnv2.py", "tests/adapters",
]  # fmt: skip

CHOSEN = " or ".join(
    ("golden", "official_file", "recorded", "single", "replay", "endpoints", "discretisation", "tables", "scores")
)
"""Words in the names of the tests that compare; `missing` tells if one is forgotten."""

INPUTS = {
    "sde": r"x|t|score|grid_t",
    "losses": r"x|t|z|labels_(vp|ve)",
    "samplers": r"x|t|z|m|s|snr|(vp|subvp|ve)/x|pc/noise|pc/.*/n_noise_used|ode/z|.*/nfe|like/(data|eps_.*)",
    "optim": r"grad/.*|params0/.*|.*/hyper_.*",
    "layers": r"x|temb|w_hwio|upfirdn_kernel|gfp_in|temb_in|.*params_(index|flat)",
    "net": r"x|time_cond|params_(index|flat)|config_json",
    "ckpt": r"x|time_cond|config_json|step|ema_num_updates|ema_state_dict_.*",
    "edm": r"meta_json|sigma|.*__(y|rnd|noise|round_sigma|sigma_min_max)",
    "edm2": r"meta_json|loss__(y|rnd|noise|logvar)|(?!loss__).*",
}
"""What the files hold beside outputs compared here. Recorded numbers of evaluations count some that never happened
(those of likelihoods are compared by their test); the PyTorch checkpoint's numbers and averaged parameters are equal
to the last bit (tests/adapters/test_score_sde_torch.py); of EDM2 the loss alone is compared."""

HEADER = """\
# How near the official code's numbers we come

Written by `python -m tests.parity` ({versions};
{machine}; discretisations, SMLD's and EDM's losses computed in float64). The error is
max|ours - theirs| / max|theirs|, the largest over the arrays of a line; the tolerance, which the tests assert, is five
times by which the official JAX and PyTorch codes differ from one another, where that is known
([tests/golden](../tests/golden/README.md)).

"""


def main() -> int:
    """Run, check that nothing is missing, write; the exit code of the tests."""
    os.environ["SCORE_SDE_TEST_OPTIMISED"] = "1"  # the page is of programs as users compile them
    code = pytest.main(["-q", "-n0", "-k", CHOSEN, *TESTS])
    if code:
        return int(code)
    if forgotten := missing():
        print("recorded, but compared with nothing:", *forgotten, sep="\n  ")
        return 1
    (ROOT / "docs" / "parity.md").write_text(document())
    print("docs/parity.md written")
    return 0


def missing() -> list[str]:
    """The recorded outputs that no test has compared."""
    compared = {(c.file, c.key) for c in COMPARISONS}
    files = [(path.stem, path.parent.name) for path in sorted(GOLDEN.glob("song2021/*.npz"))]
    files += [("edm_precond_loss", "solvers"), ("edm2_ema_loss", "solvers")]
    arrays = [(file, key) for file, folder in files for key in load(file, folder)]
    outputs = [(file, key) for file, key in arrays if not re.fullmatch(INPUTS[kind(file)], key)]
    return [f"{file}.npz {key}" for file, key in outputs if (file, key) not in compared]


def kind(file: str) -> str:
    """The key of a file in INPUTS."""
    return file.split("_")[0]


def document() -> str:
    """The page."""
    found = versions()
    stack = ", ".join(f"{name} {found[name]}" for name in ("python", "jax", "flax", "numpy"))
    lines = [HEADER.format(versions=stack, machine=platform.machine() + " CPU, float32")]
    lines.append("| file | arrays | what | largest error | tolerance |\n|---|---|---|---|---|\n")
    groups: dict[tuple[str, str, str], list[Comparison]] = defaultdict(list)
    for comparison in COMPARISONS:
        part = comparison.key.split("/")[0] if comparison.file in ("samplers", "losses", "sde", "optim") else ""
        groups[comparison.file, part, comparison.kind].append(comparison)
    for (file, part, what), rows in sorted(groups.items()):
        worst = max(rows, key=lambda row: row.error)
        count = len({row.key for row in rows})
        where = f" ({worst.key}{', ' + worst.rows if worst.rows else ''})" if count > 1 else ""
        name = f"{file}.npz {part}".strip()
        lines.append(f"| {name} | {count} | {what} | {worst.error:.1e}{where} | {TOLERANCES[what]:.1e} |\n")
    lines.append(f'\n{len({(c.file, c.key) for c in COMPARISONS})} arrays. "t > 1e-3": the rows near t = 1e-5, where')
    lines.append(" the official code's 1 - exp cancels in float32, are left out ([deviations](deviations.md)).\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
