"""Diffusion models in one file: which networks it holds, and what they load as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from older_files import older
from safetensors.torch import save_file

import archfind
from archfind.database.entries import default, signatures_folder
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.report.answer import guess_document
from archfind.report.pipelines import pipeline_words
from archfind.state_dicts.older_names import rows_of_older_names

ROWS = {
    row.name.partition(": names of ")[2]: row for row in rows_of_older_names(signatures_folder())
}
UNET = "latent diffusion's UNet and ControlNet"
VAE = "latent diffusion's autoencoder, of four levels"
State = dict[str, torch.Tensor]


def original(name: str, row: str) -> State:
    """A published network's tensors, without values, in the names of its authors' own file."""
    state = older(ROWS[row], create_on_meta(provider("diffusers"), name).state_dict())
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("stable-diffusion-xl-refiner-unet", UNET),
        ("controlnet-sd15", UNET),
        ("stable-diffusion-3.5-medium-transformer", "Stable Diffusion 3"),
        ("flux.1-dev-transformer", "FLUX.1"),
        ("wan-2.1-i2v-14b-transformer", "Wan"),
        ("AuraFlowTransformer2DModel", "AuraFlow"),
        ("SanaTransformer2DModel", "Sana"),
    ],
)
def test_the_authors_names_are_read(name: str, row: str) -> None:
    state = {f"model.diffusion_model.{key}": t for key, t in original(name, row).items()}
    found = guess_checkpoint(checkpoint_of(state), default())
    assert (found.status, found.matches[0].entry.id) == ("exact", f"diffusers/{name}")


def test_a_single_file_is_told_part_by_part() -> None:
    state = {
        **{f"model.diffusion_model.{k}": t for k, t in original(XL, UNET).items()},
        **{f"first_stage_model.{k}": t for k, t in original("stable-diffusion-vae", VAE).items()},
        "betas": torch.empty(1000, device="meta"),
    }
    document = guess_document(guess_checkpoint(checkpoint_of(state), default()))
    parts = {name: part["architecture"] for name, part in document["parts"].items()}
    assert parts == {
        "model.diffusion_model": f"diffusers/{XL}",
        "first_stage_model": "diffusers/stable-diffusion-vae",
    }
    words = "Stable Diffusion XL: UNet, autoencoder; without 2 text encoders"
    assert pipeline_words(document["parts"]) == words


XL = "stable-diffusion-xl-unet"


def test_values_are_those_of_the_librarys_converter(tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    module = provider("diffusers").create("stable-diffusion-x4-upscaler-vae").eval()
    randomise_seeded(module)
    row = ROWS["latent diffusion's autoencoder, of three levels"]
    state = older(row, module.state_dict())
    assert state is not None
    for key in [key for key in state if "attn_1" in key and key.endswith("weight")]:
        if "norm" not in key:
            state[key] = state[key].reshape(*state[key].shape[:2], 1, 1)
    converted = convert_ldm_vae_checkpoint(dict(state), config=dict(module.config))
    path = tmp_path / "vae.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    loaded = archfind.load(path).state_dict()
    assert loaded.keys() == converted.keys()
    assert all(torch.equal(loaded[key], converted[key]) for key in converted)
