"""Weights of a graph under the names that they had before exporters folded and merged them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

import archfind
from archfind.errors import UnknownError
from archfind.exporters.onnx import quiet_exporters
from archfind.from_onnx.scopes import named_constants


class Tower(nn.Module):
    """Nested containers, equal weights that exporters merge, and a parameter of no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
            for _ in range(2)
        )
        self.scale = nn.Parameter(torch.rand(8) + 1)
        self.head = nn.Linear(8, 5)
        for layer in (self.blocks[0][1], self.blocks[1][1]):
            nn.init.constant_(layer.bias, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = x + self.scale * block(x)
        return self.head(x.mean(1))


def _exported(module: nn.Module, args: tuple[Tensor, ...], path: Path, newer: bool) -> Path:
    with quiet_exporters():
        if newer:
            program = torch.onnx.export(module, args, dynamo=True, optimize=True, verbose=False)
            assert program is not None
            program.save(path)
        else:
            torch.onnx.export(module, args, path, dynamo=False, verbose=False)
    return path


@pytest.mark.parametrize("newer", [False, True])
def test_names_by_scope(newer: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Tower().eval()
    path = _exported(module, (torch.randn(2, 3, 9, 9),), tmp_path / "x.onnx", newer)
    model = onnx.load(path)
    kept = {t.name for t in model.graph.initializer}
    found = named_constants(model)
    own = {k: v.numpy() for k, v in module.state_dict().items() if v.is_floating_point()}
    linear = {f"blocks.{n}.{i}.weight" for n in (0, 1) for i in (1, 3)}
    assert not linear & kept  # the exporter has them transposed, under names of its own
    for key in [*linear, "blocks.0.1.bias", "blocks.1.1.bias", "scale", "head.weight"]:
        assert np.array_equal(found[key], own[key]), key
    # its BatchNorm is folded in: the kernel isn't the one that it was, and has a bias
    assert not np.array_equal(found["stem.0.weight"], own["stem.0.weight"])
    assert "stem.0.bias" in found and "stem.1.weight" not in found


def _bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300, hidden_size=48, num_hidden_layers=2, num_attention_heads=6,
        intermediate_size=96, max_position_embeddings=40,
    )  # fmt: skip
    module = BertModel(config).eval()
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(3) if value.dim() > 1 else value.add_(0.1 * torch.randn_like(value))
    return module


class Bare(nn.Module):
    """What people wrap around such a network to export it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model(words)
        return out.last_hidden_state, out.pooler_output


def test_a_transformer_comes_back_with_its_heads(tmp_path: Path) -> None:
    bert = _bert()
    words = torch.randint(0, 300, (2, 16))
    path = _exported(Bare(bert), (words,), tmp_path / "bert.onnx", newer=False)
    built = archfind.build(path)
    assert built.match.entry.id == "transformers/BertModel"
    heads = built.match.config["num_attention_heads"]
    assert (heads.value, heads.source) == (6, "value")  # no shape tells, the outputs do
    for key, value in bert.state_dict().items():
        assert torch.equal(built.module.state_dict()[key], value)
    archfind.export(path, tmp_path / "bert.safetensors")
    assert set(load_file(tmp_path / "bert.safetensors")) >= {k for k, _ in bert.named_parameters()}


def test_archfinds_own_export_comes_back(tmp_path: Path) -> None:
    bert = _bert()
    torch.save(bert.state_dict(), tmp_path / "bert.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archfind.export(
            tmp_path / "bert.pth", tmp_path / "bert.onnx", choose="transformers/BertModel",
            settings={"num_attention_heads": 6}, accept_ambiguous=True,
        )  # fmt: skip
    module = archfind.load(tmp_path / "bert.onnx", choose="transformers/BertModel")
    assert module.config.num_attention_heads == 6
    assert all(torch.equal(module.state_dict()[k], v) for k, v in bert.state_dict().items())
    with pytest.raises(UnknownError, match="it isn't transformers/GPT2Model"):
        archfind.load(tmp_path / "bert.onnx", choose="transformers/GPT2Model")
