"""The tiny autoencoder's run that tests share: digits, 16 hidden units, 3 latents."""

from tests.tiny import tiny_config


def vae_config(**changes):
    """Changes are section__field=value."""
    own = {
        "system__name": "vae", "network__name": "mlp", "network__hidden": (16,), "vae__latent": (3,),
        "sampling__solver": "few_step", "sampling__num_steps": 1, "data__centered": False, "data__random_flip": False,
        "optimizer__grad_clip": -1.0,
    }  # fmt: skip
    return tiny_config(**own | changes)


get_config = vae_config


def hierarchical_config(**changes):
    """Two levels of 4 and 2 latents."""
    own = {
        "system__name": "hierarchical", "vae__latent": (20,), "hierarchical__latents": (4, 2), "sampling__num_steps": 2
    }  # fmt: skip
    return vae_config(**own | changes)
