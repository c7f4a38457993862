"""The recorded figures of other evaluation tools (tests/golden/evaluation), and the seeded sets they are of."""

import json
import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "evaluation"
SEED = 500
Sets = dict[str, tuple[np.ndarray, np.ndarray]]


def metrics() -> dict:
    return json.loads((GOLDEN / "metrics.json").read_text())


def feature_sets() -> Sets:
    """Samples and data by name, float32 [N, D]; the order of the draws is part of the golden."""
    random = np.random.RandomState(SEED)
    n = random.standard_normal
    found = {}
    a, b = n((300, 16)), n((250, 16))
    found["gauss16"] = a, 0.8 * b + 0.3
    mixing = n((64, 64)) / 8
    found["relu64"] = np.maximum(n((400, 64)) @ mixing, 0), np.maximum(n((400, 64)) @ mixing + 0.1, 0)
    found["few64"] = abs(n((40, 64))), 1.1 * abs(n((30, 64)))
    found["pool2048"] = random.gamma(0.6, 0.75, (60, 2048)), random.gamma(0.6, 0.75, (50, 2048)) + 0.05
    x = n((200, 24))
    found["identical24"] = x, x
    x = abs(n((20, 64)))
    found["identical_few64"] = x, x
    basis = n((6, 32))
    basis[:, 5] = 0
    found["rank6of32"] = n((150, 6)) @ basis, 0.9 * n((150, 6)) @ basis + 0.2
    zeros = np.zeros((100, 8))
    found["disjoint_rank"] = np.hstack([n((100, 8)), zeros]), np.hstack([zeros, n((100, 8))])
    found["constant_vs_gauss"] = np.tile(n((1, 12)), (80, 1)), n((120, 12))
    found["far"] = n((100, 16)), n((100, 16)) + 50
    found["collapsed"] = 0.1 * n((200, 16)), 3 * n((200, 16))
    found["grid_ties"] = random.randint(0, 4, (150, 3)), random.randint(1, 5, (130, 3))
    return {name: (np.float32(a), np.float32(b)) for name, (a, b) in found.items()}


def logit_sets() -> dict[str, np.ndarray]:
    """Logits float32 [N, classes] by name."""
    random = np.random.RandomState(SEED + 1)
    n = random.standard_normal
    found = {"sharp10": 3 * n((200, 10)), "flat1008": 0.5 * n((103, 1008)), "extreme10": 200 * n((57, 10))}
    found["one_class"] = np.tile([9, 0, 0, 0], (40, 1))
    found["four_classes"] = (30 * np.eye(4))[np.arange(40) % 4]
    return {name: np.float32(x) for name, x in found.items()}


def gaussians() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Mean, covariance, mean, covariance of two Gaussians by name."""
    random = np.random.RandomState(SEED + 2)
    n = random.standard_normal
    found = {}
    m, k, s, r = n(10), n(10), random.gamma(2, 1, 10), random.gamma(2, 1, 10)
    found["diagonal10"] = m, np.diag(s), k, np.diag(r)
    a, b = n((12, 12)), n((12, 12))
    found["full12"] = n(12), a @ a.T, n(12), b @ b.T
    q = np.linalg.qr(n((20, 20)))[0]
    s, r = np.logspace(-8, 2, 20), np.logspace(1, -9, 20)
    found["ill20"] = np.zeros(20), (q * s) @ q.T, np.zeros(20), (q * r) @ q.T
    found["shift"] = np.zeros(6), np.eye(6), np.full(6, 2.0), np.eye(6)
    found["scale"] = np.zeros(6), np.eye(6), np.zeros(6), 9 * np.eye(6)
    a, b = n((16, 5)), n((16, 7))
    found["singular16"] = np.zeros(16), a @ a.T, np.ones(16), b @ b.T
    return found
