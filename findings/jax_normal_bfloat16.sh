#!/usr/bin/env bash
# jax 0.10.2: jax.random.normal(key, shape, bfloat16) transforms a uniform bfloat16 number, of which few are in use,
# so that a million draws have few distinct values and a mean that is far from 0; float32 draws cast to bfloat16 have neither.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__)
key, count = jax.random.key(0), 10**6
narrow = np.asarray(jax.random.normal(key, (count,), jnp.bfloat16), np.float64)
cast = np.asarray(jax.random.normal(key, (count,), jnp.float32).astype(jnp.bfloat16), np.float64)
for name, x in (("drawn in bfloat16", narrow), ("drawn in float32, then cast", cast)):
    error = x.std() / np.sqrt(count)
    print(f"{name}: {len(np.unique(x))} distinct values, mean {x.mean():+.4f} = {x.mean() / error:+.0f} standard errors")
assert len(np.unique(narrow)) <= 256
assert abs(narrow.mean()) > 5 * narrow.std() / np.sqrt(count)
assert len(np.unique(cast)) > 2000
assert abs(cast.mean()) < 4 * cast.std() / np.sqrt(count)
PY
