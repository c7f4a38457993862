"""The published configurations: every field, the networks' sizes, and what the headers and docs/zoo.md say of them."""

import copy
import functools
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from score_sde import experiment
from score_sde.config import Config, default, flatten, load
from score_sde.config.validation import validate
from score_sde.data.spec import Labels, Spec
from tests.zoo import ZOO, Row

ROOT = pathlib.Path(__file__).parent.parent
TABLE = [line for line in (ROOT / "docs" / "zoo.md").read_text().splitlines() if line.startswith("| [")]


rows = pytest.mark.parametrize("row", ZOO, ids=lambda row: row.path)


@functools.cache
def config_of(path: str) -> Config:
    return load(str(ROOT / "configs" / f"{path}.py"))


def header_of(row: Row) -> str:
    return (ROOT / "configs" / f"{row.path}.py").read_text().split('"""')[1]


@functools.cache
def experiment_of(path: str) -> experiment.Experiment:
    """Of ten classes where it is told labels, which are not counted here."""
    config = config_of(path)
    labelled = {"data": Spec((32, 32, 3), labels=Labels((0.1,) * 10)).to_json()}
    return experiment.build(config, labelled if config.data.condition else None)


TWINS: dict[Any, str] = {}


def twin(path: str) -> str:
    """The first configuration asked for whose network and image size are this one's: nothing is traced twice."""
    built = experiment_of(path)
    irrelevant = {"dropout": 0.0, "scale_by_sigma": False, "centered": True}
    same = {name: value for name, value in irrelevant.items() if hasattr(built.score_system.network, name)}
    return TWINS.setdefault((built.score_system.network.clone(**same), built.shape), path)


@functools.cache
def params_of(path: str) -> Any:
    return experiment_of(path).abstract_params()["score"]


@functools.cache
def gflop_of(path: str) -> float:
    """Of one evaluation for one image."""
    built = experiment_of(path)
    image = jax.ShapeDtypeStruct((1, *built.shape), jnp.float32)
    number = jax.ShapeDtypeStruct((1,), jnp.float32)
    labels = {"label": jax.ShapeDtypeStruct((1,), jnp.int32)} if built.config.data.condition else None
    cost = (
        jax.jit(built.score_system.network.apply)
        .lower({"params": params_of(path)}, image, number, number, None, **({"condition": labels} if labels else {}))
        .cost_analysis()
    )
    assert cost
    return cost["flops"] / 1e9


def test_there_is_a_row_for_every_file():
    files = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in (ROOT / "configs").rglob("*.py")}
    beginnings = ("digits", "mnist_", "cifar10_", "pairs_", "diffusers/", "edm/", "adm/", "restoration/")
    own = {path for path in files if path.startswith(beginnings)}
    own |= {"published", "tiny", "field", "field_folder", "polygons", "lj13"}
    assert files - own == {row.path for row in ZOO}
    assert len(ZOO) == 39


@rows
def test_every_field_is_the_released_one(row):
    config = config_of(row.path)
    validate(config)
    assert flatten(config) == flatten(default()) | row.fields


@rows
def test_the_network_has_the_published_size(row):
    leaves = jax.tree.leaves(params_of(twin(row.path)))
    assert (sum(leaf.size for leaf in leaves), len(leaves)) == (row.parameters, row.leaves)


@rows
def test_the_header_tells_the_command_the_figures_and_the_cost(row):
    header, fields = header_of(row), row.fields
    assert f"\npython launch.py --config configs/{row.path}.py\n" in header
    assert re.findall(r"^Published: (.*)\.$", header, re.MULTILINE) == (
        [", ".join(row.published)] if row.published else []
    )
    text = " ".join(header.split())
    cost = text.partition(" Cost: ")[2].partition(" Corrected: ")[0]
    assert cost.startswith(f"{row.parameters:,} parameters; ")
    assert f"; {in_short(fields['training.num_steps'])} steps of batch {fields['training.batch_size']}" in cost
    assert ("Corrected: " in text) == bool(row.corrected)
    assert all(word in text.partition(" Corrected: ")[2] for word in row.corrected)


def in_short(steps: int) -> str:
    """Steps as the headers count them: 1.3M, 950k."""
    return f"{steps // 100_000 / 10}M" if steps >= 1_000_000 else f"{steps // 1000}k"


KINDS = {
    (row.fields["network.name"], row.fields.get("network.fir"), row.fields["data.image_size"]): row for row in ZOO[::-1]
}


