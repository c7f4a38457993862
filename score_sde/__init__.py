"""Score-based generative modeling through stochastic differential equations, in JAX and Flax."""

import importlib.metadata
import os
import re

__version__ = "0.1.0"

_YNN = "--xla_cpu_experimental_ynn_fusion_type"


def _avoid_miscompiled_reductions() -> None:
    """Keep XLA's CPU backend from handing reductions to YNNPACK, which from jaxlib 0.10.2 on sums some of them wrongly.

    sum(x * (expm1(a) * expm1(b) * expm1(c))[:, None], axis=1) is wrong from 4,096 rows on, for one. The flag is read
    when the first computation starts; where XLA_FLAGS names it already, the user has decided. See jax-ml/jax#39103.
    """
    version = [int(number) for number in re.findall(r"\d+", importlib.metadata.version("jaxlib"))[:3]]
    flags = os.environ.get("XLA_FLAGS", "")
    if version >= [0, 10, 2] and _YNN not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_YNN}=-reduce".strip()


_avoid_miscompiled_reductions()
