"""DDPM: the U-Net of Ho et al. 2020."""

import jax.numpy as jnp

from score_sde.networks.layers import Dtype
from score_sde.networks.ncsnpp import NCSNpp
from score_sde.networks.text import Text


def ddpm(
    *,
    nf: int = 128,
    ch_mult: tuple[int, ...] = (1, 2, 2, 2),
    num_res_blocks: int = 2,
    attn_resolutions: tuple[int, ...] = (16,),
    up_attention: str = "level",
    dropout: float = 0.1,
    resamp_with_conv: bool = True,
    conditional: bool = True,
    scale_by_sigma: bool = False,
    nonlinearity: str = "swish",
    centered: bool = True,
    out_channels: int | None = None,
    label_rows: int = 0,
    label_embedding: str = "edm",
    null_label: str = "row",
    text: Text | None = None,
    dtype: Dtype = jnp.float32,
    convolution: str = "native",
    fused_attention: str | None = None,
    remat: str = "none",
    circular: tuple[int, ...] = (),
) -> NCSNpp:
    """DDPM, as the special case of NCSN++ that it is; the arguments are NCSN++'s, the defaults those for CIFAR-10.

    Its residual blocks are not rescaled, resampling is naive and has modules of its own, there are no pyramids, every
    GroupNorm has 32 groups (so every width must be a multiple of 32), and convolutions that end a branch begin at 0.
    On the way up Ho et al. attend after every residual block (up_attention="block"), Song et al. once a level.
    """
    return NCSNpp(
        nf=nf,
        ch_mult=ch_mult,
        num_res_blocks=num_res_blocks,
        attn_resolutions=attn_resolutions,
        up_attention=up_attention,
        dropout=dropout,
        resamp_with_conv=resamp_with_conv,
        conditional=conditional,
        scale_by_sigma=scale_by_sigma,
        nonlinearity=nonlinearity,
        centered=centered,
        out_channels=out_channels,
        label_rows=label_rows,
        label_embedding=label_embedding,
        null_label=null_label,
        text=text,
        dtype=dtype,
        convolution=convolution,
        fused_attention=fused_attention,
        remat=remat,
        circular=circular,
        resblock_type="ddpm",
        family="ddpm",
        groups=32,
        fir=False,
        skip_rescale=False,
        embedding_type="positional",
        progressive="none",
        progressive_input="none",
        init_scale=0.0,
    )
