"""Classes of transformers that keys and shapes alone don't explain: built until they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import archfind
from archfind.canonical import networks
from archfind.config_probing.complete import completed
from archfind.database import default
from archfind.pretrained.database import beside
from archfind.probing.config import leaves
from archfind.providers import transformers as library
from archfind.search_configured import search_configured


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
    types = beside(default().path)
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
    usual = library.defaults(name.partition("/")[0])
    with pytest.raises(Exception, match=r".+"), torch.device("meta"):
        library.create(name, **usual)
    found = completed(name, usual)
    assert found is not None
    with torch.device("meta"):
        assert library.create(name, **found).state_dict()
    before = leaves(usual)
    assert {p for p, v in leaves(found).items() if before.get(p, ...) != v} == filled


def test_a_search_for_a_named_network_finds_no_other(tmp_path: Path) -> None:
    file = tmp_path / "codec.pth"
    module = encodec(upsampling_ratios=[3, 2, 2], sampling_rate=6000, target_bandwidths=[1.5])
    torch.save(module.state_dict(), file)
    whole = next(iter(networks(archfind.open(file)).values()))
    types = beside(default().path)
    assert types is not None
    assert search_configured(whole, types, "timm/resnet50", 20.0) is None
    found = search_configured(whole, types, "EncodecModel", 20.0)
    assert found is not None
    assert (found.matches[0].entry.name, found.chosen_by) == ("EncodecModel", "user")
