"""Published transformers of diffusers. Each with its class and the arguments of its public
`config.json` that differ from the class's defaults."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Arguments = Mapping[str, object]

_SD3: Arguments = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}
_WAN_SMALL: Arguments = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}

TRANSFORMERS: Mapping[str, tuple[str, Arguments]] = {
    # transformers
    "stable-diffusion-3-transformer": ("SD3Transformer2DModel", _SD3),
    "stable-diffusion-3.5-medium-transformer": (
        "SD3Transformer2DModel",
        {
            **_SD3,
            "pos_embed_max_size": 384,
            "dual_attention_layers": tuple(range(13)),
            "qk_norm": "rms_norm",
        },
    ),
    "stable-diffusion-3.5-large-transformer": (
        "SD3Transformer2DModel",
        {
            **_SD3,
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "qk_norm": "rms_norm",
        },
    ),
    "flux.1-dev-transformer": ("FluxTransformer2DModel", {"guidance_embeds": True}),
    "flux.1-fill-transformer": (
        "FluxTransformer2DModel",
        {"guidance_embeds": True, "in_channels": 384, "out_channels": 64},
    ),
    "flux.1-control-transformer": (
        "FluxTransformer2DModel",
        {"guidance_embeds": True, "in_channels": 128, "out_channels": 64},
    ),
    "flux.1-union-controlnet": (
        "FluxControlNetModel",
        {"guidance_embeds": True, "num_layers": 5, "num_single_layers": 10, "num_mode": 10},
    ),
    "wan-2.1-t2v-1.3b-transformer": ("WanTransformer3DModel", _WAN_SMALL),
    "wan-2.1-i2v-14b-transformer": (
        "WanTransformer3DModel",
        {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
    ),
    "wan-2.2-i2v-a14b-transformer": ("WanTransformer3DModel", {"in_channels": 36}),
    "wan-2.2-ti2v-5b-transformer": (
        "WanTransformer3DModel",
        {
            "num_attention_heads": 24,
            "ffn_dim": 14336,
            "num_layers": 30,
            "in_channels": 48,
            "out_channels": 48,
        },
    ),
    "wan-2.1-vace-1.3b-transformer": (
        "WanVACETransformer3DModel",
        {**_WAN_SMALL, "vace_layers": tuple(range(0, 30, 2))},
    ),
    "ltx-video-13b-transformer": (
        "LTXVideoTransformer3DModel",
        {
            "num_attention_heads": 32,
            "attention_head_dim": 128,
            "cross_attention_dim": 4096,
            "num_layers": 48,
        },
    ),
    "hunyuan-dit-1.1-transformer": (
        "HunyuanDiT2DModel",
        {
            "in_channels": 4,
            "patch_size": 2,
            "sample_size": 128,
            "hidden_size": 1408,
            "num_layers": 40,
            "mlp_ratio": 4.3637,
        },
    ),
    "hunyuan-dit-1.2-transformer": (
        "HunyuanDiT2DModel",
        {
            "in_channels": 4,
            "patch_size": 2,
            "sample_size": 128,
            "hidden_size": 1408,
            "num_layers": 40,
            "mlp_ratio": 4.3637,
            "use_style_cond_and_image_meta_size": False,
        },
    ),
    "pixart-sigma-transformer": (
        "PixArtTransformer2DModel",
        {"use_additional_conditions": False},
    ),
    "auraflow-0.3-transformer": ("AuraFlowTransformer2DModel", {"pos_embed_max_size": 9216}),
    "cogvideox-5b-transformer": (
        "CogVideoXTransformer3DModel",
        {
            "num_attention_heads": 48,
            "num_layers": 42,
            "use_rotary_positional_embeddings": True,
        },
    ),
    "sana-600m-transformer": (
        "SanaTransformer2DModel",
        {
            "num_attention_heads": 36,
            "num_layers": 28,
            "num_cross_attention_heads": 16,
            "cross_attention_head_dim": 72,
            "cross_attention_dim": 1152,
        },
    ),
    "cosmos-predict2-2b-transformer": (
        "CosmosTransformer3DModel",
        {"num_attention_heads": 16, "extra_pos_embed_type": None, "rope_scale": (1.0, 4.0, 4.0)},
    ),
    "lumina-next-transformer": (
        "LuminaNextDiT2DModel",
        {"num_layers": 24, "num_kv_heads": 8},
    ),
    "latte-transformer": (
        "LatteTransformer3DModel",
        {
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 28,
            "caption_channels": 4096,
            "cross_attention_dim": 1152,
            "attention_bias": True,
            "patch_size": 2,
            "activation_fn": "gelu-approximate",
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "norm_eps": 1e-6,
        },
    ),
    "hidream-i1-transformer": (
        "HiDreamImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "caption_channels": (4096, 4096),
            "axes_dims_rope": (64, 32, 32),
            "llama_layers": (*range(32), *(31,) * 16),
        },
    ),
}
