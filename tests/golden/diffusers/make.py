"""Makes the files of this folder, or others like them, with diffusers itself: python make.py [folder].

Needs torch and diffusers; imports nothing of score_sde.
"""

import pathlib
import shutil
import sys
import tempfile
import zlib

import numpy as np
import torch
from diffusers import UNet2DModel

COMMON = {"in_channels": 3, "out_channels": 3, "sample_size": 8, "layers_per_block": 1, "norm_eps": 1e-6}
SKIPS = {
    **COMMON,
    "time_embedding_type": "fourier",
    "center_input_sample": True,
    "norm_num_groups": None,
    "attention_head_dim": None,
    "mid_block_scale_factor": 2**0.5,
}
DDPM = {**COMMON, "downsample_padding": 0, "freq_shift": 1, "attention_head_dim": None}
MODELS = {
    "ncsnpp": {
        **SKIPS,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("SkipDownBlock2D",) * 3,
        "up_block_types": ("SkipUpBlock2D",) * 3,
    },
    "ncsnpp_attention": {
        **SKIPS,
        "block_out_channels": (32, 128),
        "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
        "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
    },
    "ddpm": {
        **DDPM,
        "block_out_channels": (32, 32),
        "down_block_types": ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2,
        "flip_sin_to_cos": True,
    },
    "ddpm_attention": {
        **DDPM,
        "block_out_channels": (32, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "flip_sin_to_cos": False,
    },
}
OLD_NAMES = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}


def values(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Normals rounded to halves, 1 in 64 of them kept in large tensors, of a scale that keeps activations near 1."""
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    n = np.round(2 * rng.randn(*shape)) / 2
    if name.startswith("time_proj"):
        return torch.tensor(n, dtype=torch.float32)
    if len(shape) == 1:
        return torch.tensor(n / 8 + (1 if "norm" in name and name.endswith("weight") else 0), dtype=torch.float32)
    fan_in = np.prod(shape[1:])
    kept = 1 / 64 if n.size > 10_000 else 1
    n = np.where(rng.rand(*shape) < kept, n, 0.0)
    return torch.tensor(n * 2.0 ** np.round(-0.5 * np.log2(fan_in * kept)), dtype=torch.float32)


def model(name: str, seed: int = 0) -> UNet2DModel:
    """The model of that name, its parameters a function of their names and the seed."""
    unet = UNet2DModel(**MODELS[name]).eval()
    unet.load_state_dict({key: values(key, tuple(p.shape), seed) for key, p in unet.state_dict().items()})
    return unet


def run(unet: UNet2DModel, seed: int = 0) -> dict[str, np.ndarray]:
    """An input [2, 8, 8, 3], its timestep or sigma [2] and the output."""
    rng = np.random.RandomState(seed)
    sample = rng.randn(2, 8, 8, 3).astype(np.float32)
    fourier = unet.config.time_embedding_type == "fourier"
    timestep = np.array([0.3, 7.0], np.float32) if fourier else np.array([3, 731], np.int64)
    with torch.no_grad():
        output = unet(torch.tensor(sample).permute(0, 3, 1, 2), torch.tensor(timestep)).sample
    return {"sample": sample, "timestep": timestep, "output": output.permute(0, 2, 3, 1).numpy()}


def save(unet: UNet2DModel, folder: pathlib.Path, old: bool = False) -> None:
    """What save_pretrained writes; `old`: a .bin with the attention's names of before diffusers 0.15."""
    unet.save_pretrained(folder)
    if not old:
        return
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    state = {}
    for key, value in unet.state_dict().items():
        for new, name in OLD_NAMES.items():
            key = key.replace(new, name)
        state[key] = value
    torch.save(state, folder / "diffusion_pytorch_model.bin")


def save_torch(folder: pathlib.Path) -> None:
    """torch_zip.pth and torch_legacy.pth: all that a plain torch.save may hold; torch.npz: its tensors."""
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "transposed": base.T,
        "part": base[1:3, ::2],
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.0])),
        "bfloat16": torch.tensor([1.5, -3.0], dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
    }
    for kind in (torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        tensors[str(kind)] = torch.tensor([1, 2, 3], dtype=kind)
    plain = {"list": [1, 2.5, None, True, "text", b"bytes"], "tuple": (1, (2,)), "set": {3}, "big": 2**70}
    special = {"size": base.shape, "dtype": torch.float32, "numpy": np.float64(0.25), "integer": np.int32(7)}
    module = torch.nn.BatchNorm1d(2).state_dict()
    saved = {"tensors": tensors, "plain": plain, "special": special, "module": module}
    torch.save(saved, folder / "torch_zip.pth")
    torch.save(saved, folder / "torch_legacy.pth", _use_new_zipfile_serialization=False)
    np.savez(folder / "torch.npz", **{name: t.detach().to(torch.float64).numpy() for name, t in tensors.items()})


def main(folder: pathlib.Path) -> None:
    """Write <name>.zip, the model's directory, and <name>.npz, of every model; and the files of save_torch."""
    save_torch(folder)
    for name in MODELS:
        unet = model(name)
        np.savez(folder / f"{name}.npz", **run(unet))
        with tempfile.TemporaryDirectory() as saved:
            save(unet, pathlib.Path(saved), old=name == "ddpm")
            shutil.make_archive(str(folder / name), "zip", saved)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "."))
