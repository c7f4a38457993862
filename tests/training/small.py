"""A network of one convolution, which compiles in no time: for tests of what is around a network."""

import flax.linen as nn


class OneConvolution(nn.Module):
    """x convolved; under dropout, of the key's own, something else."""

    loop_safe: bool = False
    fused_attention: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        return nn.Conv(x.shape[-1], (3, 3))(x) + (0 if dropout_keys is None else 1)
