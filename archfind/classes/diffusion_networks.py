"""The published networks of diffusers by name, each with its class and its arguments. On the cold
path of `archfind guess`, for the answer alone."""

from __future__ import annotations

from archfind.classes.diffusion_autoencoders import AUTOENCODERS
from archfind.classes.diffusion_transformers import TRANSFORMERS
from archfind.classes.diffusion_unets import UNETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Arguments = Mapping[str, object]

NETWORKS: Mapping[str, tuple[str, Arguments]] = {**UNETS, **AUTOENCODERS, **TRANSFORMERS}
