"""Whose code writes such key names, and what follows from that for the network: a table, reviewed
by hand. On the cold path of `archfind guess`; looked at only where tensors leave something open.

Several networks may have the same tensors, and a library's network under other names may compute
something else. Names are evidence of the code: they choose among twins, say that what was assumed
is so, or open what would pass for certain.
"""

from __future__ import annotations

from archfind.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Open = tuple[str, object, tuple[object, ...]]


@frozen
class Origin:
    """A project's code, told by names of its own.

    `keys` are all in every state dict of it, below any prefix; one that ends in a dot is a module.
    None of `without` is. `source` is where the names and the claims below stand. `prefers` is a
    part of the names of the entries, or of the class, that its code computes. `as_library`: where
    no twin is left, its code is the library's in all but names. `confirms` are places of
    assumptions whose value is its code's. `leaves` says in words what its configs decide of an
    entry's network, `told_by` which word of a file says that it's as the library's, and `fields`
    which of a transformers class: with the value of today's code, and other values. The layers of
    the module `head` don't run in a row, so that it can't be rebuilt from them. `words` are its
    names of a config's fields, each with the library's.
    """

    name: str
    source: str
    keys: tuple[str, ...]
    without: tuple[str, ...] = ()
    prefers: str = ""
    as_library: bool = False
    confirms: tuple[str, ...] = ()
    leaves: str = ""
    told_by: tuple[str, object] = ("", None)
    fields: tuple[Open, ...] = ()
    head: str = ""
    words: tuple[tuple[str, str], ...] = ()


_STRIDE = "which convolution of a bottleneck has the stride"
_CAFFE_STYLE = f"{_STRIDE} (style='pytorch' or 'caffe')"

