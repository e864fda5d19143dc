"""Networks of transformers: what they run on, and their sequences' lengths left free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn

from archfind.errors import BuildError
from archfind.exporters.job import Job
from archfind.exporters.onnx import write_module
from archfind.providers import provider
from archfind.providers.example import tensors

transformers: Any = pytest.importorskip("transformers")
NARROW = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
NARROW |= {"intermediate_size": 40, "vocab_size": 99}


def made(model_type: str, name: str, **fields: object) -> nn.Module:
    torch.manual_seed(0)
    return getattr(transformers, name)(
        transformers.AutoConfig.for_model(model_type, **fields)
    ).eval()


@pytest.mark.parametrize(
    ("model_type", "name", "fields", "names"),
    [
        ("bert", "BertModel", NARROW, ["input_ids"]),
        ("vit", "ViTModel", {**NARROW, "image_size": 32, "patch_size": 16}, ["pixel_values"]),
        ("t5", "T5Model", {"d_model": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16, "d_ff": 40,
         "vocab_size": 99}, ["input_ids", "decoder_input_ids"]),
        ("wav2vec2", "Wav2Vec2Model", NARROW, ["input_values"]),
        ("clip", "CLIPModel", {"text_config": NARROW, "vision_config": {**NARROW,
         "image_size": 32, "patch_size": 16}}, ["input_ids", "pixel_values"]),
    ],
)  # fmt: skip
def test_inputs_are_found_by_name_and_run(
    model_type: str, name: str, fields: dict[str, object], names: list[str]
) -> None:
    module = made(model_type, name, **fields)
    example = provider("transformers").example(f"{model_type}/{name}", module)
    assert list(example.names) == names
    assert [len(tensor) for tensor in tensors(example.args)] == [2] * len(names)
    module(*example.args)


def test_a_network_that_takes_something_else_is_said() -> None:
    class Odd(nn.Module):
        main_input_name = "graph"

        def forward(self, graph: object) -> object:
            return graph

    with pytest.raises(BuildError, match="no example input is known for it"):
        provider("transformers").example("odd/Odd", Odd())


def test_a_text_of_another_length(tmp_path: Path) -> None:
    module = made("bert", "BertModel", **NARROW)
    example = provider("transformers").example("bert/BertModel", module)
    done = write_module(module, Job(tmp_path / "bert.onnx", {"of": "bert"}, example))
    assert done.notes["free"] == "batch, sequence"
    ids = torch.arange(63).reshape(7, 9)
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"input_ids": ids.numpy()})
    with torch.no_grad():
        expected = module(ids)
    torch.testing.assert_close(torch.from_numpy(found[0]), expected[0], rtol=1e-3, atol=1e-4)


def test_a_mixture_of_experts(tmp_path: Path) -> None:
    """Its library's own operator for groups of experts is known to no exporter."""
    fields = {**NARROW, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4,
              "num_experts_per_tok": 2, "moe_intermediate_size": 24}  # fmt: skip
    module = made("qwen3_moe", "Qwen3MoeModel", **fields)
    example = provider("transformers").example("qwen3_moe/Qwen3MoeModel", module)
    written = write_module(module, Job(tmp_path / "moe.onnx", {}, example))
    words = torch.randint(0, 99, (3, 21))
    session = onnxruntime.InferenceSession(str(written.path))
    (found,) = session.run(None, {"input_ids": words.numpy()})
    with torch.no_grad():
        expected = module(words).last_hidden_state
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
