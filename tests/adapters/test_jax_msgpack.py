"""Official JAX files: read exactly, in every shape they come in, and refused when damaged."""

import pathlib
from typing import Any

import jax
import msgpack
import numpy as np
import pytest
from flax import serialization

from score_sde.adapters.jax_msgpack import read, read_params
from score_sde.errors import UsageError
from tests.adapters.official import JAX_FILE, experiment_of
from tests.golden_files import agree, load, quick_jit

NAME = "ckpt_jax_expected"


def test_the_official_file() -> None:
    """Its outputs under averaged and raw parameters, a parameter and a moment, as the official code recorded them."""
    golden, foreign = load(NAME), read(JAX_FILE)
    assert (foreign.step, foreign.adam_updates) == (golden["step"], 5)
    network = experiment_of(NAME).score_system.network
    apply = quick_jit(network.apply)
    for params, key in ((foreign.ema, "output_ema"), (foreign.params, "output_raw")):
        output = apply({"params": params}, golden["x"], golden["time_cond"], golden["time_cond"])
        agree(output, NAME, key, "checkpoints")
    assert foreign.mu is not None
    agree(foreign.ema["Conv_0"]["kernel"], NAME, "params_ema/Conv_0/kernel", "checkpoints")
    agree(foreign.mu["Conv_0"]["kernel"], NAME, "adam_m/Conv_0/kernel", "checkpoints")


def test_every_tree_has_todays_shapes() -> None:
    foreign = read(JAX_FILE)
    expected = jax.tree.map(lambda a: a.shape, experiment_of(NAME).abstract_state().params["score"])
    for tree in (foreign.ema, foreign.params, foreign.mu, foreign.nu):
        assert jax.tree.map(np.shape, tree) == expected
        assert {a.dtype for a in jax.tree.leaves(tree)} == {np.dtype(np.float32)}


def test_the_shapes_of_old_flax(tmp_path: pathlib.Path) -> None:
    """(1, 1, 1, C) for every GroupNorm, in parameters, average and both moments; rewritten by Flax itself."""
    reshaped = 0

    def old(path: Any, leaf: Any) -> Any:
        nonlocal reshaped
        if "GroupNorm" not in jax.tree_util.keystr(path):
            return leaf
        reshaped += 1
        return leaf.reshape(1, 1, 1, -1)

    saved = jax.tree_util.tree_map_with_path(old, serialization.msgpack_restore(JAX_FILE.read_bytes()))
    file = tmp_path / "checkpoint_5"
    file.write_bytes(serialization.msgpack_serialize(saved))
    assert reshaped == 4 * 2 * 24
    jax.tree.map(np.testing.assert_array_equal, read(file)[1:7], read(JAX_FILE)[1:7])


def state(params: dict) -> dict:
    """A training state with the official names, as a flax of today would write it."""
    moments = jax.tree.map(lambda a: {"grad_ema": -a, "grad_sq_ema": a * a}, params)
    optimizer = {"target": params, "state": {"step": np.int32(7), "param_states": moments}}
    return {"step": np.asarray(8), "optimizer": optimizer, "params_ema": jax.tree.map(lambda a: 2 * a, params)}


