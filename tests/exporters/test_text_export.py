"""Networks of transformers: what they run on, and their sequences' lengths left free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn

from archfind.errors import BuildError
from archfind.exporters import parity
from archfind.exporters.job import Job
from archfind.exporters.onnx import write_module
from archfind.providers import provider
from archfind.providers.example import Example, tensors_of_call

transformers: Any = pytest.importorskip("transformers")
NARROW = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
NARROW |= {"intermediate_size": 40, "vocab_size": 99}
SHORT = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 99}
SHORT |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
SHORT |= {"encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 64}


def made(model_type: str, name: str, **fields: object) -> nn.Module:
    torch.manual_seed(0)
    return getattr(transformers, name)(
        transformers.AutoConfig.for_model(model_type, **fields)
    ).eval()


@pytest.mark.parametrize(
    ("model_type", "name", "fields", "names"),
    [
        ("bert", "BertModel", NARROW, ["input_ids", "attention_mask", "token_type_ids"]),
        ("roberta", "RobertaModel", {**NARROW, "type_vocab_size": 1, "max_position_embeddings": 40},
         ["input_ids", "attention_mask"]),
        ("distilbert", "DistilBertModel", {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 40,
         "vocab_size": 99}, ["input_ids", "attention_mask"]),
        ("layoutlm", "LayoutLMModel", NARROW,
         ["input_ids", "bbox", "attention_mask", "token_type_ids"]),
        ("gpt2", "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 99},
         ["input_ids", "attention_mask", "position_ids"]),
        ("bart", "BartForConditionalGeneration", SHORT,
         ["input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"]),
        ("vit", "ViTModel", {**NARROW, "image_size": 32, "patch_size": 16}, ["pixel_values"]),
        ("t5", "T5Model", {"d_model": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16, "d_ff": 40,
         "vocab_size": 99},
         ["input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"]),
        ("wav2vec2", "Wav2Vec2Model", NARROW, ["input_values"]),
        ("clip", "CLIPModel", {"text_config": NARROW, "vision_config": {**NARROW,
         "image_size": 32, "patch_size": 16}}, ["input_ids", "pixel_values", "attention_mask"]),
    ],
)  # fmt: skip
def test_inputs_are_found_by_name_and_run(
    model_type: str, name: str, fields: dict[str, object], names: list[str]
) -> None:
    module = made(model_type, name, **fields)
    example = provider("transformers").example(f"{model_type}/{name}", module)
    assert list(example.names) == names
    assert [len(tensor) for tensor in tensors_of_call(example.args)] == [2] * len(names)
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
    assert done.notes["padding"] == "checked, where its mask says there is text"
    ids = torch.arange(63).reshape(7, 9)
    there, halves = torch.ones_like(ids), torch.zeros_like(ids)
    there[1, 5:], there[4, 2:], halves[:, 3:] = 0, 0, 1
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    fed = {"input_ids": ids, "attention_mask": there, "token_type_ids": halves}
    found = session.run(None, {name: tensor.numpy() for name, tensor in fed.items()})
    with torch.no_grad():
        expected = module(**fed)[0][there.bool()]
        alone = module(ids[4:5, :2], token_type_ids=halves[4:5, :2])[0]
    text = torch.from_numpy(found[0])
    torch.testing.assert_close(text[there.bool()], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(text[4:5, :2], alone, rtol=1e-3, atol=1e-4)


class Masked(nn.Module):
    """Every place of a text has the sum of what is there."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (input_ids * attention_mask).sum(1)[:, None, None] + input_ids[:, :, None] / 9


def test_an_export_without_its_mask_does_not_pass() -> None:
    ids = torch.arange(32).reshape(2, 16) + 1
    example = Example((ids, torch.ones_like(ids)), ("input_ids", "attention_mask"), (16,), (), ())
    padded = parity.padded(Masked(), example)
    assert padded is not None and padded.there is not None and 0 in padded.there
    right = parity.case(Masked(), padded.args).outputs
    assert not parity.compare(padded.outputs, padded.compared(list(right.values()))).why
    wrong = parity.case(Masked(), (ids, torch.ones_like(ids))).outputs
    assert parity.compare(padded.outputs, padded.compared(list(wrong.values()))).why
    # What stands where the text is padded means nothing.
    noisy = [t + 100 * (1 - padded.there[:, :, None]) for t in right.values()]
    assert not parity.compare(padded.outputs, padded.compared(noisy)).why


def test_a_mixture_of_experts(tmp_path: Path) -> None:
    """Its library's own operator for groups of experts is known to no exporter."""
    fields = {**NARROW, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4,
              "num_experts_per_tok": 2, "moe_intermediate_size": 24}  # fmt: skip
    module = made("qwen3_moe", "Qwen3MoeModel", **fields)
    example = provider("transformers").example("qwen3_moe/Qwen3MoeModel", module)
    written = write_module(module, Job(tmp_path / "moe.onnx", {}, example))
    words = torch.randint(0, 99, (3, 21))
    session = onnxruntime.InferenceSession(str(written.path))
    fed = {"input_ids": words, "attention_mask": torch.ones_like(words)}
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in fed.items()})
    with torch.no_grad():
        expected = module(words).last_hidden_state
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