ORIGINS: tuple[Origin, ...] = (
    # Conv2dStaticSamePadding and eps 1e-3 throughout: weights came from TensorFlow.
    Origin(
        "efficientnet_pytorch",
        "github.com/lukemelas/EfficientNet-PyTorch: efficientnet_pytorch/model.py, utils.py",
        ("_conv_stem.weight", "_bn0.weight", "_blocks.0._depthwise_conv.weight"),
        prefers="tf_",
        as_library=True,
    ),
    # Keras' applications pad as TensorFlow does, eps 1e-3; torch ports keep the layers' names.
    Origin(
        "Keras'",
        "github.com/keras-team/keras: keras/src/applications/efficientnet.py",
        ("stem_conv.weight", "stem_bn.weight", "block1a_dwconv."),
        prefers="tf_",
    ),
    Origin(
        "Keras'",
        "github.com/keras-team/keras: keras/src/applications/mobilenet_v2.py",
        ("Conv1.weight", "bn_Conv1.weight", "expanded_conv_depthwise."),
        prefers="tf_",
    ),
    # STRIDE_IN_1X1 is True by default, and False for weights of torchvision and Caffe2.
    Origin(
        "detectron2's",
        "github.com/facebookresearch/detectron2: modeling/backbone/resnet.py, config/defaults.py",
        ("stem.conv1.norm.weight", "res2.0.conv3.norm.weight"),
        leaves=f"{_STRIDE} (STRIDE_IN_1X1)",
        told_by=("STRIDE_IN_1X1", False),
    ),
    Origin(
        "detectron2's",
        "github.com/facebookresearch/detectron2: modeling/backbone/resnet.py, class BasicBlock",
        ("stem.conv1.norm.weight", "res2.0.conv2.norm.weight"),
        without=("res2.0.conv3.norm.weight",),
        as_library=True,
    ),
    Origin(
        "maskrcnn-benchmark's",
        "github.com/facebookresearch/maskrcnn-benchmark: modeling/backbone/resnet.py",
        ("body.stem.conv1.weight", "body.layer1.0.conv3.weight"),
        leaves=f"{_STRIDE} (STRIDE_IN_1X1)",
        told_by=("STRIDE_IN_1X1", False),
    ),
    # Its resnet.py puts the stride into the 1x1 convolution, for weights of Caffe.
    Origin(
        "faster-rcnn.pytorch's",
        "github.com/jwyang/faster-rcnn.pytorch: lib/model/faster_rcnn/resnet.py",
        ("RCNN_base.0.weight", "RCNN_base.4.0.conv3.weight"),
        leaves=_STRIDE,
    ),
    *(
        Origin(
            name,
            f"github.com/open-mmlab/{project}: models/backbones/resnet.py",
            ("backbone.layer1.0.conv3.weight", head),
            leaves=leaves,
            told_by=told_by,
        )
        for name, project, heads, leaves, told_by in (
            (
                "mmdetection's",
                "mmdetection",
                ("bbox_head.", "rpn_head.", "roi_head.", "mask_head."),
                _CAFFE_STYLE,
                ("style", "pytorch"),
            ),
            (
                "mmsegmentation's",
                "mmsegmentation",
                ("decode_head.",),
                f"{_CAFFE_STYLE}, and strides and dilations of the last two stages",
                ("", None),
            ),
        )
        for head in heads
    ),
    Origin(
        "mmsegmentation's",
        "github.com/open-mmlab/mmsegmentation: models/backbones/resnet.py",
        ("backbone.layer1.0.conv2.weight", "decode_head."),
        without=("backbone.layer1.0.conv3.weight",),
        leaves="strides and dilations of the last two stages",
    ),
    Origin(
        "mmpretrain's",
        "github.com/open-mmlab/mmpretrain: models/heads/linear_head.py, necks/gap.py",
        ("backbone.layer1.0.conv1.weight", "head.fc.weight"),
        confirms=("features", "head.fc.after"),
    ),
    # modify_resnets calls torchvision's fc last_linear, and runs it on what its avgpool gives.
    Origin(
        "pretrainedmodels'",
        "github.com/Cadene/pretrained-models.pytorch: models/torchvision_models.py",
        ("layer1.0.conv1.weight", "layer4.0.conv1.weight", "last_linear.weight"),
        confirms=("features", "last_linear.after"),
    ),
    # DeepLab's encoders are dilated in the last stages.
    Origin(
        "segmentation_models_pytorch's",
        "github.com/qubvel-org/segmentation_models.pytorch: encoders/_base.py, make_dilated",
        ("encoder.layer1.0.conv1.weight", "decoder.aspp.", "segmentation_head.0.weight"),
        leaves="strides and dilations of the last stages (encoder_output_stride)",
    ),
    # Known by name alone: the whole is in no library here.
    *(
        Origin(
            "segmentation_models_pytorch's",
            "github.com/qubvel-org/segmentation_models.pytorch: base/heads.py, decoders/",
            (decoder, "segmentation_head.0.weight"),
            without=("decoder.aspp.",),
        )
        for decoder in ("decoder.blocks.", "decoder.seg_blocks.", "decoder.psp.", "decoder.pab.")
    ),
    Origin(
        "ultralytics'",
        "github.com/ultralytics/ultralytics: nn/tasks.py, nn/modules/head.py",
        ("model.0.conv.weight", "model.0.bn.weight", "dfl.conv.weight"),
    ),
    # LayerNorm eps 1e-6, exact GELU: the networks that the library took over, renamed.
    Origin(
        "facebookresearch/ConvNeXt's",
        "github.com/facebookresearch/ConvNeXt: models/convnext.py",
        ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "stages.0.0.pwconv1.weight"),
        without=("stages.0.0.grn.gamma", "norm0.weight"),
        as_library=True,
    ),
    Origin(
        "facebookresearch/ConvNeXt-V2's",
        "github.com/facebookresearch/ConvNeXt-V2: models/convnextv2.py",
        ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "stages.0.0.grn.gamma"),
        as_library=True,
    ),
    # GELU between its layers, and before the last one every vector is divided by its length.
    Origin(
        "DINO's",
        "github.com/facebookresearch/dino: vision_transformer.py, class DINOHead",
        ("head.mlp.0.weight", "head.last_layer."),
        head="head",
    ),
    Origin(
        "DINOv2's",
        "github.com/facebookresearch/dinov2: dinov2/layers/dino_head.py",
        ("dino_head.mlp.0.weight", "dino_head.last_layer."),
        head="dino_head",
    ),
    # nn.GELU today, its tanh form before; eps 1e-5; no scale but 1/sqrt(size of a head).
    Origin(
        "nanoGPT's",
        "github.com/karpathy/nanoGPT: model.py",
        ("transformer.h.0.attn.c_attn.weight", "lm_head.weight"),
        prefers="LMHeadModel",
        confirms=(
            "layer_norm_epsilon",
            "scale_attn_weights",
            "scale_attn_by_inverse_layer_idx",
            "config",
        ),
        fields=(("activation_function", "gelu", ("gelu_new",)),),
        words=(("block_size", "n_positions"),),
    ),
    Origin(
        "OpenAI Whisper's",
        "github.com/openai/whisper: whisper/model.py, class ModelDimensions",
        ("encoder.blocks.0.attn.query.weight", "decoder.blocks.0.cross_attn.query.weight"),
        confirms=("activation_function", "scale_embedding", "config"),
        words=(
            ("n_vocab", "vocab_size"),
            ("n_mels", "num_mel_bins"),
            ("n_audio_head", "encoder_attention_heads"),
            ("n_text_head", "decoder_attention_heads"),
            ("n_audio_layer", "encoder_layers"),
            ("n_text_layer", "decoder_layers"),
        ),
    ),
    Origin(
        "LLaMA's own",
        "github.com/meta-llama/llama: llama/model.py, class ModelArgs",
        ("tok_embeddings.weight", "layers.0.attention.wq.weight", "layers.0.attention.wk.weight"),
        words=(
            ("dim", "hidden_size"),
            ("n_heads", "num_attention_heads"),
            ("n_kv_heads", "num_key_value_heads"),
            ("norm_eps", "rms_norm_eps"),
            ("rope_theta", "rope_parameters.rope_theta"),
        ),
    ),
    # QuickGELU is in clip/model.py itself; the three numbers are constants of its TorchScript.
    Origin(
        "OpenAI CLIP's",
        "github.com/openai/CLIP: clip/model.py, class QuickGELU",
        ("visual.transformer.resblocks.0.attn.in_proj_weight", "input_resolution", "vocab_size"),
        prefers="quickgelu",
        confirms=(
            "text_config.hidden_act",
            "vision_config.hidden_act",
            "text_config.layer_norm_eps",
            "vision_config.layer_norm_eps",
            "config",
        ),
    ),
    # Its configs named -quickgelu are for OpenAI's weights; LAION's and others have GELU.
    Origin(
        "open_clip's",
        "github.com/mlfoundations/open_clip: src/open_clip/model.py, quick_gelu",
        ("visual.transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight"),
        without=("input_resolution",),
        confirms=("text_config.layer_norm_eps", "vision_config.layer_norm_eps"),
        fields=(
            ("text_config.hidden_act", "quick_gelu", ("gelu",)),
            ("vision_config.hidden_act", "quick_gelu", ("gelu",)),
        ),
    ),
)


def origins(keys: Iterable[str]) -> list[Origin]:
    """The projects whose names a file's keys are, whatever wraps them."""
    every = "\n" + "\n".join(keys).replace("/", ".") + "\n"
    return [
        one
        for one in ORIGINS
        if all(_has(every, key) for key in one.keys)
        and not any(_has(every, key) for key in one.without)
    ]


def origin_of_keys(keys: Iterable[str]) -> Origin | None:
    """The one project whose names these are; None where it's none, or names are mixed of several's:
    then nothing follows."""
    found = origins(keys)
    return found[0] if found and all(one.name == found[0].name for one in found) else None


def _has(every: str, key: str) -> bool:
    """Whether a key, or a module, is among keys, each on a line, below any prefix."""
    whole = key if key.endswith(".") else f"{key}\n"
    return f"\n{whole}" in every or f".{whole}" in every
