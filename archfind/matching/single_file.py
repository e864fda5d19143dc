"""A pipeline's networks in one file, each below the prefix that the code which wrote the file
gives it: latent diffusion's `model.diffusion_model.`, `first_stage_model.`, `cond_stage_model.`.
On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.matching.larger_network import with_rest
from archfind.matching.parts import FEWEST, parts_below
from archfind.state_dicts.canonical import strip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from archfind.types import Canonical, Guess

# CompVis/latent-diffusion and Stability-AI/stablediffusion (ddpm.py: model, first_stage_model,
# cond_stage_model), Stability-AI/generative-models (conditioner.embedders), ComfyUI's checkpoints
# (vae, text_encoders); the list of diffusers/loaders/single_file_utils.py.
_PLACES: tuple[str, ...] = (
    "model.diffusion_model.",
    "control_model.",
    "first_stage_model.",
    "vae.",
    "audio_vae.",
    "vocoder.",
    "cond_stage_model.",
    "conditioner.embedders.0.",
    "conditioner.embedders.1.",
    "text_encoders.clip_l.",
    "text_encoders.clip_g.",
    "text_encoders.t5xxl.",
)
_SURE = ("exact", "ambiguous")


def networks_of(
    canonical: Canonical, guess: Callable[[Canonical], Mapping[str, Guess]]
) -> dict[str, Guess]:
    """The networks of a single file by prefix, with `guess` asked about each; none where the file
    isn't one, or no network in it is known."""
    counts = dict.fromkeys(_PLACES, 0)
    for key in canonical.index:
        if key.startswith(_PLACES):
            counts[next(place for place in _PLACES if key.startswith(place))] += 1
    places = [place for place, count in counts.items() if count >= FEWEST]
    if len(places) < 2:
        return {}
    guesses: dict[str, Guess] = {}
    for place in places:
        guesses.update(parts_below(place, guess(strip(canonical, place))))
    if not any(one.status in _SURE for one in guesses.values()):
        return {}
    return with_rest(guesses, canonical)
