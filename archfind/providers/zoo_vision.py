"""Rows of packages for faces, text in pictures, masks and perceptual distances."""

from __future__ import annotations

from archfind.providers.zoo_row import Input, ZooNetwork


def _image(side: int, channels: int = 3, name: str = "image") -> tuple[Input, ...]:
    return (Input(name, (channels, side, side), "image"),)


_FACES = "facenet_pytorch.models"
FACENET = {
    "InceptionResnetV1": ZooNetwork(f"{_FACES}.inception_resnet_v1.InceptionResnetV1", _image(160)),
    "InceptionResnetV1-classify": ZooNetwork(
        f"{_FACES}.inception_resnet_v1.InceptionResnetV1",
        _image(160),
        kwargs={"classify": True, "num_classes": 8631},
        fields={"num_classes": 8631},
    ),
    **{
        name: ZooNetwork(f"{_FACES}.mtcnn.{name}", _image(side), kwargs={"pretrained": False})
        for name, side in (("PNet", 12), ("RNet", 24), ("ONet", 48))
    },
}

LPIPS = {
    f"LPIPS-{net}": ZooNetwork(
        "lpips.lpips.LPIPS",
        (*_image(64, name="image"), *_image(64, name="reference")),
        kwargs={"net": net, "pretrained": False, "pnet_rand": True, "verbose": False},
    )
    for net in ("alex", "vgg", "squeeze")
}

_ONE_MASK = Input("multimask_output", (), "value", False)
SEGMENT_ANYTHING = {
    f"sam_{size}": ZooNetwork(
        f"segment_anything.build_sam.build_sam_{size}",
        (Input("image", (3, 1024, 1024), "dictionaries"), _ONE_MASK),
    )
    for size in ("vit_b", "vit_l", "vit_h")
}

EASYOCR = {
    "CRAFT": ZooNetwork("easyocr.craft.CRAFT", _image(128)),
    **{
        name: ZooNetwork(
            f"easyocr.model.{module}.Model",
            (Input("image", (1, 64, 256), "image"), Input("text", (), "value", "")),
            kwargs={
                "input_channel": 1,
                "output_channel": width,
                "hidden_size": width,
                "num_class": 97,
            },
            fields={"num_class": 97},
        )
        for name, module, width in (
            ("recognition-generation1", "model", 512),
            ("recognition-generation2", "vgg_model", 256),
        )
    },
}

FACEXLIB_PARTS = ("parsing", "detection", "alignment", "headpose", "assessment", "matting")
FACEXLIB = {
    "ParseNet": ZooNetwork(
        "facexlib.parsing.parsenet.ParseNet",
        _image(512),
        kwargs={"in_size": 512, "out_size": 512, "parsing_ch": 19},
        fields={"parsing_ch": 19},
    ),
    "BiSeNet": ZooNetwork(
        "facexlib.parsing.bisenet.BiSeNet",
        _image(256),
        kwargs={"num_class": 19},
        fields={"num_class": 19},
    ),
    **{
        f"RetinaFace-{backbone}": ZooNetwork(
            "facexlib.detection.retinaface.RetinaFace",
            _image(128),
            kwargs={"network_name": backbone, "half": False, "device": "cpu"},
        )
        for backbone in ("resnet50", "mobile0.25")
    },
    "FAN": ZooNetwork(
        "facexlib.alignment.awing_arch.FAN",
        _image(256),
        kwargs={"num_modules": 4, "num_landmarks": 98, "device": "cpu"},
    ),
    "HopeNet": ZooNetwork(
        "facexlib.headpose.hopenet_arch.HopeNet", _image(224), ("resnet", [3, 4, 6, 3], 66)
    ),
    "HyperIQA": ZooNetwork(
        "facexlib.assessment.hyperiqa_net.HyperIQA",
        _image(224),
        (16, 112, 224, 112, 56, 28, 14, 7),
    ),
    "MODNet": ZooNetwork(
        "facexlib.matting.modnet.MODNet",
        (*_image(256), Input("inference", (), "value", True)),
        kwargs={"backbone_pretrained": False},
    ),
    "arcface": ZooNetwork(
        "facexlib.recognition.arcface_arch.Backbone",
        _image(112),
        kwargs={"num_layers": 50, "drop_ratio": 0.6, "mode": "ir_se"},
    ),
}
