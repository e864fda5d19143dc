"""Whose code a file's names are decides between networks with the same tensors, and what is open:
each case is a library's network, its keys as that code writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_dialects import Clip, NanoGpt, saved
from test_identify import State, guess_state, state_of

import archfind
from archfind.evidence.origins import ORIGINS, Origin, origin_of_keys, origins
from archfind.report.answer import guess_document, guess_lines
from archfind.types import Guess

MMCV = "model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=50, style='{}'))"
RETINA = {"bbox_head.retina_cls.weight": torch.zeros(9, 256, 3, 3)}
SEGMENTOR = {"decode_head.conv_seg.weight": torch.zeros(19, 512, 1, 1)}


def lukemelas(state: State) -> State:
    """efficientnet_pytorch's keys for timm's."""
    blocks: dict[str, int] = {}
    found: State = {}
    for key, tensor in state.items():
        key = key.replace("conv_stem", "_conv_stem").replace("conv_head", "_conv_head")
        key = re.sub(r"^bn1", "_bn0", re.sub(r"^bn2", "_bn1", key)).replace("classifier", "_fc")
        block = re.match(r"blocks\.\d+\.\d+", key)
        if block:
            number = blocks.setdefault(block[0], len(blocks))
            first = number == 0 or f"{block[0]}.conv_pwl.weight" not in state  # without expansion
            names = ["depthwise", "project"] if first else ["expand", "depthwise", "project"]
            convs = ["conv_dw", "conv_pw"] if first else ["conv_pw", "conv_dw", "conv_pwl"]
            rest = key[block.end() + 1 :]
            for conv, name in zip(convs, names, strict=True):
                rest = re.sub(rf"^{conv}\.", f"_{name}_conv.", rest)
            rest = re.sub(r"^bn(\d)", lambda m, more=first: f"_bn{int(m[1]) - 1 + more}", rest)
            rest = re.sub(r"^se\.conv_(\w+)", r"_se_\1", rest)
            key = f"_blocks.{number}.{rest}"
        found[key] = tensor
    return found


def detectron2(state: State) -> State:
    """Its backbone's keys for torchvision's, whose norms are frozen."""
    found: State = {}
    for key, tensor in state.items():
        if key.startswith("fc.") or key.endswith("num_batches_tracked"):
            continue
        key = re.sub(r"^conv1\.", "stem.conv1.", re.sub(r"^bn1\.", "stem.conv1.norm.", key))
        key = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", key)
        key = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", key)
        found[key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")] = (
            tensor
        )
    return found


def convnext(state: State) -> State:
    """facebookresearch/ConvNeXt's keys for timm's."""
    found: State = {}
    for key, tensor in state.items():
        key = key.replace("stem.", "downsample_layers.0.").replace("blocks.", "")
        key = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", key)
        key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        found[key.replace("head.norm", "norm").replace("head.fc", "head")] = tensor
    return found


def last_linear(state: State) -> State:
    return {re.sub(r"^fc\.", "last_linear.", key): t for key, t in state.items()}


def mmpretrain(state: State) -> State:
    return {
        key.replace("fc.", "head.fc.") if key.startswith("fc.") else f"backbone.{key}": t
        for key, t in state.items()
    }


def places(found: Guess) -> list[str]:
    return [item.place for item in found.matches[0].assumed]


def stirred(state: State) -> State:
    """Values that a network's outputs depend on, its norms' variances too."""
    random = torch.Generator().manual_seed(5)
    return {
        key: t if not t.is_floating_point()
        else torch.rand(t.shape, generator=random) + 0.5 if key.endswith("running_var")
        else torch.randn(t.shape, generator=random) * t[0].numel() ** -0.5 if t.dim() > 1
        else torch.randn(t.shape, generator=random) / 9 + key.endswith("weight")
        for key, t in state.items()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "written", "named", "assumed"),
    [
        ("timm/tf_efficientnet_b0", lukemelas, "timm/tf_efficientnet_b0", []),
        ("timm/convnext_atto", convnext, "timm/convnext_atto", []),
        ("torchvision/resnet18", detectron2, "timm/resnet18", []),
        ("torchvision/resnet50", detectron2, "timm/resnet50", ["implementation"]),
        ("torchvision/resnet50", last_linear, "timm/resnet50", []),
        ("torchvision/resnet34", mmpretrain, "timm/resnet34", []),
    ],
)
@pytest.mark.parametrize("prefix", ["", "net."])
def test_names_decide(
    entry: str,
    written: Callable[[State], State],
    named: str,
    assumed: list[str],
    prefix: str,
) -> None:
    found = guess_state({prefix + key: t for key, t in written(state_of(entry)).items()})
    assert found.matches[0].entry.id == named
    assert found.is_named and places(found) == assumed
    assert found.status == ("ambiguous" if assumed else "exact")


def test_what_only_other_names_tell_is_said_and_told(tmp_path: Path) -> None:
    state = detectron2(state_of("torchvision/resnet50"))
    found = guess_state(state)
    (item,) = found.matches[0].assumed
    assert "STRIDE_IN_1X1" in item.what and "detectron2" in item.what
    assert archfind.guess(found, settings={"implementation": "timm/resnet50"}).status == "exact"


@pytest.mark.parametrize(
    ("beside", "depth", "style", "assumed"),
    [
        (RETINA, 50, "", ["implementation"]),
        (RETINA, 50, "caffe", ["implementation"]),
        (RETINA, 50, "pytorch", []),
        (RETINA, 34, "", []),  # a basic block has one convolution for its stride
        (SEGMENTOR, 50, "pytorch", ["implementation"]),  # dilations aren't told by it
        (SEGMENTOR, 18, "", ["implementation"]),
        ({}, 50, "", []),
    ],
)
def test_backbones_of_openmmlab(
    beside: State, depth: int, style: str, assumed: list[str], tmp_path: Path
) -> None:
    own = state_of(f"timm/resnet{depth}", num_classes=0)
    state = {f"backbone.{k}": torch.zeros(t.shape, dtype=t.dtype) for k, t in own.items()}
    meta = {"meta": {"config": MMCV.format(style)}} if style else {}
    torch.save({"state_dict": {**state, **beside}, **meta}, tmp_path / "latest.pth")
    found = archfind.guess(tmp_path / "latest.pth", part="backbone" if beside else "")
    assert found.matches[0].entry.id == f"timm/resnet{depth}" and places(found) == assumed


def test_the_chosen_twin_computes_what_the_names_stand_for(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    module = timm.create_model("tf_efficientnet_b0", num_classes=5).eval()
    module.load_state_dict(stirred(module.state_dict()))
    torch.save(lukemelas(module.state_dict()), tmp_path / "efficientnet-b0.pth")
    picture = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = module(picture)
        torch.testing.assert_close(
            archfind.load(tmp_path / "efficientnet-b0.pth")(picture), expected
        )
        other: Any = archfind.load(tmp_path / "efficientnet-b0.pth", choose="timm/efficientnet_b0")
        assert (other(picture) - expected).abs().max() > 1e-3 * expected.abs().max()


def test_names_of_two_schemes_decide_nothing() -> None:
    state = lukemelas(state_of("timm/tf_efficientnet_b0"))
    both = {**state, "downsample_layers.0.0.weight": torch.zeros(96, 3, 4, 4)}
    both |= {f"stages.0.0.{k}.weight": torch.zeros(4, 1) for k in ("dwconv", "pwconv1")}
    assert origin_of_keys(state) is not None and origin_of_keys(both) is None
    assert len({one.name for one in origins(both)}) == 2


def test_a_head_that_is_no_row_of_layers_is_not_claimed() -> None:
    """DINO's: its last layer takes vectors of length one."""
    own = {f"backbone.{k}": t for k, t in state_of("timm/resnet18", num_classes=0).items()}
    sizes = {"mlp.0": (64, 512), "mlp.2": (64, 64), "mlp.4": (32, 64)}
    head = {f"head.{name}.weight": torch.zeros(size) for name, size in sizes.items()}
    head |= {f"head.{name}.bias": torch.zeros(size[0]) for name, size in sizes.items()}
    last = {"head.last_layer.weight_g": torch.zeros(99, 1)}
    last |= {"head.last_layer.weight_v": torch.zeros(99, 32)}
    found = guess_state({**own, **head, **last})
    assert found.status == "close"
    assert {key.partition(".")[0] for key in found.matches[0].unexpected} == {"head"}
    assert found.parts["backbone"].status == "exact"
    plain = guess_state({**own, **{k.replace("head.", "neck."): t for k, t in head.items()}})
    assert plain.is_assumed and plain.matches[0].head is not None


