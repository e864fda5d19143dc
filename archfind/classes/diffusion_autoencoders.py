"""Published autoencoders of diffusers. Each with its class and the arguments of its public
`config.json` that differ from the class's defaults."""

from __future__ import annotations

from archfind.classes.diffusion_unets import blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Arguments = Mapping[str, object]

_VAE: Arguments = {
    "down_block_types": blocks("DownEncoder", "D D D D"),
    "up_block_types": blocks("UpDecoder", "D D D D"),
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
_VAE_16: Arguments = {
    **_VAE,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

AUTOENCODERS: Mapping[str, tuple[str, Arguments]] = {
    # autoencoders
    "stable-diffusion-vae": ("AutoencoderKL", {**_VAE, "sample_size": 512}),
    "stable-diffusion-xl-vae": (
        "AutoencoderKL",
        {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
    ),
    "stable-diffusion-x4-upscaler-vae": (
        "AutoencoderKL",
        {
            "down_block_types": blocks("DownEncoder", "D D D"),
            "up_block_types": blocks("UpDecoder", "D D D"),
            "block_out_channels": (128, 256, 512),
            "layers_per_block": 2,
            "scaling_factor": 0.08333,
        },
    ),
    "stable-diffusion-3-vae": (
        "AutoencoderKL",
        {**_VAE_16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    ),
    "flux.1-vae": ("AutoencoderKL", {**_VAE_16, "scaling_factor": 0.3611, "shift_factor": 0.1159}),
    "asymmetric-vae-1.5": (
        "AsymmetricAutoencoderKL",
        {
            "down_block_types": blocks("DownEncoder", "D D D D"),
            "down_block_out_channels": (128, 256, 512, 512),
            "layers_per_down_block": 2,
            "up_block_types": blocks("UpDecoder", "D D D D"),
            "up_block_out_channels": (192, 384, 768, 768),
            "layers_per_up_block": 3,
            "norm_num_groups": 32,
        },
    ),
    "stable-video-diffusion-vae": (
        "AutoencoderKLTemporalDecoder",
        {
            "down_block_types": blocks("DownEncoder", "D D D D"),
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
        },
    ),
    "taesd3": ("AutoencoderTiny", {"latent_channels": 16}),
    "kandinsky-2.2-movq": (
        "VQModel",
        {
            "down_block_types": blocks("DownEncoder", "D D D A"),
            "up_block_types": blocks("UpDecoder", "A D D D"),
            "block_out_channels": (128, 256, 256, 512),
            "layers_per_block": 2,
            "latent_channels": 4,
            "norm_type": "spatial",
            "num_vq_embeddings": 16384,
            "vq_embed_dim": 4,
        },
    ),
    "ldm-vq-f4": (
        "VQModel",
        {
            "down_block_types": blocks("DownEncoder", "D D D"),
            "up_block_types": blocks("UpDecoder", "D D D"),
            "block_out_channels": (128, 256, 512),
            "layers_per_block": 2,
            "latent_channels": 3,
            "num_vq_embeddings": 8192,
        },
    ),
    "wan-2.2-vae": (
        "AutoencoderKLWan",
        {
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
        },
    ),
}
