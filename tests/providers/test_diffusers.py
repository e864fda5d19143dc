"""Networks of diffusers: named from a bare state dict, and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archfind
from archfind.classes.usual_arguments import usual
from archfind.database.entries import default
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta


@pytest.mark.parametrize(
    "name",
    [
        "stable-diffusion-1.5-unet",
        "stable-diffusion-xl-unet",
        "stable-diffusion-3.5-large-transformer",
        "flux.1-dev-transformer",
        "wan-2.1-t2v-1.3b-transformer",
        "stable-cascade-decoder-lite",
        "controlnet-sdxl",  # that it is a ControlNet doesn't keep it from being a network
        "t2i-adapter-sdxl",
    ],
)
def test_published_networks_are_named(name: str) -> None:
    state = create_on_meta(provider("diffusers"), name).state_dict()
    found = guess_checkpoint(checkpoint_of(state), default())
    assert (found.status, found.matches[0].entry.id) == ("exact", f"diffusers/{name}")
    assert found.matches[0].entry.args == ()  # the class itself, with keywords
    assert usual("diffusers", name)


def test_autoencoders_of_one_function_are_no_choice() -> None:
    state = create_on_meta(provider("diffusers"), "stable-diffusion-xl-vae").state_dict()
    found = guess_checkpoint(checkpoint_of(state), default())
    assert found.status == "exact"  # scaling its latents is what a pipeline does
    twins = [(twin.architecture, twin.same_function) for twin in found.matches[0].twins]
    assert twins == [("stable-diffusion-xl-vae", True)]


def test_a_file_is_loaded_strictly(tmp_path: Path) -> None:
    module = provider("diffusers").create("AutoencoderTiny").eval()
    randomise_seeded(module)
    path = tmp_path / "taesd.pth"
    torch.save(module.state_dict(), path)
    loaded = archfind.load(path)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image).sample, module(image).sample)
