"""ADM on the thousand classes of ImageNet at 64x64: a chain of cosine levels, learned variances.

python launch.py --config configs/adm/imagenet64.py

Cost: 295,904,454 parameters. The network of Dhariwal & Nichol 2021 (arXiv 2105.05233, table 11) and of their file
64x64_diffusion.pt. Other than published, the average's decay and the warm-up are this program's defaults.
"""

from score_sde.config import Config, default


def get_config() -> Config:
    """The released flags of 64x64_diffusion.pt."""
    config = default()
    config.sde.update(name="vp", discrete=True, schedule="cosine", num_scales=1000)
    config.network.update(
        name="adm",
        nf=192,
        ch_mult=(1, 2, 3, 4),
        num_res_blocks=3,
        attn_resolutions=(32, 16, 8),
        head_channels=64,
        attention_order="new",
        dropout=0.1,
    )
    config.parametrization.update(prediction="noise", label="level", learned_variance=True)
    config.data.update(name="folder", path="imagenet64.zip", image_size=64, num_channels=3)
    config.data.update(condition=("label",), num_classes=1000)
    config.training.update(num_steps=540_000, batch_size=2048, objective="hybrid", times="levels")
    config.optimizer.update(learning_rate=3e-4)
    config.sampling.update(solver="ancestral", variance="learned", times="levels", num_steps=250)
    return config
