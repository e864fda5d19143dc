"""Which pipeline the networks of a single file make up together, and what of it isn't there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# The network that denoises -> the pipeline, and how many text encoders it has.
_PIPELINES: Mapping[str, tuple[str, int]] = {
    "stable-diffusion-1.5-unet": ("Stable Diffusion 1.x", 1),
    "stable-diffusion-1.5-inpainting-unet": ("Stable Diffusion 1.x for inpainting", 1),
    "instruct-pix2pix-unet": ("InstructPix2Pix", 1),
    "stable-diffusion-2.1-unet": ("Stable Diffusion 2.x", 1),
    "stable-diffusion-2-inpainting-unet": ("Stable Diffusion 2 for inpainting", 1),
    "stable-diffusion-2-depth-unet": ("Stable Diffusion 2 with depth", 1),
    "stable-diffusion-x4-upscaler-unet": ("Stable Diffusion's upscaler by 4", 1),
    "stable-diffusion-xl-unet": ("Stable Diffusion XL", 2),
    "stable-diffusion-xl-inpainting-unet": ("Stable Diffusion XL for inpainting", 2),
    "stable-diffusion-xl-refiner-unet": ("Stable Diffusion XL's refiner", 1),
    "stable-diffusion-3-transformer": ("Stable Diffusion 3 medium", 3),
    "stable-diffusion-3.5-medium-transformer": ("Stable Diffusion 3.5 medium", 3),
    "stable-diffusion-3.5-large-transformer": ("Stable Diffusion 3.5 large", 3),
    "FluxTransformer2DModel": ("FLUX.1 schnell", 2),
    "flux.1-dev-transformer": ("FLUX.1 dev", 2),
    "wan-2.1-t2v-1.3b-transformer": ("Wan 2.1 1.3B", 1),
    "WanTransformer3DModel": ("Wan 14B", 1),
    "LTXVideoTransformer3DModel": ("LTX-Video", 1),
    "ltx-video-13b-transformer": ("LTX-Video 13B", 1),
}
_VAE = ("first_stage_model", "vae")
_TEXT = ("cond_stage_model", "conditioner.embedders", "text_encoders")


def pipeline_words(parts: Mapping[str, Mapping[str, object]]) -> str:
    """ "Stable Diffusion XL: UNet, autoencoder and 2 text encoders" of the parts of a file, as the
    answer's document has them; "" where no part of it says which pipeline it is."""
    entries = [str(one["architecture"] or "") for one in parts.values()]
    known = [e.removeprefix("diffusers/") for e in entries if e.startswith("diffusers/")]
    title, wanted = next((_PIPELINES[name] for name in known if name in _PIPELINES), ("", 0))
    if not title:
        return ""
    texts = sum(name.startswith(_TEXT) for name in parts)
    is_unet = any(name.endswith("unet") for name in known)
    there = ["UNet" if is_unet else "transformer"]
    lacking: list[str] = []
    (there if any(name.startswith(_VAE) for name in parts) else lacking).append("autoencoder")
    if texts:
        there.append(_counted(texts))
    if texts < wanted:
        lacking.append(_counted(wanted - texts))
    rest = f"; without {' and '.join(lacking)}" if lacking else ""
    return f"{title}: {', '.join(there)}{rest}"


def _counted(count: int) -> str:
    return "text encoder" if count == 1 else f"{count} text encoders"
