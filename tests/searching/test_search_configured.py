"""Classes of transformers that keys and shapes alone don't explain: built until they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import archfind
from archfind.database.entries import default
from archfind.database.model_types import model_types_beside
from archfind.learning.configs.complete import completed_config
from archfind.probing.config import leaves_of_config
from archfind.probing.probe import shapes_of
from archfind.providers import transformers as library
from archfind.searching.config_attempt import _filled, _Own  # pyright: ignore[reportPrivateUsage]
from archfind.searching.config_search import search_configured
from archfind.state_dicts.canonical import networks


def encodec(**fields: Any) -> nn.Module:
    config = transformers.EncodecConfig(
        num_filters=4, hidden_size=16, codebook_size=8, codebook_dim=16, **fields
    )
    return transformers.EncodecModel(config).eval()


@pytest.mark.parametrize("ratios", [[4, 2], [3, 2, 2]])
def test_a_codec_of_other_strides_loads_and_gives_the_same(
    ratios: list[int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = encodec(upsampling_ratios=ratios, sampling_rate=6000, target_bandwidths=[1.5])
    file = tmp_path / "codec.pth"
    torch.save(module.state_dict(), file)
    loaded = archfind.load(file, settings={"sampling_rate": 6000, "target_bandwidths": [1.5]})
    sound = torch.randn(1, 1, 960)
    with torch.no_grad():
        expected = module.encoder(sound)  # pyright: ignore
        assert torch.equal(loaded.encoder(sound), expected)  # pyright: ignore


def test_nothing_is_found_for_a_network_that_the_class_cannot_make(tmp_path: Path) -> None:
    state = encodec(upsampling_ratios=[4, 2]).state_dict()
    key = next(k for k, t in state.items() if t.dim() == 3)
    state[key] = torch.zeros(3, 5, 9)  # unlike its neighbours' sizes
    file = tmp_path / "odd.pth"
    torch.save(state, file)
    whole = next(iter(networks(archfind.open(file)).values()))
    types = model_types_beside(default().path)
    assert types is not None
    assert search_configured(whole, types, "", 4.0) is None


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("informer/InformerModel", {"prediction_length"}),
        ("dbrx/DbrxModel", {"attn_config.rope_theta"}),
        ("aya_vision/AyaVisionModel", {"vision_config.num_attention_heads"}),
    ],
)
def test_a_default_config_that_lacks_something_is_completed(name: str, filled: set[str]) -> None:
    usual = library.default_config(name.partition("/")[0])
    with pytest.raises(Exception, match=r".+"), torch.device("meta"):
        library.create(name, **usual)
    found = completed_config(name, usual)
    assert found is not None
    with torch.device("meta"):
        assert library.create(name, **found).state_dict()
    before = leaves_of_config(usual)
    assert {p for p, v in leaves_of_config(found).items() if before.get(p, ...) != v} == filled


def test_a_search_for_a_named_network_finds_no_other(tmp_path: Path) -> None:
    file = tmp_path / "codec.pth"
    module = encodec(upsampling_ratios=[3, 2, 2], sampling_rate=6000, target_bandwidths=[1.5])
    torch.save(module.state_dict(), file)
    whole = next(iter(networks(archfind.open(file)).values()))
    types = model_types_beside(default().path)
    assert types is not None
    assert search_configured(whole, types, "timm/resnet50", 20.0) is None
    found = search_configured(whole, types, "EncodecModel", 20.0)
    assert found is not None
    assert (found.matches[0].entry.name, found.chosen_by) == ("EncodecModel", "user")


def written(module: nn.Module, file: Path, published: bool = False) -> Path:
    state = module.state_dict()
    torch.save(dict(library.published(module, state)) if published else state, file)
    return file


def test_sizes_of_one_name_in_two_configs_move_together(tmp_path: Path) -> None:
    config = transformers.CanaryConfig(
        vocab_size=96,
        encoder_config={
            "model_type": "parakeet_encoder",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_mel_bins": 16,
            "subsampling_conv_channels": 8,
        },
        decoder_config={
            "vocab_size": 96,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "intermediate_size": 40,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
    )
    torch.manual_seed(0)
    module = transformers.CanaryForConditionalGeneration(config).eval()
    loaded = archfind.load(written(module, tmp_path / "canary.pth"), choose="canary")
    assert loaded.config.vocab_size == loaded.config.decoder_config.vocab_size == 96  # pyright: ignore
    state = module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_what_a_width_is_divided_by_gives_way_for_all_widths(tmp_path: Path) -> None:
    config = transformers.BitConfig(
        embedding_size=24, hidden_sizes=[48, 96, 160], depths=[1, 2, 1], num_groups=4
    )
    torch.manual_seed(0)
    module = transformers.BitModel(config).eval()
    loaded = archfind.load(written(module, tmp_path / "bit.pth"))
    assert loaded.config.hidden_sizes[:3] == [48, 96, 160]  # pyright: ignore
    assert {*loaded.state_dict()} == {*module.state_dict()}
    assert loaded.config.num_groups != transformers.BitConfig().num_groups  # pyright: ignore


def test_published_keys_are_searched_by_the_class_itself(tmp_path: Path) -> None:
    config = transformers.YolosConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_detection_tokens=7,
        image_size=[96, 120],
    )
    module = transformers.YolosModel(config)
    file = written(module, tmp_path / "yolos.pth", published=True)
    found = archfind.guess(file, search=True)
    match = found.matches[0]
    assert found.is_assumed and match.entry.name == "YolosModel"
    assert match.config["use_mid_position_embeddings"].value is True
    assert {*archfind.load(file).state_dict()} == {*module.state_dict()}


def test_fields_that_the_library_refuses_are_mended_as_the_network_is_built(
    tmp_path: Path,
) -> None:
    config = transformers.Mamba2Config(
        vocab_size=64,
        hidden_size=48,
        state_size=16,
        num_hidden_layers=2,
        head_dim=12,
        num_heads=8,
        n_groups=2,
        chunk_size=8,
    )
    torch.manual_seed(0)
    module = transformers.Mamba2ForCausalLM(config).eval()
    file = written(module, tmp_path / "mamba.pth")
    found = archfind.guess(file)
    assert found.is_named
    loaded = archfind.load(found)
    own = loaded.config  # pyright: ignore
    assert own.hidden_size * own.expand == own.num_heads * own.head_dim  # pyright: ignore
    state = module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_every_network_named_as_fitting_is_built_with_the_tensors(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=88,
        hidden_size=48,
        intermediate_size=104,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
    )
    module = transformers.LlamaForCausalLM(config)
    file = written(module, tmp_path / "decoder.pth")
    guess = archfind.guess(file)
    named = [guess.matches[0].entry.name, *(twin.architecture for twin in guess.matches[0].twins)]
    assert len(named) > 8
    expected = {key: tensor.shape for key, tensor in module.state_dict().items()}
    for name in named:
        loaded = archfind.load(file, choose=f"transformers/{name}")
        assert type(loaded).__name__ == name
        assert {key: tensor.shape for key, tensor in loaded.state_dict().items()} == expected


def test_a_wrapper_of_a_known_network_is_named_beside_it(tmp_path: Path) -> None:
    config = transformers.TimmWrapperConfig(architecture="resnet50")
    with torch.device("meta"):
        module = transformers.TimmWrapperForImageClassification(config)
    state = {
        k: torch.zeros((), dtype=t.dtype).expand(t.shape) for k, t in module.state_dict().items()
    }
    file = tmp_path / "wrapped.pth"
    torch.save(state, file)
    found = archfind.guess(file)
    assert found.matches[0].entry.name == "resnet50"
    twin = next(t for t in found.matches[0].twins if t.provider == "transformers")
    assert (twin.architecture, twin.same_function) == ("TimmWrapperForImageClassification", True)
    chosen = archfind.guess(file, choose="transformers/TimmWrapperForImageClassification")
    assert (chosen.matches[0].entry.name, chosen.chosen_by) == (twin.architecture, "user")


def test_a_number_that_is_refused_alone_moves_with_what_must_give_way(tmp_path: Path) -> None:
    config = transformers.XLNetConfig(vocab_size=50, d_model=192, n_layer=2, n_head=16, d_inner=48)
    torch.manual_seed(0)
    module = transformers.XLNetLMHeadModel(config).eval()
    loaded = archfind.load(written(module, tmp_path / "xlnet.pth"))
    own = loaded.config  # pyright: ignore
    assert (own.n_head, own.d_head) == (16, 12)  # pyright: ignore
    state = module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_what_a_config_does_not_declare_is_part_of_the_start() -> None:
    base = {"width": 8, "inner": {"depth": 2}, "sizes": [1, 2]}
    values = {"width": 16, "inner.shared": 37, "inner.deeper.size": 3, "sizes.#": 2, "sizes.0": 1}
    assert _filled(base, values) == {
        "width": 8,
        "inner": {"depth": 2, "shared": 37},
        "sizes": [1, 2],
    }
    assert base["inner"] == {"depth": 2}


def test_a_class_with_what_the_named_one_never_has_is_tried(tmp_path: Path) -> None:
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        qkv_bias=False,
        apply_layernorm=False,
    )
    torch.manual_seed(0)
    module = transformers.Dinov2WithRegistersBackbone(config).eval()
    loaded = archfind.load(
        written(module, tmp_path / "towers.pth", published=True), accept_ambiguous=True
    )
    assert "embeddings.register_tokens" in loaded.state_dict()
    state = module.state_dict()
    assert {*loaded.state_dict()} == {*state}


def test_a_class_that_is_nearly_as_like_is_tried_where_the_named_one_fails(tmp_path: Path) -> None:
    fields = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "attention_bias": True,
    }
    torch.manual_seed(0)
    made: Any = library.classes("mimi_encoder")["MimiEncoderModel"]
    module = made(library.config_of("mimi_encoder", fields)).eval()
    file = written(module, tmp_path / "codec.pth")
    assert archfind.guess(file).matches[0].entry.name != "MimiEncoderModel"
    assert archfind.guess(file, search=True).matches[0].entry.name == "MimiEncoderModel"


class Heads(nn.Module):
    """A head for each layer, or one for all of them, which a file has once."""

    def __init__(self, layers: int = 3, shared: bool = False) -> None:
        super().__init__()
        heads = [nn.Linear(4, 4) for _ in range(layers)]
        self.heads = nn.ModuleList(heads[:1] * layers if shared else heads)
        own = [f"heads.{n}.{name}" for n in range(1, layers) for name in ("weight", "bias")]
        one = {key: f"heads.0.{key.rpartition('.')[2]}" for key in own}
        self.all_tied_weights_keys = one if shared else {}


@pytest.mark.parametrize("layers", [2, 5])
def test_what_a_switch_ties_may_be_missing(layers: int) -> None:
    shapes = shapes_of(Heads(layers))
    target = {key: spec for key, spec in shapes.items() if ".0." in key}
    descent = _Own(Heads, {"layers": layers, "shared": False}, target, {})
    assert descent.cost
    assert descent.run(20.0)
    assert descent.moves in ({"shared": True}, {"layers": 1})
    assert descent.tried({"shared": True}) == 0
