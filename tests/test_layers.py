"""The architecture: imports point down only, heavy packages stay where they belong, nothing heavy before validation."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "score_sde"

ORDER = [
    "errors",
    "files",
    "manifest",
    "memory",
    "typing",
    "rng",
    "networks",
    "sde",
    "chain",
    "analytic",
    "parametrization",
    "posterior",
    "times",
    "divergence",
    "solvers",
    "losses",
    "score_matching",
    "variational",
    "pilot",
    "sde_bound",
    "sampling",
    "likelihood",
    "encoding",
    "adapters",
    "progress",
    "data",
    "images",
    "distributed",
    "parallel",
    "checkpoint",
    "evaluation",
    "config",
    "architecture",
    "averages",
    "automatic",
    "sampling_checks",
    "validation",
    "workdir",
    "training.schedule",
    "training.prefetch",
    "training.optimizer",
    "training.posthoc",
    "training.snapshots",
    "training.ema",
    "training.step",
    "objects",
    "experiment",
    "generation",
    "image_likelihood",
    "importing",
    "training.metrics",
    "training.health",
    "training.heldout",
    "training.loop",
    "reporting.figures",
    "reporting.page",
    "reporting.records",
    "reporting",
    "modes",
    "main",
]
"""From the bottom up; a module imports those before it, and its own package."""

FREE_OF_JAX = {
    "errors",
    "files",
    "manifest",
    "memory",
    "config",
    "architecture",
    "averages",
    "automatic",
    "sampling_checks",
    "validation",
    "workdir",
    "main",
    "training.posthoc",
    "training.schedule",
    "training.prefetch",
    "data.sources",
    "data.pictures",
    "data.folder",
    "data.cache",
    "data.records",
    "data.preparing",
    "data.resolve",
    "data.workers",
    "images",
    "progress",
    "evaluation",
    "reporting.figures",
    "reporting.page",
    "reporting.records",
}
ALLOWED = {  # package -> the layers that may import it
    "optax": {"training.optimizer"},
    "orbax": {"checkpoint"},
    "tensorflow_datasets": {"data"},
    "grain": {"data"},
    "PIL": {"images", "data"},
    "flax": {"networks", "objects", "experiment", "adapters"},
    "msgpack": {"adapters"},
    "scipy": {"evaluation"},
    "safetensors": {"adapters"},
    "tqdm": {"progress"},
    "matplotlib": {"reporting.figures"},
    "tensorboardX": {"training.metrics"},
    "ml_collections": {"config", "workdir", "experiment", "modes", "main"},
    "absl": {"main", "data"},
}
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in ROOT.rglob("*.py")
)
MODULES = [m for m in MODULES if m not in ("__init__", "training")]


def imports(module: str) -> set[str]:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> str:
    return max((name for name in ORDER if module == name or module.startswith(name + ".")), key=len)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    ours = {name.removeprefix("score_sde.") for name in imports(module) if name.startswith("score_sde.")}
    ours = {name for name in ours if name in MODULES}
    own = layer(module)
    above = {name for name in ours if layer(name) != own and ORDER.index(layer(name)) >= ORDER.index(own)}
    assert not above, f"{module} imports {above} from above"
    if own == "networks":
        assert {layer(name) for name in ours} <= {"networks", "typing"}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_stay_in_their_layers(package):
    users = {m for m in MODULES if any(name.split(".")[0] == package for name in imports(m))}
    assert {layer(m) for m in users} <= ALLOWED[package]


@pytest.mark.parametrize("module", [m for m in MODULES if m in FREE_OF_JAX or layer(m) in FREE_OF_JAX])
def test_what_runs_before_validation_is_free_of_jax(module):
    assert not {name for name in imports(module) if name.split(".")[0] in ("jax", "flax", "optax")} or module == "main"


def test_main_imports_nothing_heavy():
    heavy = "{'jax', 'flax', 'optax', 'orbax', 'PIL', 'grain', 'tensorboardX', 'msgpack', 'safetensors', 'matplotlib'}"
    code = f"import sys, score_sde.main; print(*sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_short(module):
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert len(path.read_text().splitlines()) <= 400
