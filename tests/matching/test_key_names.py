"""Key names alone name a class of transformers: today's and older ones, where sizes solve and where
they don't. A sample of benchmarks/key_names.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from configured_sizes import write_sparse
from drawn_configs import drawn, written
from key_names import judged, said
from safetensors.torch import save_file

import archfind
from archfind.classes.older_keys import older_key, renamed_key
from archfind.providers import transformers as library

TOWER = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("xlnet/XLNetForQuestionAnsweringSimple", {"module"}),  # whose rules know one width
        ("deepseek_v3/DeepseekV3Model", {"module", "published", "based"}),
        ("gpt_bigcode/GPTBigCodeForCausalLM", {"module"}),
        ("mobilenet_v2/MobileNetV2ForImageClassification", {"module"}),
        ("clip_vision_model/CLIPVisionModel", {"module", "older"}),
        ("llava/LlavaForConditionalGeneration", {"module", "published", "older"}),
        ("owlv2/Owlv2Model", {"module", "based"}),  # whose prefix has a number in it
        ("bert/BertForMaskedLM", {"module", "older"}),  # gamma and beta
    ],
)
def test_small_configs_are_named(name: str, ways: set[str], tmp_path: Path) -> None:
    model_type, _, cls = name.partition("/")
    seed = next(n for n in range(9) if ways <= _ways(model_type, cls, n).keys())
    for way, shapes in _ways(model_type, cls, seed).items():
        write_sparse(tmp_path / "model.safetensors", shapes)
        guess = archfind.guess(tmp_path / "model.safetensors")
        assert cls in said(guess)[0], (way, guess.status, said(guess))
        assert "wrong" not in judged(name, guess)


def _ways(
    model_type: str, cls: str, seed: int
) -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    found = drawn(model_type, cls, random.Random(f"{seed} {cls}"))
    assert found is not None
    return dict(written(found[1], random.Random(seed)))


def test_a_text_encoder_as_every_file_on_the_web_has_it(tmp_path: Path) -> None:
    """Today's library writes none of the `text_model.` that the files of the last years have."""
    clip = library.create("clip_text_model/CLIPTextModel", vocab_size=99, **TOWER).eval()
    state = {f"text_model.{key}": value.clone() for key, value in clip.state_dict().items()}
    save_file(state, tmp_path / "clip_l.safetensors")
    guess = archfind.guess(tmp_path / "clip_l.safetensors")
    assert guess.matches[0].entry.name == "CLIPTextModel"
    assert any(step.detail == "text_model.* -> *" for step in guess.canonical.steps)
    heads = {"num_attention_heads": 4}
    loaded = archfind.load(tmp_path / "clip_l.safetensors", choose="CLIPTextModel", settings=heads)
    ids = torch.arange(12)[None] % 90
    with torch.no_grad():
        assert torch.equal(loaded(ids)[0], clip(ids)[0])


def test_a_tower_in_older_names_is_not_only_the_class_that_has_them_today(tmp_path: Path) -> None:
    fields = {**TOWER, "image_size": 30, "patch_size": 2}
    clip = library.create("clip_vision_model/CLIPVisionModel", **fields)
    state = {f"vision_model.{key}": value for key, value in clip.state_dict().items()}
    save_file(state, tmp_path / "tower.safetensors")
    guess = archfind.guess(tmp_path / "tower.safetensors")
    assert guess.status == "ambiguous"
    assert {"CLIPVisionModel", "GitVisionModel", "CLIPSegVisionModel"} <= said(guess)[0]


def test_a_base_network_below_its_prefix_can_be_chosen(tmp_path: Path) -> None:
    fields = {**TOWER, "vocab_size": 99, "num_key_value_heads": 2}
    llama = library.create("llama/LlamaModel", **fields).eval()
    state = {f"model.{key}": value for key, value in llama.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    guess = archfind.guess(tmp_path / "model.safetensors")
    assert guess.matches[0].entry.name == "LlamaForCausalLM" and "LlamaModel" in said(guess)[0]
    chosen = archfind.guess(tmp_path / "model.safetensors", choose="LlamaModel")
    assert chosen.matches[0].entry.name == "LlamaModel" and chosen.matches[0].fits


def test_where_rules_do_not_solve_the_search_is_for_the_class_that_names_say(
    tmp_path: Path,
) -> None:
    torch.manual_seed(2)
    fields = {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 37}
    xlnet = library.create("xlnet/XLNetForQuestionAnsweringSimple", **fields).eval()
    save_file(dict(xlnet.state_dict()), tmp_path / "model.safetensors")
    guess = archfind.guess(tmp_path / "model.safetensors")
    best = guess.matches[0]
    assert guess.status == "close" and best.entry.name == "XLNetForQuestionAnsweringSimple"
    assert best.config["vocab_size"].value == 99 and not best.missing and not best.unexpected
    assert any("rel_attn.q" in one.key for one in best.mismatched)
    loaded = archfind.load(tmp_path / "model.safetensors", accept_ambiguous=True)
    ids = torch.arange(12)[None] % 90
    with torch.no_grad():
        assert torch.equal(loaded(ids)[0], xlnet(ids)[0])


def test_what_older_files_have_more_or_fewer_is_undone() -> None:
    places = (("vision_tower.", "", "vision_model."), ("model.", "model.", ""))
    for key in ("vision_tower.embeddings.weight", "model.model.layers.0.weight", "lm_head.weight"):
        assert renamed_key(older_key(key, places), places) == key
    assert older_key("vision_tower.a", places) == "vision_tower.vision_model.a"
    assert older_key("model.model.a", places) == "model.a"
