"""What files say of their own network: shown, believed where tensors leave something open, told
where tensors contradict it."""

from __future__ import annotations

import argparse
import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_dialects import IDS, Llama, NanoGpt, Whisper, close
from torch import nn

import archfind
from archfind.evidence.said import fields_said, said, words_said
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.report.answer import guess_document, guess_lines

MMCV = "model = dict(\n    type='{}',\n    backbone=dict(\n        type='ResNet', depth={},\n"


def of(name: str, **fields: object) -> dict[str, torch.Tensor]:
    """A registered network's state dict, all zeros."""
    library, _, entry = name.partition("/")
    state = create_on_meta(provider(library), entry, **fields).state_dict()
    return {key: torch.zeros(t.shape, dtype=t.dtype) for key, t in state.items()}


def document(path: Path) -> dict[str, Any]:
    return guess_document(archfind.guess(path))


def object_of(dotted: str, **state: object) -> object:
    """An instance of a class that this machine has no module of."""
    module, _, name = dotted.rpartition(".")
    parts = module.split(".")
    for end in range(len(parts)):
        place = ".".join(parts[: end + 1])
        sys.modules.setdefault(place, types.ModuleType(place))
    held = sys.modules[module]
    if not hasattr(held, name):
        setattr(held, name, type(name, (), {"__module__": module}))
    made = getattr(held, name)()
    made.__dict__.update(state)
    return made


def omegaconf(**values: object) -> object:
    """OmegaConf's DictConfig as it is pickled."""
    node = "omegaconf.nodes.AnyNode"
    content = {
        k: omegaconf(**v) if isinstance(v, dict) else object_of(node, _metadata=None, _val=v)
        for k, v in values.items()
    }
    return object_of("omegaconf.dictconfig.DictConfig", _metadata=None, _content=content)


@pytest.mark.parametrize(
    ("beside", "sentence"),
    [
        ({"arch": "resnet3d-18"}, "resnet3d-18"),
        ({"hyper_parameters": {"arch": "Unet", "encoder_name": "resnet34"}},
         "smp Unet on resnet34"),
        ({"hparams": {"encoder_name": "mit_b0"}}, "smp on mit_b0"),
        ({"train_args": {"model": "yolov8n.yaml", "task": "detect"}}, "yolov8n.yaml"),
        ({"args": argparse.Namespace(model="deit_small_patch16_224", lr=0.1)},
         "deit_small_patch16_224"),
        ({"config": {"model": {"name": "unetplusplus", "backbone": "b3"}}}, "unetplusplus on b3"),
        ({"hyper_parameters": {"net": {"_target_": "monai.networks.nets.UNet"}}},
         "monai.networks.nets.UNet"),
        ({"hyper_parameters": {"model": {"class_path": "my.Net", "init_args": {"n": 3}}}},
         "my.Net"),
        ({"meta": {"config": MMCV.format("FasterRCNN", 50)}}, "FasterRCNN on ResNet-50"),
        ({"hyper_parameters": omegaconf(model={"_target_": "torchvision.models.vit_b_16"})},
         "torchvision.models.vit_b_16"),
        # a path, a sentence, control characters, nothing: no names
        ({"arch": "/home/me/runs/best/model.pth"}, None),
        ({"args": {"model": "the one that we trained on Monday"}}, None),
        ({"arch": "a\x1b[31mb\u202ec"}, None),
        ({"arch": ["resnet50", 3], "model_name": 7, "backbone": None}, None),
        ({"hyper_parameters": {"lr": 1e-3}}, None),
    ],
)  # fmt: skip
def test_the_sentence(beside: dict[str, object], sentence: str | None, tmp_path: Path) -> None:
    net = {f"strange.{n}.weight": torch.zeros(3 + n, 5) for n in range(4)}
    torch.save({"state_dict": net, **beside}, tmp_path / "net.ckpt")
    found = document(tmp_path / "net.ckpt")
    assert (found["said"] and found["said"]["sentence"]) == sentence
    first = guess_lines(found)[0]
    assert first.endswith(f"; the file says: {sentence}" if sentence else "no signature fits")


def test_the_class_of_a_pickled_network_is_said_first(tmp_path: Path) -> None:
    object_of("somebodys.tasks.Nothing")
    cls = type("DetectionModel", (nn.Module,), {"__module__": "somebodys.tasks"})
    setattr(sys.modules["somebodys.tasks"], "DetectionModel", cls)  # noqa: B010
    net = cls()
    net.model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 11, 1))
    torch.save({"model": net, "train_args": {"model": "n.yaml"}}, tmp_path / "best.pt")
    lines = guess_lines(document(tmp_path / "best.pt"))
    assert lines[0].endswith("the file says: somebodys.tasks.DetectionModel, n.yaml")