def test_nanogpt_is_a_language_model(tmp_path: Path) -> None:
    torch.save({"model": NanoGpt().state_dict(), "model_args": {"n_head": 4}}, tmp_path / "c.pt")
    found = archfind.guess(tmp_path / "c.pt")
    assert (found.matches[0].entry.name, found.chosen_by) == ("GPT2LMHeadModel", "origin")
    assert places(found) == ["activation_function"]


@pytest.mark.parametrize("own", [True, False])
def test_whose_clip_it_is_says_its_activation(own: bool, tmp_path: Path) -> None:
    path = saved(Clip(), tmp_path / "clip.pt")
    state = torch.load(path)
    constants = {"input_resolution": 32, "context_length": 12, "vocab_size": 95}
    state = {k: t for k, t in state.items() if k not in constants}
    state |= {k: torch.tensor(n) for k, n in constants.items()} if own else {}
    torch.save(state, path)
    found = archfind.guess(path)
    fields = {"text_config.hidden_act", "vision_config.hidden_act"}
    assert (fields & {*places(found)} == set()) == own
    assert {found.matches[0].config[name].value for name in fields} == {"quick_gelu"}


def test_every_row_says_where_it_is_from() -> None:
    for one in ORIGINS:
        assert one.source.startswith("github.com/") and one.keys


