"""Arguments that make a network where its class alone doesn't: `create` gives them, and so does the
call that a person is told to write. On the cold path of `archfind guess`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Sizes that authors published, where a class's own defaults don't build, or are none of what its
# files have: upscalers by 1, without the layers that upscale.
_SPANDREL: Mapping[str, Mapping[str, object]] = {
    "AuraSR": {
        "dim": 64,
        "image_size": 256,
        "input_image_size": 64,
        "style_network": {"dim_in": 128, "dim_out": 512, "depth": 4},
    },
    "DRCT": {"upscale": 4, "upsampler": "pixelshuffle"},
    "GRL": {"upscale": 4, "upsampler": "pixelshuffle"},
    "LaMa": {"in_nc": 4},
    "MMRealSR": {"num_in_ch": 3, "num_out_ch": 3},
    "NAFNet": {
        "width": 32,
        "middle_blk_num": 12,
        "enc_blk_nums": [2, 2, 4, 8],
        "dec_blk_nums": [2, 2, 2, 2],
    },
    "SAFMN": {"dim": 36},
    "SAFMNBCIE": {"dim": 36},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "SRFormer": {"window_size": 16, "upscale": 4, "upsampler": "pixelshuffle"},
    "Swin2SR": {"window_size": 8, "upscale": 4, "upsampler": "pixelshuffle"},
    "SwinIR": {"window_size": 8, "upscale": 4, "upsampler": "pixelshuffle"},
}


def usual(provider: str, name: str) -> Mapping[str, object]:
    """The arguments of a network beside those that are moved; none for most."""
    if provider == "diffusers":
        from archfind.classes.diffusion_networks import NETWORKS  # late: of few files

        return NETWORKS[name][1] if name in NETWORKS else {}
    return _SPANDREL.get(name, {}) if provider == "spandrel" else {}