def test_a_policy_says_whose_it_is(tmp_path: Path) -> None:
    policy = {"policy_class": {":type:": "abc", "__module__": "stable_baselines3.dqn.policies"}}
    torch.save({"q_net.0.weight": torch.zeros(4, 3)}, tmp_path / "policy.pth")
    with zipfile.ZipFile(tmp_path / "dqn.zip", "w") as archive:
        archive.writestr("data", json.dumps({"gamma": 0.99, **policy}))
        archive.write(tmp_path / "policy.pth", "policy.pth")
    assert document(tmp_path / "dqn.zip")["said"]["sentence"] == "stable_baselines3.dqn.policies"


def test_a_program_points_to_trust(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(7, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x).relu())

    torch.jit.trace(Odd(), torch.zeros(1, 7)).save(tmp_path / "odd.pt")  # pyright: ignore
    text = "\n".join(guess_lines(document(tmp_path / "odd.pt")))
    assert "odd.pt out.onnx --trust" in text and "test_public_words" in text


def test_fields_of_several_places_must_agree() -> None:
    assert fields_said({"args/heads": 8, "config/heads": 8, "a/b": 1, "c/b": 2}) == {"heads": 8}


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({"arch": "resnet18"}, ""),
        ({"args": {"model": "timm/resnet18.a1_in1k", "num_classes": 1000}}, ""),
        ({"pretrained_cfg": {"architecture": "resnet18", "num_classes": 10}}, ""),  # it began with
        ({"hyper_parameters": {"backbone": "ResNet-18"}}, ""),
        ({"arch": "mine"}, ""),
        ({"args": {"name": "resnet50"}}, ""),  # of a run
        ({"arch": "resnet50"}, "the file says resnet50 at arch"),
        ({"hyper_parameters": {"arch": "Unet", "encoder_name": "resnet34"}},
         "the file says resnet34 at hyper_parameters/encoder_name"),
        ({"args": argparse.Namespace(model="vit_small")}, "the file says vit_small at args/model"),
        ({"arch": "resnet18", "args": {"num_classes": 10}},
         "the file says 10 at args/num_classes, and the tensors 1000"),
    ],
)  # fmt: skip
def test_tensors_win_and_the_contradiction_is_told(
    beside: dict[str, object], told: str, tmp_path: Path
) -> None:
    torch.save({"state_dict": of("torchvision/resnet18"), **beside}, tmp_path / "net.pth")
    found = archfind.guess(tmp_path / "net.pth")
    assert found.matches[0].entry.name == "resnet18" and found.is_named
    assert found.status == ("ambiguous" if told else "exact")
    assert [item.what.startswith(told) for item in found.matches[0].assumed] == [True] * bool(told)
    if told:
        first, *rest = guess_lines(guess_document(found))
        assert first.endswith("; the file says another") and told in "\n".join(rest)
        answer = archfind.guess(found, settings={"said": found.matches[0].entry.id})
        assert answer.status == "exact"


def test_loading_warns_of_a_contradiction(tmp_path: Path) -> None:
    torch.save({"state_dict": of("torchvision/resnet18"), "arch": "resnet50"}, tmp_path / "net.pth")
    with pytest.warns(UserWarning, match="the file says resnet50 at arch; the tensors are of"):
        assert archfind.load(tmp_path / "net.pth") is not None
    with pytest.raises(archfind.AmbiguousError, match="the file says resnet50"):
        archfind.build(tmp_path / "net.pth")


def test_a_config_beside_it_names_the_twin(tmp_path: Path) -> None:
    config = {"architecture": "vit_base_patch32_clip_quickgelu_224", "num_classes": 512}
    save_file(of("timm/vit_base_patch32_clip_224", num_classes=512), tmp_path / "m.safetensors")
    assert archfind.guess(tmp_path / "m.safetensors").status == "ambiguous"
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = archfind.guess(tmp_path / "m.safetensors")
    assert (found.status, found.chosen_by) == ("exact", "file")
    assert found.matches[0].entry.name == config["architecture"]
    (tmp_path / "config.json").write_text('{"architecture": [[')
    found = archfind.guess(tmp_path / "m.safetensors")
    assert found.status == "ambiguous" and "left aside" in found.warnings[0]


