"""metrics.jsonl and TensorBoard: means over windows, no duplicate and no gap after a resumption."""

import contextlib
import json

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from score_sde.loop.metrics import MetricsLog
from score_sde.training.step import Metrics
from tests.disk import filling


def call(*losses: float) -> Metrics:
    """Updates of two examples each, both in bin 3, or in bin 4 where the update was skipped (its loss is NaN)."""
    values = np.asarray(losses, np.float32)
    skipped = np.isnan(values).astype(np.float32)
    counts = 2 * np.eye(10, dtype=np.float32)[3 + skipped.astype(int)]
    rate = np.full_like(values, 1e-3)
    return Metrics(values, 2 * values, 3 * np.nan_to_num(values), rate, skipped, counts * values[:, None], counts)


def pending(loss: float) -> list:
    """One update as the JSON of a checkpoint of earlier versions gives it back, without terms."""
    return json.loads(json.dumps([np.asarray(m[0]).tolist() for m in call(loss)[:-1]]))


def events(folder) -> list[event_pb2.Event]:
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_a_line_is_the_mean_over_its_window(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl", tmp_path / "tb", 0, [])
    log.add(call(1.0, 2.0), 8)
    log.add(call(6.0), 4)
    line = log.flush(3)
    log.close()
    assert (line["step"], line["loss"], line["gradient_norm"]) == (3, 3.0, 6.0)
    assert line["parameter_norm"] == 18.0  # of the last update
    assert line["loss_by_t"] == [None] * 3 + [3.0] + [None] * 6
    assert json.loads((tmp_path / "m.jsonl").read_text()) == line


def test_resumption_truncates_the_file_and_purges_tensorboard(tmp_path):
    """Lines after the checkpoint, a line cut off by the kill and a line of no sense go; the window goes on."""
    path = tmp_path / "m.jsonl"
    log = MetricsLog(path, tmp_path / "tb", 0, [])
    for step in (2, 4, 6):
        log.add(call(step, step), 2)
        log.flush(step)
    log.close()
    with path.open("a") as file:
        file.write('3\n{"step": 8, "lo')
    resumed = MetricsLog(path, tmp_path / "tb", 5, [pending(10.0)])
    resumed.add(call(30.0), 1)
    resumed.flush(6)
    resumed.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 2.0), (4, 4.0), (6, 20.0)]
    starts = [e.step for e in events(tmp_path / "tb") if e.session_log.status == event_pb2.SessionLog.START]
    assert starts == [1, 6]


def test_pending_is_what_the_next_line_is_made_of(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl", tmp_path / "tb", 0, [])
    log.add(call(0.1), 1)
    (row,) = log.pending
    log.close()
    for ours, given in zip(row[:-1], call(0.1)[:-1]):
        np.testing.assert_array_equal(np.asarray(ours, np.float32), given[0])
    assert row.more == {}
    assert json.loads(json.dumps(list(row))) == list(row)


def test_terms_and_norms_of_parts_have_names_of_their_own(tmp_path):
    """Means over the window; they go through a checkpoint, and the updates before that had none are left out."""
    log = MetricsLog(tmp_path / "m.jsonl", tmp_path / "tb", 0, [pending(5.0)])
    more = {"kl": np.float32([1, 2]), "gradient_norm/critic": np.float32([3, 5])}
    log.add(call(1.0, 3.0)._replace(more=more), 4)
    assert [row.more for row in log.pending] == [
        {},
        *({"kl": a, "gradient_norm/critic": b} for a, b in ((1, 3), (2, 5))),
    ]
    rows = json.loads(json.dumps([list(row) for row in log.pending]))
    log.close()
    again = MetricsLog(tmp_path / "n.jsonl", tmp_path / "tb2", 0, rows)
    line = again.flush(3)
    again.close()
    assert (line["loss"], line["kl"], line["gradient_norm/critic"]) == (3.0, 1.5, 4.0)


def test_skipped_updates_are_counted_and_left_out_of_the_means(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl", tmp_path / "tb", 0, [])
    log.add(call(1.0, float("nan"), 2.0), 12)
    line = log.flush(3)
    assert (line["loss"], line["gradient_norm"], line["skipped"]) == (1.5, 3.0, 1)
    assert line["loss_by_t"][3:5] == [1.5, None]
    log.add(call(float("nan")), 4)
    line = log.flush(4)
    log.close()
    assert (line["loss"], line["skipped"], line["loss_by_t"]) == (None, 1, [None] * 10)
    assert [json.loads(text)["loss"] for text in (tmp_path / "m.jsonl").read_text().splitlines()] == [1.5, None]


def test_only_the_process_that_writes_makes_files(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl", tmp_path / "tb", 0, [], write=False)
    log.add(call(1.0), 4)
    assert log.flush(1)["loss"] == 1.0
    log.close()
    assert not list(tmp_path.iterdir())


def test_a_damaged_line_is_named_and_the_others_stay(tmp_path, capsys):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": \xff\xfe\n{"step": 3}\n{"step": 4, "l')
    MetricsLog(path, tmp_path / "tb", 3, []).close()
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'
    assert capsys.readouterr().err == f"line 2 of {path} is damaged, and left out\n"


@pytest.mark.parametrize("full_at", range(1, 9))
def test_a_full_disk_is_heard_of(tmp_path, full_at):
    """By who writes the line: tensorboardX's own thread would die of it, and the program wait for it."""
    log = MetricsLog(tmp_path / "m.jsonl", tmp_path / "tb", 0, [])
    with filling(full_at, tmp_path), pytest.raises(OSError, match="No space left") as error:
        for step in range(1, 9):
            log.add(call(1.0), 2)
            log.flush(step)
    assert error.value.filename in (str(tmp_path / "m.jsonl"), str(tmp_path / "tb"))
    with contextlib.suppress(OSError):
        log.close()
