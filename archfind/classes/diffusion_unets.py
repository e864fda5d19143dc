"""Published UNets of diffusers, and what stands beside them: ControlNets and adapters. Each with
its class and the arguments of its public `config.json` that differ from the class's defaults."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Arguments = Mapping[str, object]

_SD2_HEADS = (5, 10, 20, 20)
_XL = (320, 640, 1280)


def blocks(kind: str, words: str) -> tuple[str, ...]:
    """The names of a network's blocks, one for each word: ("Down", "D C") are DownBlock2D and
    CrossAttnDownBlock2D, ("Up", "A") is AttnUpBlock2D, ("DownEncoder", "D")
    DownEncoderBlock2D."""
    prefixes = {"D": "", "C": "CrossAttn", "A": "Attn", "S": "SimpleCrossAttn", "R": "Resnet"}
    return tuple(
        f"{prefixes[word]}{kind}{'sample' if word == 'R' else ''}Block2D" for word in words.split()
    )


_SD1: Arguments = {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}
_SD2: Arguments = {
    "cross_attention_dim": 1024,
    "attention_head_dim": _SD2_HEADS,
    "use_linear_projection": True,
    "sample_size": 96,
}
_SDXL: Arguments = {
    "block_out_channels": _XL,
    "down_block_types": blocks("Down", "D C C"),
    "up_block_types": blocks("Up", "C C D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}
_CONTROLNET_SDXL: Arguments = {
    name: value for name, value in _SDXL.items() if name not in ("up_block_types", "sample_size")
}
_RES, _TIME, _ATTN = "SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"
_CASCADE_PRIOR: Arguments = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 1,
    "clip_text_in_channels": 1280,
    "clip_text_pooled_in_channels": 1280,
    "clip_image_in_channels": 768,
    "clip_seq": 4,
    "switch_level": (False,),
    "down_blocks_repeat_mappers": (1, 1),
    "up_blocks_repeat_mappers": (1, 1),
    "block_types_per_layer": ((_RES, _TIME, _ATTN),) * 2,
    "kernel_size": 3,
    "timestep_conditioning_type": ("sca", "crp"),
}
_CASCADE_DECODER: Arguments = {
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "conditioning_dim": 1280,
    "clip_text_in_channels": None,
    "clip_text_pooled_in_channels": 1280,
    "clip_image_in_channels": None,
    "clip_seq": 4,
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "kernel_size": 3,
    "down_blocks_repeat_mappers": (1, 1, 1, 1),
    "dropout": (0.0, 0.0, 0.1, 0.1),
    "switch_level": None,
    "timestep_conditioning_type": ("sca",),
}

UNETS: Mapping[str, tuple[str, Arguments]] = {
    # UNets of latent images
    "stable-diffusion-1.5-unet": ("UNet2DConditionModel", _SD1),
    "stable-diffusion-1.5-inpainting-unet": ("UNet2DConditionModel", {**_SD1, "in_channels": 9}),
    "instruct-pix2pix-unet": ("UNet2DConditionModel", {**_SD1, "in_channels": 8}),
    "lcm-dreamshaper-unet": ("UNet2DConditionModel", {**_SD1, "time_cond_proj_dim": 256}),
    "stable-diffusion-2.1-unet": ("UNet2DConditionModel", _SD2),
    "stable-diffusion-2-inpainting-unet": ("UNet2DConditionModel", {**_SD2, "in_channels": 9}),
    "stable-diffusion-2-depth-unet": ("UNet2DConditionModel", {**_SD2, "in_channels": 5}),
    "stable-diffusion-x4-upscaler-unet": (
        "UNet2DConditionModel",
        {
            "in_channels": 7,
            "block_out_channels": (256, 512, 512, 1024),
            "down_block_types": blocks("Down", "D C C C"),
            "up_block_types": blocks("Up", "C C C D"),
            "only_cross_attention": (True, True, True, False),
            "num_class_embeds": 1000,
            "attention_head_dim": 8,
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
            "sample_size": 128,
        },
    ),
    "stable-diffusion-xl-unet": ("UNet2DConditionModel", _SDXL),
    "stable-diffusion-xl-inpainting-unet": ("UNet2DConditionModel", {**_SDXL, "in_channels": 9}),
    "lcm-sdxl-unet": ("UNet2DConditionModel", {**_SDXL, "time_cond_proj_dim": 256}),
    "stable-diffusion-xl-refiner-unet": (
        "UNet2DConditionModel",
        {
            **_SDXL,
            "block_out_channels": (384, 768, 1536, 1536),
            "down_block_types": blocks("Down", "D C C D"),
            "up_block_types": blocks("Up", "D C C D"),
            "transformer_layers_per_block": 4,
            "attention_head_dim": (6, 12, 24, 24),
            "cross_attention_dim": 1280,
            "projection_class_embeddings_input_dim": 2560,
        },
    ),
    "kandinsky-2.2-unet": (
        "UNet2DConditionModel",
        {
            "addition_embed_type": "image",
            "attention_head_dim": 64,
            "block_out_channels": (384, 768, 1152, 1536),
            "cross_attention_dim": 768,
            "down_block_types": blocks("Down", "R S S S"),
            "up_block_types": blocks("Up", "S S S R"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "encoder_hid_dim": 1280,
            "encoder_hid_dim_type": "image_proj",
            "in_channels": 4,
            "out_channels": 8,
            "layers_per_block": 3,
            "resnet_time_scale_shift": "scale_shift",
            "sample_size": 64,
        },
    ),
    "kandinsky-2.2-prior": ("PriorTransformer", {"embedding_dim": 1280}),
    "ddpm-cifar10-unet": (
        "UNet2DModel",
        {
            "sample_size": 32,
            "block_out_channels": (128, 256, 256, 256),
            "down_block_types": blocks("Down", "D A D D"),
            "up_block_types": blocks("Up", "D D A D"),
            "attention_head_dim": None,
            "downsample_padding": 0,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "norm_eps": 1e-6,
        },
    ),
    "ddpm-256-unet": (
        "UNet2DModel",
        {
            "sample_size": 256,
            "block_out_channels": (128, 128, 256, 256, 512, 512),
            "down_block_types": blocks("Down", "D D D D A D"),
            "up_block_types": blocks("Up", "D A D D D D"),
            "attention_head_dim": None,
            "downsample_padding": 0,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "norm_eps": 1e-6,
        },
    ),
    "stable-cascade-prior": (
        "StableCascadeUNet",
        {
            **_CASCADE_PRIOR,
            "conditioning_dim": 2048,
            "block_out_channels": (2048, 2048),
            "num_attention_heads": (32, 32),
            "down_num_layers_per_block": (8, 24),
            "up_num_layers_per_block": (24, 8),
        },
    ),
    "stable-cascade-prior-lite": (
        "StableCascadeUNet",
        {
            **_CASCADE_PRIOR,
            "conditioning_dim": 1536,
            "block_out_channels": (1536, 1536),
            "num_attention_heads": (24, 24),
            "down_num_layers_per_block": (4, 12),
            "up_num_layers_per_block": (12, 4),
        },
    ),
    "stable-cascade-decoder": (
        "StableCascadeUNet",
        {
            **_CASCADE_DECODER,
            "block_out_channels": (320, 640, 1280, 1280),
            "num_attention_heads": (0, 0, 20, 20),
            "down_num_layers_per_block": (2, 6, 28, 6),
            "up_num_layers_per_block": (6, 28, 6, 2),
            "up_blocks_repeat_mappers": (3, 3, 2, 2),
            "block_types_per_layer": ((_RES, _TIME),) * 2 + ((_RES, _TIME, _ATTN),) * 2,
        },
    ),
    "stable-cascade-decoder-lite": (
        "StableCascadeUNet",
        {
            **_CASCADE_DECODER,
            "block_out_channels": (320, 576, 1152, 1152),
            "num_attention_heads": (0, 9, 18, 18),
            "down_num_layers_per_block": (2, 4, 14, 4),
            "up_num_layers_per_block": (4, 14, 4, 2),
            "up_blocks_repeat_mappers": (2, 2, 2, 2),
            "block_types_per_layer": ((_RES, _TIME),) + ((_RES, _TIME, _ATTN),) * 3,
        },
    ),
    # what goes beside a UNet
    "controlnet-sd15": ("ControlNetModel", {"cross_attention_dim": 768, "attention_head_dim": 8}),
    "controlnet-sd21": (
        "ControlNetModel",
        {
            "cross_attention_dim": 1024,
            "attention_head_dim": _SD2_HEADS,
            "use_linear_projection": True,
        },
    ),
    "controlnet-sdxl": ("ControlNetModel", _CONTROLNET_SDXL),
    "controlnet-sdxl-small": (
        "ControlNetModel",
        {**_CONTROLNET_SDXL, "down_block_types": blocks("Down", "D D D")},
    ),
    "controlnet-union-sdxl": ("ControlNetUnionModel", _CONTROLNET_SDXL),
    "t2i-adapter-gray": ("T2IAdapter", {"in_channels": 1}),
    "t2i-adapter-sdxl": ("T2IAdapter", {"adapter_type": "full_adapter_xl", "downscale_factor": 16}),
    "animatediff-1.5-3": ("MotionAdapter", {"use_motion_mid_block": False}),
    "animatediff-sdxl": (
        "MotionAdapter",
        {"block_out_channels": _XL, "use_motion_mid_block": False},
    ),
}
