"""What a config.json states and no tensor shows: the network computes with it, or isn't exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import archfind

SIZES: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
GROUPS = {**SIZES, "num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip


def turns(theta: float, **more: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


STATED = {
    "a base of turns": ("Llama", {**GROUPS, **turns(100.0)}),
    "turns that are stretched": ("Llama", {**GROUPS, **turns(1000.0, **LLAMA3)}),
    "no window": ("Mistral", {**GROUPS, "head_dim": 8, "sliding_window": None}),
    "a window": ("Mistral", {**GROUPS, "head_dim": 8, "sliding_window": 8, **turns(50.0)}),
    "kinds of layers": ("Gemma2", {
        **GROUPS, "head_dim": 8, "sliding_window": 4, "layer_types": ["full_attention"] * 2,
    }),
    "nothing capped": ("Gemma2", {
        **GROUPS, "head_dim": 8, "attn_logit_softcapping": None, "final_logit_softcapping": None,
    }),
    "heads whose size is left out": ("Qwen2", {
        **GROUPS, "use_sliding_window": True, "sliding_window": 4,
        "layer_types": ["full_attention", "sliding_attention"],
    }),
    "runs of kinds": ("GPTNeo", {
        "vocab_size": 100, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 4,
        "attention_types": [[["local"], 2]],
    }),
    "factors": ("Granite", {**GROUPS, "embedding_multiplier": 3.0, "logits_scaling": 7.0}),
}  # fmt: skip


def saved(folder: Path, name: str, fields: dict[str, Any]) -> torch.nn.Module:
    """A network with this config, written with its config.json."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**fields)
    module = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    module.save_pretrained(folder)
    return module


def assert_equal(folder: Path, module: torch.nn.Module) -> None:
    found = archfind.guess(folder / "model.safetensors")
    assert found.status == "exact"
    tokens = torch.arange(48)[None] % 100
    with torch.no_grad():
        loaded = archfind.load(folder / "model.safetensors")
        assert torch.equal(loaded(tokens).logits, module(tokens).logits)


@pytest.mark.parametrize("what", STATED)
def test_what_a_config_states_is_computed_with(what: str, tmp_path: Path) -> None:
    assert_equal(tmp_path, saved(tmp_path, *STATED[what]))


def test_as_older_configs_say_it(tmp_path: Path) -> None:
    module = saved(tmp_path, "Llama", {**GROUPS, **turns(1000.0, **LLAMA3)})
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"rope_theta": 1000.0, "rope_scaling": LLAMA3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_equal(tmp_path, module)


@pytest.mark.parametrize("heads", [0, -2, 5, [2], "2", 2.5, True])
def test_heads_that_cant_be_are_not_exact(heads: object, tmp_path: Path) -> None:
    saved(tmp_path, "Llama", GROUPS)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"num_attention_heads": heads, "head_dim": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = archfind.guess(tmp_path / "model.safetensors")
    assert found.matches[0].assumed and any("num_attention_heads" in w for w in found.warnings)


def test_a_config_asks_for_no_code(tmp_path: Path) -> None:
    saved(tmp_path, "Llama", GROUPS)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "auto_map": {"AutoModel": "evil--x.C"}, "attn_implementation": "evil/kernel",
        "_name_or_path": "evil/x", "quantization_config": {"quant_method": "evil"},
        "rope_evil": "x", "dtype": "float16", "torch_dtype": "float16",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    module: Any = archfind.load(tmp_path / "model.safetensors")
    assert not {"auto_map", "quantization_config"} & vars(module.config).keys()
    assert "evil" not in str(module.config._attn_implementation)
    assert next(module.parameters()).dtype == torch.float32
