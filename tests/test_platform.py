"""The compiler trap that the package steers clear of."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np


def test_a_fused_reduction_is_summed_rightly():
    """Wrong by a factor of two in jaxlib 0.10.2 without the flag that score_sde/__init__.py sets."""
    n = 6000
    t, x = jnp.linspace(0.1, 1, n), jnp.ones((n, 4))
    f = lambda x, t: jnp.sum(x * (jnp.expm1(t) * jnp.expm1(2 * t) * jnp.expm1(t * t + 1))[:, None], 1)
    np.testing.assert_allclose(jax.jit(f)(x, t), f(x, t), rtol=1e-5)


def test_a_flag_of_the_users_own_is_left_alone():
    code = "import score_sde, os; print(os.environ['XLA_FLAGS'])"
    flag = "--xla_cpu_experimental_ynn_fusion_type=+reduce"
    for given, expected in ((flag, flag), ("--a=b", "--a=b --xla_cpu_experimental_ynn_fusion_type=-reduce")):
        environment = {**os.environ, "XLA_FLAGS": given}
        printed = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert printed.stdout.strip() == expected
