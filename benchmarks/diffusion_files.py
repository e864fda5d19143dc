"""How many single-file diffusion models archfind names, beside diffusers' own inference.

    python benchmarks/diffusion_files.py

Each published network is written, without values, in its authors' names by the rules of
signatures/older.txt backwards; diffusers' converter must make all of the network of that, keys and
shapes ("proved"). archfind gets keys and shapes, and must name the network or one of the same
function, as exact. diffusers' `infer_diffusers_model_type` gets the same tensors; what it can't
place it calls "v1". The table on stdout.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from diffusers.loaders.single_file_utils import infer_diffusers_model_type
from older_files import older
from torch import Tensor

from archfind.database.entries import default, signatures_folder
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.state_dicts.older_names import Row, rows_of_older_names

# A row of older names (what follows "names of"), with the networks that are written in it.
CASES = {
    "latent diffusion's UNet and ControlNet": """stable-diffusion-1.5-unet
        stable-diffusion-1.5-inpainting-unet instruct-pix2pix-unet stable-diffusion-2.1-unet
        stable-diffusion-2-inpainting-unet stable-diffusion-x4-upscaler-unet
        stable-diffusion-xl-unet stable-diffusion-xl-inpainting-unet
        stable-diffusion-xl-refiner-unet controlnet-sd15 controlnet-sd21""",
    "latent diffusion's autoencoder, of four levels": "stable-diffusion-vae flux.1-vae",
    "latent diffusion's autoencoder, of three levels": "stable-diffusion-x4-upscaler-vae",
    "Stable Diffusion 3": """stable-diffusion-3-transformer stable-diffusion-3.5-medium-transformer
        stable-diffusion-3.5-large-transformer""",
    "FLUX.1": """FluxTransformer2DModel flux.1-dev-transformer flux.1-fill-transformer
        flux.1-control-transformer""",
    "Wan": """WanTransformer3DModel wan-2.1-t2v-1.3b-transformer wan-2.1-i2v-14b-transformer
        wan-2.2-i2v-a14b-transformer wan-2.2-ti2v-5b-transformer wan-2.1-vace-1.3b-transformer
        WanVACETransformer3DModel""",
    "Wan's autoencoder": "AutoencoderKLWan",
    "LTX-Video": "LTXVideoTransformer3DModel ltx-video-13b-transformer",
    "HunyuanVideo": "HunyuanVideoTransformer3DModel",
    "AuraFlow": "AuraFlowTransformer2DModel",
    "Mochi": "MochiTransformer3DModel",
    "Sana": "SanaTransformer2DModel",
    "Stable Cascade": """stable-cascade-prior stable-cascade-prior-lite stable-cascade-decoder
        stable-cascade-decoder-lite""",
    "AnimateDiff": "MotionAdapter animatediff-1.5-3 animatediff-sdxl",
}
PREFIXES = {"convert_ldm_unet_checkpoint": "model.diffusion_model."}


def is_proved(row: Row, module: Any, state: dict[str, Tensor], is_control: bool) -> bool:
    """Whether diffusers' converter makes all of the network of a state dict, and no more."""
    where, _, name = row.loaders[int(is_control)].rpartition(".")
    convert = getattr(import_module(where), name)
    prefix = PREFIXES.get(name, "")
    given = {prefix + key: tensor for key, tensor in state.items()}
    made = convert(given, config=dict(module.config))
    shapes = {key: tensor.shape for key, tensor in made.items() if tensor is not None}
    return shapes == {key: tensor.shape for key, tensor in module.state_dict().items()}


def inferred(name: str, state: dict[str, Tensor]) -> str:
    """What diffusers calls a file that has the network below its authors' prefix."""
    prefix = "control_model." if name.startswith("controlnet") else ""
    prefix = "model.diffusion_model." if name.endswith("unet") else prefix
    try:
        return str(infer_diffusers_model_type({prefix + k: t for k, t in state.items()}))
    except Exception as error:  # it looks up keys that a file needn't have
        return type(error).__name__


def main() -> None:
    known = {
        row.name.partition(": names of ")[2]: row
        for row in rows_of_older_names(signatures_folder())
    }
    named = total = proved = 0
    print(
        "| network | tensors | proved | archfind | CPU s | diffusers |\n|---|---|---|---|---|---|"
    )
    for title, names in CASES.items():
        for name in names.split():
            module = create_on_meta(provider("diffusers"), name)
            state = older(known[title], module.state_dict())
            total += 1
            if state is None:
                print(f"| {name} | | not written | | | |")
                continue
            try:
                is_right = is_proved(known[title], module, state, name.startswith("controlnet"))
            except Exception as error:  # a converter may refuse
                is_right = False
                print(f"| {name} | | {type(error).__name__} | | | |")
            start = time.process_time()
            found = guess_checkpoint(checkpoint_of(state), default())
            seconds = time.process_time() - start
            ids: list[str] = []
            for match in found.matches[:1]:
                ids += [match.entry.name, *(t.architecture for t in match.twins if t.same_function)]
            is_named = found.status == "exact" and name in ids
            named += is_named
            proved += is_right
            said = name if is_named else f"{found.status} {ids[:1]}"
            words = f"{len(state)} | {'yes' if is_right else 'no'} | {said} | {seconds:.2f}"
            print(f"| {name} | {words} | {inferred(name, state)} |", flush=True)
    print(f"\n{named} of {total} named exactly, {proved} proved by diffusers' converters")


if __name__ == "__main__":
    main()
