"""Runs of tokens: by command, killed and resumed, over devices, in microbatches; texts; what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.config.validation import validate
from score_sde.data.spec import Spec
from score_sde.data.text import Alphabet
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.networks import Transformer
from score_sde.reporting import tokens
from score_sde.systems import Masked
from tests.systems import masking
from tests.systems.learning import learn, leaves, without_its_end
from tests.systems.masking import masked_config
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens") / "whole"
    return leaves(learn(masked_config(), folder, Pmap(jax.devices()[:1]))), folder


class TestRuns:
    def test_resumed_is_bitwise_the_uninterrupted_run(self, whole, tmp_path):
        expected, folder = whole
        again = learn(masked_config(), without_its_end(folder, tmp_path / "run"), Pmap(jax.devices()[:1]))
        for mine, other in zip(expected, leaves(again), strict=True):
            np.testing.assert_array_equal(mine, other)

    @pytest.mark.parametrize("way", ["pmap on 8, in microbatches", "sharded on 8, 4 of them fsdp, with remat"])
    def test_over_devices_in_microbatches_and_with_remat(self, way, whole, tmp_path):
        expected, _ = whole
        strategy = Sharded(4, jax.devices()) if way.startswith("sharded") else Pmap(jax.devices())
        changes = {"training__microbatches": 2} if "microbatches" in way else {"training__remat": "blocks"}
        for mine, other in zip(
            expected, leaves(learn(masked_config(**changes), tmp_path / "run", strategy)), strict=True
        ):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-5)

    def test_what_is_known_of_the_tokens_stands_in_the_record(self, whole):
        _, folder = whole
        record = json.loads((folder / "config.json").read_text())["data"]
        assert Spec.from_json(record) == Spec((8,), "tokens", alphabet=Alphabet(3))


def test_a_text_by_command(tmp_path, capsys, monkeypatch):
    """Trained with grids, sampled, bounded and reported, where the text itself may be gone by then."""
    monkeypatch.setattr(tokens, "STEPS", (1,))
    text = tmp_path / "book.txt"
    text.write_text("the café is open, the café is closed; " * 40, encoding="utf-8")
    line = ["launch.py", "--config", masking.__file__, "--workdir", str(tmp_path / "run")]
    line += [f"--config.data.{field}" for field in ("name=text", f"path={text}", "length=16", "held_out=4")]
    line += ["--config.logging.samples_every=2", "--config.evaluation.every=2", "--config.training.num_steps=2"]
    assert main(line) == 0, capsys.readouterr().err
    places = [tmp_path / "run" / "samples" / f"{name}_00000002.txt" for name in ("step", "final")]
    assert places[0].read_text() == places[1].read_text().split("--- 8")[0] and places[0].read_text().count("---") == 8
    assert main([*line, "--mode=likelihood", "--config.likelihood.batch_size=4"]) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "likelihood" / "summary.json").read_text())
    assert summary["num_images"] == 4 and summary["perplexity"] == pytest.approx(np.exp(summary["nats_per_dim"]))
    assert "perplexity" in capsys.readouterr().out
    text.unlink()
    assert main([*line, "--mode=sample"]) == 0, capsys.readouterr().err
    (folder,) = (tmp_path / "run" / "samples").glob("unmasking-4-seed0")
    with np.load(folder / "samples.npz") as arrays:
        x = arrays["samples"]
    record = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert x.dtype == np.int32 and x.shape == (8, 16) and x.min() >= 0 and x.max() < record["alphabet"]["size"]
    values = sorted(set("the café is open, the café is closed; ".encode()))
    assert record["alphabet"]["bytes"] == values
    first = bytes(values[k] for k in x[0]).decode("utf-8", "replace")
    assert (folder / "samples.txt").read_text(encoding="utf-8").startswith(f"--- 0\n{first}\n--- 1\n")
    (folder / "samples.txt").unlink()
    assert main([*line, "--mode=sample"]) == 0 and (folder / "samples.txt").exists()
    assert main([*line, "--mode=report"]) == 0, capsys.readouterr().err
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "a perplexity of" in page and "<td>1</td>" in page and "<td>4</td>" in page


def test_what_the_config_says_is_what_is_built():
    config = masked_config(masked__schedule="cosine", masked__num_scales=7, training__t_min=1e-4, network__dropout=0.25)
    system = build(config).system
    assert isinstance(system, Masked) and system.vocabulary == 3 and system.length == 8
    assert system.network == Transformer(3, 16, 1, 2, 0.25)
    assert (system.num_scales, system.t_min, system.dropout, system.steps()) == (7, 1e-4, True, 4)
    config.sampling.num_steps = 9
    assert system.steps() == 9
    assert float(system.schedule.masked(jnp.float32(0.5))) == pytest.approx(1 - 0.5**0.5)


REFUSED = [
    ({"network__name": "ddpm"}, r"network\.name='ddpm' has no logits of tokens, as system\.name='masked' asks"),
    (
        {"network__head_channels": 5, "data__shape": (8,)},
        r"network\.nf=16 channels, 4 or more, do not divide among heads of network\.head_c",
    ),
    ({"sampling__solver": "heun"}, r"'heun' asks for a score, which system\.name='masked' has not: set it to 'unmask"),
    ({"sde__name": "ve"}, r"sde\.name='ve' has no meaning for system\.name='masked', which masks tokens"),
    (
        {"data__kind": "bytes"},
        r"the data are of kind 'bytes', and system\.name='masked' masks tokens: save them as int",
    ),
    ({"data__random_flip": True, "data__kind": "tokens"}, r"data\.random_flip=True is for bytes, and the data are tok"),
    ({"evaluation__final_samples": 8}, r"final_samples=8 asks for distances, which tokens have not"),
    ({"data__length": 9}, r"data\.length=9 is of data\.name='text' or 'waves', and has no effect on 'array'"),
    ({"data__name": "text", "data__shape": (3,)}, r"data\.shape=\(3,\) do not go with data\.name='text'"),
    ({"data__name": "text", "data__path": ""}, r"data\.path is empty: name a text, whose bytes are the tokens"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_it_has_not_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        validate(masked_config(**changes))


def test_other_systems_have_no_tokens():
    with pytest.raises(
        UsageError, match=r"network\.name='transformer' is of tokens, and system\.name='score' has none"
    ):
        validate(tiny_config(network__name="transformer"))
    with pytest.raises(UsageError, match=r"'unmasking' draws tokens, and system\.name='score' has none: choose auto"):
        validate(tiny_config(sampling__solver="unmasking"))
    with pytest.raises(UsageError, match=r"masked\.num_scales=3 has no meaning for system\.name='score', the section"):
        validate(tiny_config(masked__num_scales=3))


@pytest.mark.parametrize("mode", [["evaluate"], ["import", f"--checkpoint={__file__}"], ["export", "--format=jax"]])
def test_modes_that_there_are_not(mode, tmp_path, capsys):
    line = ["launch.py", "--config", masking.__file__, "--workdir", str(tmp_path / "run")]
    assert main([*line, f"--mode={mode[0]}", *mode[1:]]) == 2
    assert f"--mode={mode[0]} " in capsys.readouterr().err