@pytest.mark.parametrize("chunk", [2**30, 64])
def test_written_by_todays_flax(chunk: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with arrays cut into chunks, as above a gigabyte."""
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", chunk)
    params = {"Conv_0": {"kernel": np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2)}, "b": np.float32([1, 2])}
    file = tmp_path / "checkpoint_1"
    file.write_bytes(serialization.msgpack_serialize(state(params)))
    foreign = read(file)
    assert (foreign.step, foreign.adam_updates) == (8, 7)
    for tree, factor in ((foreign.ema, 2), (foreign.params, 1), (foreign.mu, -1)):
        jax.tree.map(np.testing.assert_array_equal, tree, jax.tree.map(lambda a, f=factor: f * a, params))
    jax.tree.map(np.testing.assert_array_equal, foreign.nu, jax.tree.map(np.square, params))


def test_a_part_missing(tmp_path: pathlib.Path) -> None:
    """What is there is read, and its step kept; parameters stand for an average that is missing."""
    params = {"Conv_0": {"kernel": np.ones((3, 3, 2, 2), np.float32)}}
    file = tmp_path / "checkpoint_1"
    saved = state(params)
    file.write_bytes(serialization.msgpack_serialize({k: saved[k] for k in ("step", "params_ema")}))
    foreign = read(file)
    assert (foreign.source, foreign.step) == ("an official JAX checkpoint without an optimizer", 8)
    assert (foreign.params, foreign.mu, foreign.ema["Conv_0"]["kernel"][0, 0, 0, 0]) == (None, None, 2)
    file.write_bytes(serialization.msgpack_serialize({k: saved[k] for k in ("step", "optimizer")}))
    foreign = read(file)
    assert (foreign.source, foreign.step) == ("an official JAX checkpoint without an average", 8)
    assert (foreign.params, foreign.adam_updates, foreign.ema["Conv_0"]["kernel"][0, 0, 0, 0]) == (None, 7, 1)
    assert foreign.mu is not None and foreign.mu["Conv_0"]["kernel"][0, 0, 0, 0] == -1


def test_trees_in_other_forms(tmp_path: pathlib.Path) -> None:
    """As module.init returns them; with names that are paths; with empty subtrees, which hold nothing."""
    tree = {"Conv_0": {"kernel": np.ones(3, np.float32)}}
    file = tmp_path / "params"
    for form in ({"params": tree}, {"Conv_0/kernel": tree["Conv_0"]["kernel"]}, {**tree, "Extra": {"more": {}}}):
        file.write_bytes(serialization.msgpack_serialize(form))
        for found in (read(file).ema, read_params(file)):
            jax.tree.map(np.testing.assert_array_equal, found, tree)


def test_the_classifiers_file_is_a_bare_tree(tmp_path: pathlib.Path) -> None:
    norms = {name: {"scale": np.ones((1, 1, 1, 4), np.float32)} for name in ("init_bn", "bn_2", "pre-pool-bn")}
    tree = {"WideResnetGroup_0": norms, "Dense_0": {"kernel": np.ones((1, 1, 1, 4), np.float16)}}
    file = tmp_path / "classifier"
    file.write_bytes(serialization.msgpack_serialize(tree))
    params = read_params(file)
    assert {v["scale"].shape for v in params["WideResnetGroup_0"].values()} == {(4,)}
    assert (params["Dense_0"]["kernel"].shape, params["Dense_0"]["kernel"].dtype) == ((1, 1, 1, 4), np.float32)
    foreign = read(file)
    assert (foreign.step, foreign.params, foreign.mu) == (0, None, None)
    jax.tree.map(np.testing.assert_array_equal, foreign.ema, params)


def refused(file: pathlib.Path) -> str:
    with pytest.raises(UsageError) as error:
        read(file)
    assert str(error.value).startswith(f"{file} cannot be read as an official JAX checkpoint")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_truncated_anywhere(tmp_path: pathlib.Path) -> None:
    content, file = JAX_FILE.read_bytes(), tmp_path / "checkpoint_5"
    for length in [*range(1, 40), *range(40, len(content), len(content) // 60), len(content) - 1]:
        file.write_bytes(content[:length])
        message = refused(file)
        assert f"after {length} bytes" in message and "copy or download it again" in message


def test_something_behind_its_end(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "checkpoint_5"
    file.write_bytes(JAX_FILE.read_bytes() + b"abc")
    assert "3 bytes follow its end" in refused(file)


def test_flipped_bytes_of_the_header_raise_nothing_else(tmp_path: pathlib.Path) -> None:
    content, file, refusals = bytearray(JAX_FILE.read_bytes()), tmp_path / "checkpoint_5", 0
    for i in range(120):
        for flip in (0xFF, 0x01, 0x80):
            content[i] ^= flip
            file.write_bytes(content)
            content[i] ^= flip
            try:
                read(file)  # where a name changed, the tree is refused later, by its check
            except UsageError as error:
                refusals += str(file) in str(error)
    assert refusals > 200


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"Conv_0": {"kernel": "text"}}, "Conv_0/kernel is of type str, not an array"),
        ({"Conv_0": msgpack.ExtType(1, msgpack.packb([[2], "<U1", b"ab" * 4]))}, "dtype <U1, not numbers"),
        ({"Conv_0": msgpack.ExtType(1, msgpack.packb([[1], "O", b"a" * 8]))}, "ValueError"),
        ({"Conv_0": msgpack.ExtType(1, msgpack.packb([[3], "float32", b"a" * 8]))}, "cannot reshape"),
        ({"Conv_0": msgpack.ExtType(5, b"")}, "extension type 5 is no array"),
        ([1, 2], "it holds a list, not a map"),
        ({"params_ema": {}, "optimizer": {}}, "KeyError: 'step'"),
        ({"params_ema": {}, "optimizer": {}, "step": 5}, "KeyError: 'target'"),
        ({"params_ema": {}, "step": -3}, "its step is -3"),
        ({"params_ema": {}, "step": 2**31}, "its step is 2147483648"),
        (
            {"optimizer": {"target": {}, "state": {"param_states": {}, "step": -1}}, "step": 1},
            "its number of Adam's updates is -1",
        ),
        ({"a": {"b": 1}, b"c": 2}, "expected str instance, bytes found"),
        ({b"c": {b"d": 2}}, "expected str instance, bytes found"),
        ({"\x1b[2J": 1}, r"\\x1b\[2J is of type int"),
        ({1: 2}, "int is not allowed for map key"),
    ],
)
def test_what_is_no_checkpoint(saved: object, said: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(msgpack.packb(saved))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=said):
        read(file)