@pytest.mark.parametrize("row", KINDS.values(), ids=lambda row: row.path)
def test_the_header_tells_the_arithmetic_of_one_evaluation(row):
    stated = re.search(r"([\d,.]+) GFLOP per image", " ".join(header_of(row).split()))
    assert stated
    assert float(stated[1].replace(",", "")) == pytest.approx(gflop_of(twin(row.path)), rel=0.02)


@rows
def test_the_documents_table_agrees_with_the_header(row):
    line = next(line for line in TABLE if line.startswith(f"| [{row.path}]"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    stated = re.search(r"([\d,.]+) GFLOP per image", " ".join(header_of(row).split()))
    assert stated
    assert cells[0] == f"[{row.path}](../configs/{row.path}.py)"
    assert cells[3:5] == [f"{row.parameters:,}", stated[1]]
    assert cells[-1] == (", ".join(row.published) or "-")


@pytest.mark.parametrize(("name", "parameters"), [("ddpm_cifar10_32", 35.7e6), ("ddpm_bedroom_256", 114e6)])
def test_the_networks_of_ho_et_al_have_the_size_they_report(name, parameters):
    """Appendix B: 35.7 and 114 million."""
    found = sum(leaf.size for leaf in jax.tree.leaves(params_of(f"diffusers/{name}")))
    assert found == pytest.approx(parameters, rel=3e-3)
    assert f"{found:,} parameters" in (ROOT / "configs" / "diffusers" / f"{name}.py").read_text()


EDM = {  # Karras et al. 2022, tables 1 and 7 and appendix F, written down by hand
    "sde.name": "edm", "sde.sigma_max": 80.0, "likelihood.t_min": 0.002,
    "network.ch_mult": (2, 2, 2), "network.dropout": 0.13,
    "parametrization.prediction": "edm", "parametrization.label": "log_sigma",
    "data.name": "cifar10", "data.image_size": 32, "data.num_channels": 3, "data.augmentation": 0.12,
    "training.weighting": "edm", "training.times": "log_normal", "training.batch_size": 512,
    "training.reduce_mean": False,
    "training.num_steps": 200_000_000 // 512, "training.steps_per_call": 5,
    "optimizer.learning_rate": 1e-3, "optimizer.warmup": 10_000_000 // 512, "optimizer.grad_clip": -1.0,
    "ema.averages": ("half_life",), "ema.half_life": 500_000, "ema.rampup": 0.05,
    "sampling.solver": "euler", "sampling.times": "log_snr", "sampling.num_steps": 100, "sampling.t_min": 0.002,
    "logging.samples_every": 50_000,
}  # fmt: skip
EDMS = {
    "edm/cifar10_ddpmpp": ({"network.fir": False}, 55_733_891),
    "edm/cifar10_ncsnpp": (
        {
            "network.progressive_input": "residual",
            "network.embedding_type": "fourier",
            "parametrization.label": "root_sigma",
        },
        56_397_955,
    ),
}
CLASSES = {"data.condition": ("label",), "network.null_label": "zero"}
EDMS |= {
    f"{path}_conditional": (fields | CLASSES, count + extra)
    for (path, (fields, count)), extra in zip(EDMS.items(), (11 * 128, 11 * 256))
}


@pytest.mark.parametrize("path", EDMS)
def test_edms_configurations(path):
    """55.7 million is what the publication states for DDPM++; a table of labels costs next to no operations."""
    fields, parameters = EDMS[path]
    assert flatten(config_of(path)) == flatten(default()) | EDM | fields
    assert sum(leaf.size for leaf in jax.tree.leaves(params_of(path))) == parameters
    header = " ".join((ROOT / "configs" / f"{path}.py").read_text().split('"""')[1].split())
    stated = re.search(r"([\d,]+) parameters; ([\d.]+) GFLOP", header)
    assert stated
    assert stated[1] == f"{parameters:,}"
    assert float(stated[2]) == pytest.approx(gflop_of(path.removesuffix("_conditional")), rel=0.02)


def test_the_documents_table_has_39_rows():
    assert len(TABLE) == 39


@rows
def test_the_official_arithmetic_is_not_refused(row):
    config = copy.deepcopy(config_of(row.path))
    config.sampling.reference = True
    validate(config)


def test_no_config_file_imports_jax():
    program = (
        "import sys; from score_sde.config import load;"
        " [load(f'configs/{path}.py') for path in sys.argv[1:]];"
        " sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, *(row.path for row in ZOO), *EDMS], cwd=ROOT, check=True)