@pytest.mark.parametrize(
    ("said_heads", "heads", "source"), [(6, 6, "file"), (12, 12, "file"), (5, 0, "default"),
                                        ("six", 0, "default"), (True, 0, "default")]
)  # fmt: skip
def test_heads_that_the_file_says(
    said_heads: object, heads: Any, source: str, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    cls = timm.models.vision_transformer.VisionTransformer
    state = cls(img_size=64, patch_size=8, embed_dim=96, depth=3, num_heads=6).state_dict()
    torch.save(
        {"state_dict": state, "hyper_parameters": {"num_heads": said_heads}}, tmp_path / "v.ckpt"
    )
    found = archfind.guess(tmp_path / "v.ckpt")
    setting = found.matches[0].config["num_heads"]
    heads = heads or setting.value  # the nearest entry's
    assert (setting.value, setting.source) == (heads, source)
    open_places = [item.place for item in found.matches[0].assumed]
    assert ("num_heads" in open_places) == (source == "default")
    assert any("num_heads" in line for line in found.warnings) == (source == "default")
    module: Any = archfind.load(found, accept_ambiguous=True)
    assert module.blocks[0].attn.num_heads == heads


@pytest.mark.parametrize(
    ("network", "file", "beside"),
    [
        (NanoGpt, {"model_args": {"n_layer": 3, "n_head": 4, "block_size": 24}}, {}),
        (Whisper, {"dims": {"n_audio_head": 3, "n_text_head": 3, "n_audio_layer": 2}}, {}),
        (Llama, {}, {"dim": 96, "n_heads": 6, "n_kv_heads": 3, "norm_eps": 1e-5}),
    ],
)
def test_authors_own_words_make_the_function(
    network: type[nn.Module], file: dict[str, object], beside: dict[str, object], tmp_path: Path
) -> None:
    torch.manual_seed(4)
    own = network().eval()
    wrap = "model_state_dict" if network is Whisper else "model"
    state = own.state_dict()
    torch.save({wrap: state, **file} if network is not Llama else state, tmp_path / "model.pt")
    if beside:
        (tmp_path / "params.json").write_text(json.dumps(beside))
    found = archfind.load(tmp_path / "model.pt", accept_ambiguous=True)
    with torch.no_grad():
        if network is Whisper:
            mel = torch.randn(1, 80, 60)
            given = found(input_features=mel, decoder_input_ids=IDS).logits
            assert close(own(mel, IDS), given)
        else:
            assert close(own(IDS), found(IDS).logits)


def test_a_count_of_heads_that_can_not_be(tmp_path: Path) -> None:
    state = NanoGpt().state_dict()
    torch.save({"model": state, "model_args": {"n_head": 7, "n_layer": 12}}, tmp_path / "ckpt.pt")
    found = archfind.guess(tmp_path / "ckpt.pt")
    assert found.matches[0].config["n_head"].source == "default"
    assert any("n_head=7" in line and "n_layer=12" in line for line in found.warnings)
    assert archfind.load(found, accept_ambiguous=True) is not None


def test_words_are_bounded(tmp_path: Path) -> None:
    many = {f"k{n}": {"arch": f"a{n}", "text": "x" * 300} for n in range(5_000)}
    torch.save({"w": torch.zeros(3, 3), "args": many, "arch": "y" * 9_000}, tmp_path / "x.pth")
    found = archfind.open(tmp_path / "x.pth")
    assert len(words_said(found)) <= 2_000
    assert len(said(found).sentence) < 1_000


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, ""),
        ({"model_type": "bert", "vocab_size": 9}, "vocab_size=9"),
        ({"model_type": "gpt2"}, "model_type=gpt2"),
    ],
)
def test_a_config_that_its_tensors_contradict(
    config: dict[str, object], told: str, minilm: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.symlink_to(minilm)
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = archfind.guess(path)
    assert found.matches[0].entry.name == "BertModel"
    assert found.status == ("ambiguous" if told else "exact")
    said_items = [item.what for item in found.matches[0].assumed if item.place == "said"]
    assert [told in what for what in said_items] == [True] * bool(told)


def test_source_in_the_file_is_pointed_to(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))
    torch.save(torch.fx.symbolic_trace(net), tmp_path / "net.pt")
    found = document(tmp_path / "net.pt")
    assert found["said"]["sources"]
    lines = guess_lines(found)
    assert any(line.startswith("  source    of ") and "inspect" in line for line in lines)
