"""Headers of models that people download, in their authors' own names, as shapes by key: written
down from the published definitions, without weights."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def linear(shapes: Shapes, key: str, out: int, into: int, bias: bool = True) -> None:
    shapes[f"{key}.weight"] = (out, into)
    if bias:
        shapes[f"{key}.bias"] = (out,)


def conv(shapes: Shapes, key: str, out: int, into: int, size: int = 3, bias: bool = True) -> None:
    shapes[f"{key}.weight"] = (out, into, size, size)
    if bias:
        shapes[f"{key}.bias"] = (out,)


def norm(shapes: Shapes, key: str, width: int) -> None:
    shapes[f"{key}.weight"] = shapes[f"{key}.bias"] = (width,)


def llama(layers: int, width: int = 256, inner: int = 512) -> Shapes:
    """A LLaMA of so many layers, nine tensors each."""
    shapes: Shapes = {"model.embed_tokens.weight": (1000, width)}
    for number in range(layers):
        layer = f"model.layers.{number}."
        for name, out in (("q", width), ("k", width // 2), ("v", width // 2), ("o", width)):
            linear(shapes, f"{layer}self_attn.{name}_proj", out, width, bias=False)
        for name, out, into in (
            ("gate", inner, width),
            ("up", inner, width),
            ("down", width, inner),
        ):
            linear(shapes, f"{layer}mlp.{name}_proj", out, into, bias=False)
        for name in ("input", "post_attention"):
            shapes[f"{layer}{name}_layernorm.weight"] = (width,)
    shapes["model.norm.weight"] = (width,)
    shapes["lm_head.weight"] = (1000, width)
    return shapes


def segment_anything(width: int, depth: int, heads: int, whole: tuple[int, ...]) -> Shapes:
    """The original SAM (https://github.com/facebookresearch/segment-anything); the blocks of
    `whole` attend to the whole picture."""
    shapes: Shapes = {"image_encoder.pos_embed": (1, 64, 64, width)}
    conv(shapes, "image_encoder.patch_embed.proj", width, 3, 16)
    for number in range(depth):
        block = f"image_encoder.blocks.{number}."
        for part in ("norm1", "norm2"):
            norm(shapes, block + part, width)
        for side in "hw":
            positions = 127 if number in whole else 27
            shapes[f"{block}attn.rel_pos_{side}"] = (positions, width // heads)
        linear(shapes, f"{block}attn.qkv", 3 * width, width)
        linear(shapes, f"{block}attn.proj", width, width)
        linear(shapes, f"{block}mlp.lin1", 4 * width, width)
        linear(shapes, f"{block}mlp.lin2", width, 4 * width)
    conv(shapes, "image_encoder.neck.0", 256, width, 1, bias=False)
    conv(shapes, "image_encoder.neck.2", 256, 256, bias=False)
    for part in ("1", "3"):
        norm(shapes, f"image_encoder.neck.{part}", 256)
    shapes["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = (2, 128)
    for name in ("point_embeddings.0", "point_embeddings.1", "point_embeddings.2",
                 "point_embeddings.3", "not_a_point_embed", "no_mask_embed"):  # fmt: skip
        shapes[f"prompt_encoder.{name}.weight"] = (1, 256)
    for at, out, into, size in ((0, 4, 1, 2), (3, 16, 4, 2), (6, 256, 16, 1)):
        conv(shapes, f"prompt_encoder.mask_downscaling.{at}", out, into, size)
    norm(shapes, "prompt_encoder.mask_downscaling.1", 4)
    norm(shapes, "prompt_encoder.mask_downscaling.4", 16)
    return shapes | _mask_decoder("mask_decoder.")


def _mask_decoder(prefix: str) -> Shapes:
    shapes: Shapes = {}

    def attention(key: str, inner: int) -> None:
        for name in "qkv":
            linear(shapes, f"{key}.{name}_proj", inner, 256)
        linear(shapes, f"{key}.out_proj", 256, inner)

    for number in range(2):
        layer = f"{prefix}transformer.layers.{number}."
        attention(f"{layer}self_attn", 256)
        attention(f"{layer}cross_attn_token_to_image", 128)
        attention(f"{layer}cross_attn_image_to_token", 128)
        linear(shapes, f"{layer}mlp.lin1", 2048, 256)
        linear(shapes, f"{layer}mlp.lin2", 256, 2048)
        for part in "1234":
            norm(shapes, f"{layer}norm{part}", 256)
    attention(f"{prefix}transformer.final_attn_token_to_image", 128)
    norm(shapes, f"{prefix}transformer.norm_final_attn", 256)
    shapes[f"{prefix}iou_token.weight"] = (1, 256)
    shapes[f"{prefix}mask_tokens.weight"] = (4, 256)
    for at, out, into in ((0, 64, 256), (3, 32, 64)):
        shapes[f"{prefix}output_upscaling.{at}.weight"] = (into, out, 2, 2)
        shapes[f"{prefix}output_upscaling.{at}.bias"] = (out,)
    norm(shapes, f"{prefix}output_upscaling.1", 64)
    heads = [(f"output_hypernetworks_mlps.{n}", 32) for n in range(4)]
    for name, out in (*heads, ("iou_prediction_head", 4)):
        for layer, width in ((0, 256), (1, 256), (2, out)):
            linear(shapes, f"{prefix}{name}.layers.{layer}", width, 256)
    return shapes


def segment_anything_2(trunk: Shapes) -> Shapes:
    """The original SAM 2 (https://github.com/facebookresearch/sam2) around the tensors of its
    trunk, whose two layers of an MLP are `layers.0` and `layers.1` there."""
    shapes: Shapes = {
        f"image_encoder.trunk.{key.replace('fc1', 'layers.0').replace('fc2', 'layers.1')}": shape
        for key, shape in trunk.items()
        if not key.startswith("head")
    }
    for at, width in enumerate((896, 448, 224, 112)):
        conv(shapes, f"image_encoder.neck.convs.{at}.conv", 256, width, 1)
    for number in range(4):
        layer = f"memory_attention.layers.{number}."
        for name, into in (("self_attn", 256), ("cross_attn_image", 64)):
            for part, width in (("q", 256), ("k", into), ("v", into), ("out", 256)):
                linear(shapes, f"{layer}{name}.{part}_proj", 256, width)
        linear(shapes, f"{layer}linear1", 2048, 256)
        linear(shapes, f"{layer}linear2", 256, 2048)
        for part in "123":
            norm(shapes, f"{layer}norm{part}", 256)
    norm(shapes, "memory_attention.norm", 256)
    into = 1
    for at, width in ((0, 4), (3, 16), (6, 64), (9, 256)):
        conv(shapes, f"memory_encoder.mask_downsampler.encoder.{at}", width, into)
        norm(shapes, f"memory_encoder.mask_downsampler.encoder.{at + 1}", width)
        into = width
    conv(shapes, "memory_encoder.mask_downsampler.encoder.12", 256, 256, 1)
    conv(shapes, "memory_encoder.pix_feat_proj", 256, 256, 1)
    conv(shapes, "memory_encoder.out_proj", 64, 256, 1)
    for number in range(2):
        layer = f"memory_encoder.fuser.layers.{number}."
        shapes |= {f"{layer}gamma": (256,), f"{layer}dwconv.weight": (256, 1, 7, 7)}
        shapes[f"{layer}dwconv.bias"] = (256,)
        norm(shapes, f"{layer}norm", 256)
        linear(shapes, f"{layer}pwconv1", 1024, 256)
        linear(shapes, f"{layer}pwconv2", 256, 1024)
    shapes |= {"maskmem_tpos_enc": (7, 1, 1, 64), "no_mem_embed": (1, 1, 256)}
    shapes |= {"no_mem_pos_enc": (1, 1, 256), "no_obj_ptr": (1, 256)}
    for number in range(3):
        linear(shapes, f"obj_ptr_proj.layers.{number}", 256, 256)
    return shapes | _mask_decoder("sam_mask_decoder.")


def stable_diffusion() -> Shapes:
    """Stable Diffusion 1.5 in one file, the names of CompVis
    (https://github.com/CompVis/stable-diffusion): its UNet and VAE, without the text encoder."""
    shapes: Shapes = {}
    model = "model.diffusion_model."
    linear(shapes, f"{model}time_embed.0", 1280, 320)
    linear(shapes, f"{model}time_embed.2", 1280, 1280)
    conv(shapes, f"{model}input_blocks.0.0", 320, 4)
    widths, held, into, number = (320, 640, 1280, 1280), [320], 320, 1
    for level, width in enumerate(widths):
        for _ in range(2):
            _residual(shapes, f"{model}input_blocks.{number}.0", into, width)
            if level < 3:
                _attention(shapes, f"{model}input_blocks.{number}.1", width)
            into, number = width, number + 1
            held.append(width)
        if level < 3:
            conv(shapes, f"{model}input_blocks.{number}.0.op", width, width)
            number += 1
            held.append(width)
    for part in (0, 2):
        _residual(shapes, f"{model}middle_block.{part}", 1280, 1280)
    _attention(shapes, f"{model}middle_block.1", 1280)
    number = 0
    for level, width in reversed(list(enumerate(widths))):
        for part in range(3):
            _residual(shapes, f"{model}output_blocks.{number}.0", into + held.pop(), width)
            into = width
            if level < 3:
                _attention(shapes, f"{model}output_blocks.{number}.1", width)
            if level and part == 2:
                conv(shapes, f"{model}output_blocks.{number}.{1 + (level < 3)}.conv", width, width)
            number += 1
    norm(shapes, f"{model}out.0", 320)
    conv(shapes, f"{model}out.2", 4, 320)
    return shapes | _autoencoder("first_stage_model.")


def _residual(shapes: Shapes, key: str, into: int, out: int) -> None:
    norm(shapes, f"{key}.in_layers.0", into)
    conv(shapes, f"{key}.in_layers.2", out, into)
    linear(shapes, f"{key}.emb_layers.1", out, 1280)
    norm(shapes, f"{key}.out_layers.0", out)
    conv(shapes, f"{key}.out_layers.3", out, out)
    if into != out:
        conv(shapes, f"{key}.skip_connection", out, into, 1)


def _attention(shapes: Shapes, key: str, width: int) -> None:
    norm(shapes, f"{key}.norm", width)
    for name in ("proj_in", "proj_out"):
        conv(shapes, f"{key}.{name}", width, width, 1)
    block = f"{key}.transformer_blocks.0."
    for name, into in (("attn1", width), ("attn2", 768)):
        for part, size in (("q", width), ("k", into), ("v", into)):
            linear(shapes, f"{block}{name}.to_{part}", width, size, bias=False)
        linear(shapes, f"{block}{name}.to_out.0", width, width)
    linear(shapes, f"{block}ff.net.0.proj", 8 * width, width)
    linear(shapes, f"{block}ff.net.2", width, 4 * width)
    for part in "123":
        norm(shapes, f"{block}norm{part}", width)


def _autoencoder(prefix: str) -> Shapes:
    shapes: Shapes = {}

    def block(key: str, into: int, out: int) -> None:
        norm(shapes, f"{key}.norm1", into)
        conv(shapes, f"{key}.conv1", out, into)
        norm(shapes, f"{key}.norm2", out)
        conv(shapes, f"{key}.conv2", out, out)
        if into != out:
            conv(shapes, f"{key}.nin_shortcut", out, into, 1)

    conv(shapes, f"{prefix}encoder.conv_in", 128, 3)
    into = 128
    for level, width in enumerate((128, 256, 512, 512)):
        for part in range(2):
            block(f"{prefix}encoder.down.{level}.block.{part}", into, width)
            into = width
        if level < 3:
            conv(shapes, f"{prefix}encoder.down.{level}.downsample.conv", width, width)
    for side in ("encoder", "decoder"):
        for part in (1, 2):
            block(f"{prefix}{side}.mid.block_{part}", 512, 512)
        norm(shapes, f"{prefix}{side}.mid.attn_1.norm", 512)
        for name in ("q", "k", "v", "proj_out"):
            conv(shapes, f"{prefix}{side}.mid.attn_1.{name}", 512, 512, 1)
    conv(shapes, f"{prefix}decoder.conv_in", 512, 4)
    for level, width in ((3, 512), (2, 512), (1, 256), (0, 128)):
        for part in range(3):
            block(f"{prefix}decoder.up.{level}.block.{part}", into, width)
            into = width
        if level:
            conv(shapes, f"{prefix}decoder.up.{level}.upsample.conv", width, width)
    for side, width, out in (("encoder", 512, 8), ("decoder", 128, 3)):
        norm(shapes, f"{prefix}{side}.norm_out", width)
        conv(shapes, f"{prefix}{side}.conv_out", out, width)
    conv(shapes, f"{prefix}quant_conv", 8, 8, 1)
    conv(shapes, f"{prefix}post_quant_conv", 4, 4, 1)
    return shapes
