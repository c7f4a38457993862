"""What is read off a compiled program: loops by their trips, branches by the dearest, collectives by their bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from score_sde.devices.hlo import Collective, costs

TEXT = """HloModule jit_step, is_scheduled=true

%fused_computation (param_0: f32[8,128]) -> f32[8,128] {
  %param_0 = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %negate.1 = f32[8,128]{1,0:T(8,128)} negate(%param_0)
}

%body.1 (arg: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %arg = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%arg), index=1
  %fusion.1 = f32[8,128]{1,0:T(8,128)S(1)} fusion(%x), kind=kLoop, calls=%fused_computation, backend_config={"window_config":{"estimated_cycles":"100"}}
  %all-reduce.1 = (f32[8,128]{1,0:T(8,128)}, /*index=1*/bf16[4]{0:T(128)(2,1)}) all-reduce(%fusion.1, %fusion.1), to_apply=%sum
  ROOT %tuple.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%x, %fusion.1)
}

%below (arg.1: (s32[], f32[8,128])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(4)
  %arg.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%i, %constant.1), direction=LT, metadata={op_name="while/cond/lt"}
}

%cheap (a: f32[8,128]) -> f32[8,128] {
  ROOT %a = f32[8,128]{1,0} parameter(0)
}

%dear (b: f32[8,128]) -> f32[8,128] {
  %b = f32[8,128]{1,0} parameter(0)
  ROOT %copy.1 = f32[8,128]{1,0} copy(%b), backend_config={"estimated_cycles":"7"}
}

ENTRY %main.2 (p: f32[8,128], q: s32[]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  %while.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%p), condition=%cheap, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}
  %while.2 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%p), condition=%cheap, body=%body.1
  %while.3 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%p), condition=%below, body=%body.1, metadata={op_name="x"}
  %copy-start.1 = (f32[8,128]{1,0}, f32[8,128]{1,0}, u32[]) copy-start(%p)
  %copy-done.1 = f32[8,128]{1,0} copy-done(%copy-start.1)
  ROOT %conditional.1 = f32[8,128]{1,0} conditional(%q, %p, %p), branch_computations={%cheap, %dear}
}
"""  # noqa: E501


def test_a_program_with_loops_and_branches():
    found = costs(TEXT)
    assert found.cycles == 5 * 100 + 100 + 4 * 100 + 7
    assert found.operations == {"fusion": 10, "all-reduce": 10, "copy": 1, "copy-start": 1} and found.kernels == 22
    assert found.collectives == {"all-reduce": Collective(10, 10 * (8 * 128 * 4 + 4 * 2))}
    assert found.unknown_loops == 1


@pytest.mark.parametrize("trips", [1, 6])
def test_xlas_own_text(trips):
    """A sum over eight devices in a loop: as many all-reduces of its bytes as there are trips."""
    mesh = Mesh(np.asarray(jax.devices()[:8]), ("data",))
    whole = NamedSharding(mesh, PartitionSpec())

    def step(w, x):
        def body(w, x):
            return w + jax.lax.with_sharding_constraint(jnp.tanh(x @ w).sum(0, keepdims=True), whole), None

        return jax.lax.scan(body, w, x)[0]

    x = jax.ShapeDtypeStruct((trips, 16, 4), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "data")))
    w = jax.ShapeDtypeStruct((4, 4), jnp.float32, sharding=whole)
    text = jax.jit(step, out_shardings=whole).lower(w, x).compile().as_text()
    assert text is not None
    found = costs(text)
    assert found.collectives["all-reduce"] == Collective(trips, trips * 4 * 4)
    assert found.cycles == 0 and found.unknown_loops == 0 and found.kernels >= 2 * trips
