"""Arguments of image restorers, drawn at random from what spandrel's loaders read from a state
dict: the classes whose switches, rows and tables go together, so that arguments moved one by one
reach few of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

Arguments = dict[str, Any]

UPSAMPLERS = (
    "conv",
    "pixelshuffledirect",
    "pixelshuffle",
    "nearest+conv",
    "dysample",
    "transpose+conv",
    "lda",
    "pa_up",
)


def fdat(draw: random.Random, number: int) -> Arguments:
    """FDAT with one of its upsamplers after the other."""
    heads = draw.choice((2, 3, 4, 6))
    unshuffle = draw.random() < 0.2
    return {
        "num_in_ch": (colours := draw.choice((1, 3, 3, 4))),
        "num_out_ch": colours,
        "scale": draw.choice((1, 2)) if unshuffle else draw.choice((2, 3, 4)),
        "embed_dim": heads * draw.choice((16, 24, 32)),
        "num_groups": draw.randint(1, 6),
        "depth_per_group": draw.randint(1, 3),
        "num_heads": heads,
        "window_size": draw.choice((8, 8, 12, 16)),
        "ffn_expansion_ratio": draw.choice((1.5, 2.0, 2.0)),
        "aim_reduction_ratio": draw.choice((4, 8)),
        "upsampler_type": UPSAMPLERS[number % len(UPSAMPLERS)],
        "mid_dim": draw.choice((32, 48, 64)),
        "unshuffle_mod": unshuffle,
    }


def rcan(draw: random.Random, number: int) -> Arguments:
    """RCAN, every third with the image folded into channels first."""
    unshuffle = number % 3 == 0
    norm = draw.random() < 0.5
    return {
        "scale": draw.choice((1, 2)) if unshuffle else draw.choice((1, 2, 3, 4, 8)),
        "n_resgroups": draw.randint(1, 10),
        "n_resblocks": draw.randint(1, 12),
        "n_feats": draw.choice((32, 48, 64, 96)),
        "n_colors": 3 if norm else draw.choice((1, 3, 4)),
        "norm": norm,
        "kernel_size": draw.choice((3, 3, 5)),
        "reduction": draw.choice((4, 8, 16)),
        "unshuffle_mod": unshuffle,
    }


def ddcolor(draw: random.Random, number: int) -> Arguments:
    """DDColor, both of its decoders in turn."""
    single = number % 2 == 0
    return {
        "encoder_name": draw.choice(("convnext-t", "convnext-t", "convnext-s", "convnext-l")),
        "decoder_name": "SingleColorDecoder" if single else "MultiScaleColorDecoder",
        "nf": 512,
        "num_output_channels": draw.choice((2, 3)),
        "last_norm": draw.choice(("Batch", "Weight", "Spectral")),
        "num_queries": draw.choice((64, 100, 256)),
        **({} if single else {"dec_layers": draw.randint(1, 9)}),
    }


def restoreformer(draw: random.Random, number: int) -> Arguments:
    """RestoreFormer with rows of other lengths and widths."""
    length = draw.randint(3, 6)
    steps = [1, *(draw.choice((1, 1, 2)) for _ in range(length - 1))]
    widths = [1]
    for step in steps[1:]:
        widths.append(min(8, widths[-1] * step))
    return {
        "n_embed": draw.choice((256, 512, 1024)),
        "embed_dim": draw.choice((64, 128, 256)),
        "ch": draw.choice((32, 64)),
        "ch_mult": tuple(widths),
        "num_res_blocks": draw.randint(1, 3),
        "attn_resolutions": (512 >> (length - 1),) if length == 6 else (16,),
        "z_channels": draw.choice((64, 128, 256)),
        "double_z": draw.random() < 0.3,
        "enable_mid": draw.random() < 0.7,
    }


def mmrealsr(draw: random.Random, number: int) -> Arguments:
    """MMRealSR with other rows in the network that estimates degradations."""
    length = draw.randint(2, 5)
    widths = [32 << n for n in range(length)]
    return {
        "num_in_ch": 3,
        "num_out_ch": 3,
        "scale": draw.choice((1, 2, 4)),
        "num_feat": draw.choice((32, 48, 64)),
        "num_block": draw.randint(1, 12),
        "num_grow_ch": draw.choice((16, 32)),
        "num_degradation": 2,
        "num_feats": widths,
        "num_blocks": [draw.randint(1, 4) for _ in widths],
        "downscales": [*(2 for _ in widths[1:]), 1],
    }


def codebooks(draw: random.Random, number: int, single: bool = False) -> Arguments:
    """FeMaSR with one to three codebooks, each for a scale of its own; AdaCode has all at one."""
    upscale = draw.choice((1, 1, 2, 4))
    top = draw.choice((128, 256))
    scale = draw.choice((16, 32)) if upscale < 4 or top == 256 else 16
    count = draw.randint(1, 3)
    sizes = [(draw.choice((256, 512, 1024)), draw.choice((128, 256, 512))) for _ in range(count)]
    scales = [scale if single else scale << n for n in range(count)]
    books = [[s, *size] for s, size in zip(scales, sizes, strict=True) if s < top]
    low = upscale > 1 or draw.random() < 0.3
    return {
        "in_channel": 3,
        "codebook_params": books,
        "gt_resolution": top,
        "LQ_stage": low,
        "norm_type": draw.choice(("gn", "gn", "bn", "in")),
        "scale_factor": upscale if low else 1,
    }


def femasr(draw: random.Random, number: int) -> Arguments:
    return codebooks(draw, number)


def adacode(draw: random.Random, number: int) -> Arguments:
    return codebooks(draw, number, single=True)


DRAWN: Mapping[str, Callable[[random.Random, int], Arguments]] = {
    "spandrel/FDAT": fdat,
    "spandrel/RCAN": rcan,
    "spandrel/DDColor": ddcolor,
    "spandrel/RestoreFormer": restoreformer,
    "spandrel/MMRealSR": mmrealsr,
    "spandrel/FeMaSR": femasr,
    "spandrel/AdaCode": adacode,
}