@pytest.mark.parametrize("row", ORIGINS, ids=lambda one: f"{one.name} {one.keys[0]}")
def test_every_row_knows_its_own_names_below_any_prefix(row: Origin) -> None:
    own = [f"{key}weight" if key.endswith(".") else key for key in row.keys]
    for prefix in ("", "module.", "model/net."):
        found = origin_of_keys([f"{prefix}{key}" for key in own])
        assert found is not None and found.name == row.name
    for missing in own:
        assert row not in origins([key for key in own if key != missing])


def test_an_encoder_may_be_dilated() -> None:
    own = {f"encoder.{k}": t for k, t in state_of("timm/resnet18", num_classes=0).items()}
    head = {"segmentation_head.0.weight": torch.zeros(5, 256, 1, 1)}
    unet = {f"decoder.blocks.0.conv1.0.{k}": torch.zeros(7, 9, 3, 3) for k in ("weight",)}
    aspp = {"decoder.aspp.0.convs.0.0.weight": torch.zeros(256, 512, 1, 1)}
    assert guess_state({**own, **unet, **head}).parts["encoder"].status == "exact"
    part = guess_state({**own, **aspp, **head}).parts["encoder"]
    assert part.is_assumed and "dilations" in part.matches[0].assumed[0].what


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (("decoder.blocks.0.conv1.0.weight", "segmentation_head.0.weight"),
         "segmentation_models_pytorch's"),
        (("model.0.conv.weight", "model.0.bn.weight", "model.9.dfl.conv.weight"), "ultralytics'"),
    ],
)  # fmt: skip
def test_whose_names_an_unknown_network_has_is_said(keys: tuple[str, ...], name: str) -> None:
    shapes = [(7, 5, 3, 3), (7,), (1, 7, 1, 1)]
    state = {f"net.{key}": torch.zeros(shape) for key, shape in zip(keys, shapes, strict=False)}
    document = guess_document(guess_state(state))
    assert (document["status"], document["origin"]) == ("unknown", name)
    assert f"  names     are {name}" in guess_lines(document)
