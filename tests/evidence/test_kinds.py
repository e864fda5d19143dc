"""Files that are no networks: each is called what it is, with rank, scale and base, and no network
is named beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import archfind
from archfind.cli import main
from archfind.errors import UnknownError

State = dict[str, torch.Tensor]


def pair(stem: str, down: str, up: str, out: int, ins: int, rank: int = 4) -> State:
    return {f"{stem}{down}": torch.zeros(rank, ins), f"{stem}{up}": torch.zeros(out, rank)}


def kohya(context: int, alpha: float = 2.0, dtype: torch.dtype = torch.float16) -> State:
    """A UNet's and a text encoder's layers, as sd-scripts writes them."""
    state: State = {}
    unet = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
    places = {f"{unet}attn1_to_q": (320, 320), f"{unet}attn2_to_k": (320, context)}
    places["lora_te_text_model_encoder_layers_0_self_attn_q_proj"] = (768, 768)
    for stem, (out, ins) in places.items():
        state |= pair(stem, ".lora_down.weight", ".lora_up.weight", out, ins)
        state[f"{stem}.alpha"] = torch.tensor(alpha)
    return {key: value.to(dtype) for key, value in state.items()}


def llama(end: str = ".weight", width: int = 256) -> State:
    state: State = {}
    for layer in range(3):
        stem = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        state |= pair(stem, f".lora_A{end}", f".lora_B{end}", width, width)
    return state


UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn2."
ADAPTERS: dict[str, tuple[State, str, str]] = {
    "kohya, SD 1": (kohya(768), "a LoRA adapter (kohya), rank 4, alpha 2",
                    "a Stable Diffusion 1.x (1.5) UNet and text encoder"),
    "kohya, SD 2": (kohya(1024), "a LoRA adapter (kohya)", "a Stable Diffusion 2.x UNet"),
    "kohya, SDXL": (kohya(2048), "a LoRA adapter (kohya)", "an SDXL UNet"),
    "kohya, bfloat16": (kohya(768, 3.0, torch.bfloat16), "rank 4, alpha 3", "Stable Diffusion 1"),
    "diffusers": (pair(f"unet.{UNET}to_k", ".lora.down.weight", ".lora.up.weight", 640, 768),
                  "a LoRA adapter (diffusers), rank 4", "a Stable Diffusion 1.x (1.5) UNet"),
    "diffusers, PEFT's keys": (
        pair(f"unet.{UNET}to_k", ".lora_A.weight", ".lora_B.weight", 640, 2048),
        "a LoRA adapter (diffusers), rank 4", "an SDXL UNet"),
    "diffusers, old": (
        pair(f"unet.{UNET}processor.to_k", "_lora.down.weight", "_lora.up.weight", 640, 768),
        "a LoRA adapter (diffusers, attention processors), rank 4", "a diffusion UNet"),
    "Flux": (pair("transformer.single_transformer_blocks.0.attn.to_q", ".lora_A.weight",
                  ".lora_B.weight", 3072, 3072), "rank 4", "a Flux transformer"),
    "PEFT": (llama(), "a LoRA adapter (PEFT), rank 4", "a Llama-like language model of width 256"),
    "PEFT, named": (llama(".default.weight"), "a LoRA adapter (PEFT)", "of width 256"),
    "DoRA": (llama() | {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector":
                        torch.zeros(256)}, "a DoRA adapter (PEFT)", "Llama-like"),
    "AdaLoRA": (llama("") | {"base_model.model.model.layers.0.self_attn.q_proj.lora_E":
                             torch.zeros(4, 1)}, "an AdaLoRA adapter (PEFT), rank 4", "Llama-like"),
    "LoHa": ({f"lora_unet_mid_block_attentions_0_proj_in.hada_{n}": torch.zeros(s) for n, s in
              {"w1_a": (64, 4), "w1_b": (4, 64), "w2_a": (64, 4), "w2_b": (4, 64)}.items()},
             "a LoHa adapter (LyCORIS), rank 4", "a diffusion UNet"),
    "LoKr": ({f"lora_unet_mid_block_attentions_0_proj_in.lokr_{n}": torch.zeros(s) for n, s in
              {"w1": (8, 8), "w2_a": (8, 6), "w2_b": (6, 8)}.items()},
             "a LoKr adapter (LyCORIS), rank 6", "a diffusion UNet"),
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_says_whose_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, words, base = ADAPTERS[name]
    save_file(state, tmp_path / "x.safetensors")
    assert main(["guess", str(tmp_path / "x.safetensors")]) == 1
    first, *rest = capsys.readouterr().out.splitlines()
    assert words in first and base in first and first.endswith(f"; {len(state)} tensors")
    assert not any("nearest" in line for line in rest)
    assert main(["guess", "--json", str(tmp_path / "x.safetensors")]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["tensors"]) == ("lora", len(state))
    assert document["candidates"] == [] and document["details"]["rank"] in ([4], [6])


@pytest.mark.parametrize(
    ("beside", "can"),
    [((), True), (("lora_E",), False), (("lora_magnitude_vector",), False), (("diff_b",), False)],
)
def test_merging_is_offered_where_nothing_is_lost_by_it(
    beside: tuple[str, ...], can: bool, tmp_path: Path
) -> None:
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    state = llama() | {f"{stem}.{name}": torch.zeros(4, 1) for name in beside}
    save_file(state, tmp_path / "x.safetensors")
    kind = archfind.guess(tmp_path / "x.safetensors").kind
    assert kind is not None and ("merge it" in kind.advice) == can


def test_an_adapter_with_a_head_of_its_own_is_one(tmp_path: Path) -> None:
    state = llama() | {"base_model.model.score.weight": torch.zeros(3, 256)}
    save_file(state, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"r": 4, "lora_alpha": 16, "base_model_name_or_path": "Qwen/Qwen2.5-0.5B"})
    )
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        kind = archfind.guess(path).kind
        assert kind is not None and kind.name == "lora"
        assert kind.details["alpha"] == [16] and kind.details["rank"] == [4]
        assert kind.details["base_claimed"] == "Qwen/Qwen2.5-0.5B"
        assert kind.details["whole_tensors"] == ["base_model.model.score.weight"]
    with pytest.raises(UnknownError, match="LoRA adapter"):
        archfind.load(tmp_path)


@pytest.mark.parametrize("kept", [".lora_A.", ".lora_B."])
def test_half_of_an_adapter_is_told_as_such(kept: str, tmp_path: Path) -> None:
    save_file({k: t for k, t in llama().items() if kept in k}, tmp_path / "x.safetensors")
    kind = archfind.guess(tmp_path / "x.safetensors").kind
    assert kind is not None and kind.words.startswith("a LoRA adapter (PEFT), rank 4")
    assert "half of an adapter" in kind.advice and kind.details["whole_tensors"] == []


def test_a_network_that_holds_adapters_is_none(tmp_path: Path) -> None:
    state: State = {}
    for n in range(4):
        stem = f"blocks.{n}.fc"
        state |= pair(stem, ".lora_A.weight", ".lora_B.weight", 16, 16)
        state[f"{stem}.base_layer.weight"] = torch.zeros(16, 16)
    torch.save(state, tmp_path / "x.pth")
    assert archfind.guess(tmp_path / "x.pth").kind is None


def control(prefix: str, context: int) -> State:
    return {
        f"{prefix}input_hint_block.0.weight": torch.zeros(16, 3, 3, 3),
        f"{prefix}zero_convs.0.0.weight": torch.zeros(320, 320, 1, 1),
        f"{prefix}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(
            320, context
        ),
        f"{prefix}middle_block_out.0.weight": torch.zeros(1280, 1280, 1, 1),
    }


IP = {
    "image_proj": {"proj.weight": torch.zeros(3072, 1024), "norm.weight": torch.zeros(768)},
    "ip_adapter": {f"{n}.to_{w}_ip.weight": torch.zeros(320, 768) for n in (1, 3) for w in "kv"},
}
T2I = {"conv_in.weight": torch.zeros(320, 192, 3, 3)} | {
    f"body.{n}.block{m}.weight": torch.zeros(320, 320, 3, 3) for n in range(2) for m in (1, 2)
}
MLP = {f"linear.{n}.{x}": torch.zeros(*s) for n, *shapes in
       [(0, (1536, 768), (1536,)), (1, (768, 1536), (768,))]
       for x, s in zip(("weight", "bias"), shapes, strict=True)}  # fmt: skip
OTHERS: dict[str, tuple[object, str, str]] = {
    "emb_params": ({"emb_params": torch.zeros(3, 768)}, "textual-inversion",
                   "3 vectors of width 768, for Stable Diffusion 1.x"),
    "string_to_param": ({"string_to_token": {"*": 265}, "name": "style",
                         "string_to_param": {"*": torch.zeros(2, 1024)}}, "textual-inversion",
                        "2 vectors of width 1024, for Stable Diffusion 2.x"),
    "token": ({"<cat-toy>": torch.zeros(768)}, "textual-inversion", "1 vector of width 768"),
    "SDXL": ({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)}, "textual-inversion",
             "for SDXL"),
    "prompt tuning": ({"prompt_embeddings": torch.zeros(20, 1024)}, "soft-prompt",
                      "a soft prompt (PEFT: prompt or prefix tuning), 20 vectors of width 1024"),
    "hypernetwork": ({768: [MLP, MLP], "step": 9, "name": "style"}, "hypernetwork",
                     "of widths 768, for Stable Diffusion 1.x"),
    "OFT": ({f"base_model.model.layers.{n}.self_attn.q_proj.oft_R.weight": torch.zeros(8, 496)
             for n in range(2)}, "lora", "an OFT adapter (PEFT), of a Llama-like language model"),
    "BOFT": ({f"base_model.model.h.{n}.attn.c_attn.boft_{x}": torch.zeros(1, 8, 4, 4)
              for n in range(2) for x in "Rs"}, "lora", "a BOFT adapter (PEFT), of a GPT-2"),
    "VeRA": ({"base_model.model.layers.0.self_attn.q_proj.vera_lambda_b": torch.zeros(9),
              "base_model.vera_A": torch.zeros(4, 9), "base_model.vera_B": torch.zeros(9, 4)},
             "lora", "a VeRA adapter (PEFT), of a Llama-like language model"),
    "Control-LoRA": ({"lora_controlnet": torch.zeros(0)} | control("", 2048), "controlnet",
                     "a Control-LoRA, for SDXL"),
    "IP-Adapter": (IP, "ip-adapter", "an IP-Adapter, for Stable Diffusion 1.x"),
    "T2I-Adapter": (T2I, "t2i-adapter", "a T2I-Adapter, 3 channels of hints"),
    "ControlNet": (control("control_model.", 768), "controlnet", "for Stable Diffusion 1.x"),
    "ControlNet, SDXL": (control("", 2048), "controlnet", "for SDXL"),
    "optimizer": ({"state": {0: {"exp_avg": torch.zeros(3, 2), "exp_avg_sq": torch.zeros(3, 2),
                                 "step": torch.tensor(5.0)}},
                   "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}]},
                  "optimizer", "moments of the weights, which aren't in the file"),
    "FSDP": ({"_flat_param": torch.zeros(90), "layers.0._flat_param": torch.zeros(40)},
             "fsdp-shard", "one rank's shard"),
    "averages": ({"decay": 0.9, "shadow_params": [torch.zeros(4, 3), torch.zeros(4)]}, "averaged",
                 "without names"),
    "gradients": ({"fc.weight.grad": torch.zeros(3, 2), "fc.bias.grad": torch.zeros(3)},
                  "gradients", "gradients"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_network_is_called_what_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, kind, words = OTHERS[name]
    torch.save(content, tmp_path / "x.pt")
    assert main(["guess", "--json", str(tmp_path / "x.pt")]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["candidates"]) == (kind, [])
    assert words in document["described"]
    assert document["tensors"] == len(archfind.open(tmp_path / "x.pt").index)
    assert main(["repair", str(tmp_path / "x.pt")]) == 1
    assert "no network" in capsys.readouterr().out


def test_a_training_file_is_no_optimizer(tmp_path: Path) -> None:
    """Its network comes first, however many moments are beside."""
    net = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Linear(9, 2))
    adam = torch.optim.Adam(net.parameters())
    net(torch.zeros(1, 6)).sum().backward()
    adam.step()
    whole = {"model": net.state_dict(), "optimizer": adam.state_dict(), "epoch": 3}
    torch.save(whole, tmp_path / "x.pt")
    found = archfind.guess(tmp_path / "x.pt")
    assert found.kind is None and not any("moments" in text for text in found.warnings)


def test_what_a_script_was_told_is_no_network(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Linear(9, 2))
    told = {"lr": 0.1, "weights": torch.ones(2), "net": net.state_dict()}
    whole = {"state_dict": net.state_dict(), "hyper_parameters": told}
    torch.save(whole, tmp_path / "x.ckpt")
    found = archfind.guess(tmp_path / "x.ckpt")
    assert not found.parts and len(found.canonical.index) == 4


def test_objects_of_other_libraries_are_named(tmp_path: Path) -> None:
    """A label encoder, pickled by itself or by joblib, which puts bytes between the opcodes."""
    joblib = pytest.importorskip("joblib")
    encoders = pytest.importorskip("sklearn.preprocessing")
    import pickle

    encoder = encoders.LabelEncoder().fit(["cat", "dog"])
    with (tmp_path / "label_encoder.pkl").open("wb") as file:
        pickle.dump(encoder, file)
    joblib.dump(encoder, tmp_path / "joblib.pkl")
    for name in ("label_encoder.pkl", "joblib.pkl"):
        with pytest.raises(archfind.CheckpointError, match="LabelEncoder") as caught:
            archfind.open(tmp_path / name)
        assert "damaged" not in str(caught.value)
    with (tmp_path / "numbers.pkl").open("wb") as file:
        pickle.dump(encoders.LabelEncoder().fit([3, 1]), file)
    kind = archfind.guess(tmp_path / "numbers.pkl").kind
    assert kind is not None and kind.name == "object" and "LabelEncoder" in kind.words


def test_resources_of_a_package_need_no_suffix(tmp_path: Path) -> None:
    from torch import package

    with package.PackageExporter(str(tmp_path / "x.pt")) as exporter:
        exporter.extern("torch.**")
        exporter.save_pickle("tts_models", "model", torch.nn.Linear(5, 3))
    assert sorted(archfind.open(tmp_path / "x.pt").index) == ["bias", "weight"]
