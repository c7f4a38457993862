#!/usr/bin/env bash
# jax 0.10.2 with libtpu 0.0.42.1: of a lax.scan over stacked kernels the program optimised for a TPU v5e states
# "estimated_cycles" of every operation, but not how often its loop runs: no known_trip_count, which the program optimised for
# CPU has for the same loop. A sum of cycles over the text counts four convolutions as one; the count stands only in the loop's
# condition, a comparison with a constant. Compiled without a device.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'jax[tpu]==0.10.2' libtpu==0.0.42.1
cd "$work"
TPU_SKIP_MDS_QUERY=1 TPU_WORKER_HOSTNAMES=localhost TPU_ACCELERATOR_TYPE=v5litepod-4 JAX_PLATFORMS=cpu venv/bin/python - <<'PY'
import re

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding


def loss(kernels, x):
    def block(x, kernel):
        y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return x + jnp.tanh(y), None

    return jnp.sum(lax.scan(block, x, kernels)[0].astype(jnp.float32))


def program(**sharding):
    shape = lambda *size: jax.ShapeDtypeStruct(size, jnp.bfloat16, **sharding)
    return jax.jit(jax.grad(loss)).lower(shape(4, 3, 3, 128, 128), shape(8, 32, 32, 128)).compile().as_text()


device = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]
tpu, cpu = program(sharding=SingleDeviceSharding(device)), program()
loops = lambda text: [line for line in text.splitlines() if re.search(r" while\(", line)]
bounds = re.findall(r"s32\[\]\S* constant\((\d+)\)", tpu)
print(f"TPU: {len(loops(tpu))} loops, {tpu.count('known_trip_count')} with a trip count; "
      f"CPU: {len(loops(cpu))} loops, {cpu.count('known_trip_count')} with one; the constant 4 in the TPU's: {'4' in bounds}")
assert len(loops(tpu)) >= 1 and "estimated_cycles" in tpu and "known_trip_count" not in tpu
assert len(loops(cpu)) >= 1 and cpu.count("known_trip_count") >= len(loops(cpu)) and "4" in bounds
PY
