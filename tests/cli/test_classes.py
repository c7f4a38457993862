"""likelihood.label='each': the figure of every class, and Bayes' classifier of them."""

import json
import shutil

import numpy as np
import pytest

from score_sde.cli.likelihood import likelihood
from score_sde.experiment import objects
from score_sde.storage.workdir import Workdir
from tests.tiny import tiny_config, trained_run
from tests.training.small import Labelled


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The config of a network that is told labels, and its run."""
    config = tiny_config(data__condition=("label",), network__dropout=0.0)
    config.network.label_dropout = 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Labelled())
        yield config, trained_run(tmp_path_factory.mktemp("trained") / "run", config)


@pytest.mark.parametrize("solver", ["rk45", "grid"])
def test_each_class_in_turn_classifies_by_bayes_rule(solver, trained, tmp_path, capsys):
    """A row has the figure of every class, that of its own label among them, of the same noise."""
    config, workdir = trained[0].copy_and_resolve_references(), Workdir(tmp_path / "run")
    shutil.copytree(trained[1].path, workdir.path)
    config.likelihood.update(num_images=5, dequantizations=1, bound_samples=0, rtol=1e-2, atol=1e-2, solver=solver)
    config.likelihood.label = "each"
    assert likelihood(config, workdir) == 0
    table = np.genfromtxt(workdir.path / "likelihood" / "per_image.csv", delimiter=",", names=True)
    figures = np.stack([table[f"bits_per_dim_of_{k}"] for k in range(10)], axis=1)
    own = table["label"].astype(int)
    np.testing.assert_allclose(figures[np.arange(5), own], table["bits_per_dim"], atol=2e-3)
    assert figures.std(1).max() > 1e-4
    summary = json.loads((workdir.path / "likelihood" / "summary.json").read_text())
    shares = np.array(json.loads(workdir.config.read_text())["data"]["labels"]["frequencies"])
    joint = -figures * 64 * np.log(2) + np.log(shares)
    assert summary["accuracy"] == pytest.approx(np.mean(np.argmax(joint, 1) == own))
    posterior = joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)
    assert summary["log_posterior"] == pytest.approx(posterior[np.arange(5), own].mean(), abs=0.02)
    assert "are given their own" in capsys.readouterr().out
    assert likelihood(config, workdir) == 0  # goes on, from the end
