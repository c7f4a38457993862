"""metrics.jsonl and TensorBoard: means over windows, no duplicate and no gap after a resumption."""

import json

import numpy as np
from tensorboardX.proto import event_pb2

from score_sde.training.metrics import MetricsLog
from score_sde.training.step import Metrics


def call(*losses: float) -> Metrics:
    values = np.asarray(losses, np.float32)
    return Metrics(values, 2 * values, np.full_like(values, 1e-3))


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
    resumed = MetricsLog(path, tmp_path / "tb", 5, [(10.0, 20.0, 1e-3)])
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
    loss, norm, rate = log.pending[0]
    log.close()
    assert (np.float32(loss), np.float32(norm), np.float32(rate)) == tuple(m[0] for m in call(0.1))
    assert json.loads(json.dumps(loss)) == loss
