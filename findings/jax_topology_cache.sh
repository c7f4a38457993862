#!/usr/bin/env bash
# jax 0.10.2 with libtpu 0.0.42.1: what is compiled for a TPU that is not at hand, by get_topology_desc, is written to jax's
# persistent compilation cache, and every later compilation of the same program fails to read it: a UserWarning ("PjRtCompiler
# must be constructed with a Client to call DeserializeLoadedExecutable"), and it is compiled in full again. The same program for
# the CPU at hand is read from the cache without a word. Compiled without a device.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'jax[tpu]==0.10.2' libtpu==0.0.42.1
cd "$work"
cat > twice.py <<'PY'
import os
import warnings

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

jax.config.update("jax_compilation_cache_dir", os.getcwd() + "/cache")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
device = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]


def warned(sharding):
    x = jax.ShapeDtypeStruct((256, 256), jnp.float32, sharding=sharding)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jax.jit(lambda x: jnp.tanh(x @ x)).lower(x).compile()
    return [str(w.message) for w in caught if "compilation cache" in str(w.message)]


tpu, cpu = warned(SingleDeviceSharding(device)), warned(None)
print("TPU:", tpu[0].split(": ", 1)[1] if tpu else "read or made without a word")
print("CPU:", cpu[0] if cpu else "read or made without a word")
PY
run() { TPU_SKIP_MDS_QUERY=1 TPU_WORKER_HOSTNAMES=localhost TPU_ACCELERATOR_TYPE=v5litepod-4 JAX_PLATFORMS=cpu \
  ALLOW_MULTIPLE_LIBTPU_LOAD=1 venv/bin/python twice.py; }
echo first; run | tee first.txt
echo second; run | tee second.txt
grep -q '^TPU: read or made without a word' first.txt
grep -q '^TPU: .*must be constructed with a Client' second.txt
grep -q '^CPU: read or made without a word' second.txt
