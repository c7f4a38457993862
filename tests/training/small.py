"""Networks which compile in no time: for tests of what is around a network."""

import flax.linen as nn
import jax.numpy as jnp

from score_sde.networks.layers import Conv, Dense, Dropout, ddpm_init


class OneConvolution(nn.Module):
    """x convolved; under dropout, of the key's own, something else."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        return nn.Conv(x.shape[-1], (3, 3))(x) + (0 if dropout_keys is None else 1)


class Shallow(nn.Module):
    """What a run can get wrong of a network: noise labels, dropout by each example's own key, arrays to be sharded.

    With widths of 128 these are all three kernels.
    """

    convolution: str = "native"
    widths: tuple[int, int] = (16, 64)

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        first, second = self.widths
        h = Conv(first, convolution=self.convolution)(x) + Dense(first)(jnp.arcsinh(label)[:, None])[:, None, None]
        h = Dropout(0.1)(nn.swish(nn.Dense(second)(h)), dropout_keys)
        return Conv(x.shape[-1], kernel_init=ddpm_init(0.0), convolution=self.convolution)(h)


class Labelled(nn.Module):
    """x times a number, plus one for each of eleven labels."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        table = nn.Embed(11, 1, name="Embed_label")(condition["label"])
        return nn.Dense(x.shape[-1])(x) + table[:, None, None, :]


class Told(nn.Module):
    """x times a number, plus one for each of twelve words that is there, by its place."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        words = nn.Embed(12, 4, name="Embed_words")(condition["tokens"]) * condition["mask"][..., None]
        return nn.Dense(x.shape[-1])(x) + nn.Dense(1)(words.reshape(len(x), -1))[:, None, None, :]
