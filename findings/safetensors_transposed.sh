#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy.save_file takes an array that is a transposed view, as a change of layout between PyTorch
# and Flax makes them, and writes its bytes in the order of the memory under the view's shape: it reads back scrambled, without
# an error. numpy.ascontiguousarray before saving is a way round.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
save_file({"view": kernel.T, "copy": np.ascontiguousarray(kernel.T)}, "a.safetensors")
found = load_file("a.safetensors")
print("safetensors", safetensors.__version__)
print("saved:", kernel.T.tolist())
print("read back, of the view:", found["view"].tolist())
print("read back, of the copy:", found["copy"].tolist())
assert (found["copy"] == kernel.T).all()
assert found["view"].shape == (3, 2) and not (found["view"] == kernel.T).all()
PY
