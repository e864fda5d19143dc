"""transformers' classes from keys and shapes: class, config, twins, ties, folders."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

import archfind
from archfind.classes.blocks import pattern
from archfind.database.compile_model_types import compile_types, read_presets, read_types
from archfind.database.entries import signatures_folder
from archfind.matching.readings import dialect_readings
from archfind.providers import transformers as library
from archfind.state_dicts.canonical import networks
from archfind.types import Guess

FOLDER = Path(signatures_folder())


def benchmark(name: str):  # the same cases as the whole sweep's
    place = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file without the config.json beside it."""
    place = tmp_path_factory.mktemp("alone") / "pytorch_model.safetensors"
    shutil.copy(minilm, place)
    return place


def same_outputs(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ids = torch.arange(100, 120)[None] % 90
    with torch.no_grad():
        left, right = one(ids)[0], other(ids)[0]
    return torch.equal(left, right)


def test_minilm_without_its_config(alone: Path, minilm: Path) -> None:
    guess = archfind.guess(alone)
    match = guess.matches[0]
    assert (guess.status, match.entry.name) == ("exact", "BertModel")
    assert match.pretrained is not None and match.pretrained.model_type == "bert"
    config = match.config
    for name, value in {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1536,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    }.items():
        assert (config[name].value, config[name].source) == (value, "shape")
    # No tensor shows the heads: they are the public model's, and said to be.
    assert (config["num_attention_heads"].value, config["num_attention_heads"].source) == (
        12,
        "preset",
    )
    assert match.tolerated == ("embeddings.position_ids",)
    assert any("position_ids" in line for line in guess.warnings)
    assert {twin.architecture for twin in match.twins} >= {"RobertaModel", "XLMRobertaModel"}
    reference = transformers.AutoModel.from_pretrained(minilm.parent).eval()
    assert same_outputs(archfind.load(alone), reference)


def test_a_folder_that_from_pretrained_opens(alone: Path, minilm: Path, tmp_path: Path) -> None:
    done = archfind.export(alone, tmp_path / "out")
    assert "generation" in done.notes["left out"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    opened = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    reference = transformers.AutoModel.from_pretrained(minilm.parent).eval()
    assert same_outputs(opened, reference)
    with pytest.raises(archfind.ExportError, match="exists"):
        archfind.export(alone, tmp_path / "out")


def test_claims_are_used_and_the_tensors_win(alone: Path, tmp_path: Path) -> None:
    shutil.copy(alone, tmp_path / "model.safetensors")
    claims = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "num_attention_heads": 6,
        "hidden_size": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(claims))
    guess = archfind.guess(tmp_path / "model.safetensors")
    config = guess.matches[0].config
    assert (config["num_attention_heads"].value, config["num_attention_heads"].source) == (
        6,
        "file",
    )
    assert config["hidden_size"].value == 384
    assert any("hidden_size=512" in line for line in guess.warnings)


SMALL = {
    "bert/BertForSequenceClassification": {
        "vocab_size": 96,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 80,
        "num_labels": 7,
    },
    "gpt2/GPT2LMHeadModel": {"vocab_size": 97, "n_embd": 40, "n_layer": 3, "n_head": 5},
    "llama/LlamaForCausalLM": {
        "vocab_size": 99,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 72,
    },
    "mixtral/MixtralForCausalLM": {
        "vocab_size": 99,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 56,
        "num_local_experts": 3,
    },
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dialect", ["module", "published"])
def test_small_networks_come_back(name: str, dialect: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    fields = SMALL[name]
    model = library.create(name, **fields).eval()
    place = tmp_path / ("model.pth" if dialect == "module" else "model.safetensors")
    if dialect == "module":
        torch.save(model.state_dict(), place)
    else:
        model.save_pretrained(tmp_path)
        (tmp_path / "config.json").unlink()
    match = archfind.guess(place).matches[0]
    names = {match.entry.name, *(twin.architecture for twin in match.twins)}
    assert match.fits and name.partition("/")[2] in names
    # What no tensor shows is given; the rest was found.
    hidden = {k: v for k, v in fields.items() if k.endswith("head") or k.endswith("heads")}
    hidden |= {"head_dim": 16} if "num_key_value_heads" in fields else {}
    loaded = archfind.load(place, choose=name.partition("/")[2], settings=hidden)
    assert same_outputs(loaded, model)
    for field, value in fields.items():
        if field not in hidden:
            assert match.config[field].value == value, field


def test_a_head_that_was_saved_apart_stays_apart(tmp_path: Path) -> None:
    model = library.create("gpt2/GPT2LMHeadModel", **SMALL["gpt2/GPT2LMHeadModel"]).eval()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state["lm_head.weight"] = torch.randn_like(state["lm_head.weight"])
    save_file(state, tmp_path / "untied.safetensors")
    loaded = archfind.load(tmp_path / "untied.safetensors", choose="GPT2LMHeadModel")
    own = loaded.state_dict()
    assert torch.equal(own["lm_head.weight"], state["lm_head.weight"])
    assert torch.equal(own["transformer.wte.weight"], state["transformer.wte.weight"])


def test_names_that_tensorflow_gave(alone: Path, tmp_path: Path) -> None:
    model = archfind.load(alone)
    state = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for key, tensor in model.state_dict().items()
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    guess = archfind.guess(tmp_path / "pytorch_model.bin")
    assert (guess.status, guess.matches[0].entry.name) == ("exact", "BertModel")
    assert ("rename", "gamma, beta -> weight, bias") in [
        (step.kind, step.detail) for step in guess.canonical.steps
    ]
    assert same_outputs(archfind.load(tmp_path / "pytorch_model.bin"), model)


def test_a_scale_called_gamma_stays_beside_weight_norm(tmp_path: Path) -> None:
    file = tmp_path / "codec.pth"
    names = ("conv.weight_g", "conv.weight_v", "block.gamma", "block.norm.beta")
    torch.save({name: torch.ones(2, 2) for name in names}, file)
    keys = [
        set(one.index)
        for one in dialect_readings(next(iter(networks(archfind.open(file)).values())))
    ]
    weights = {f"conv.parametrizations.weight.original{n}" for n in (0, 1)}
    assert weights | {"block.gamma", "block.norm.beta"} in keys
    assert weights | {"block.weight", "block.norm.bias"} in keys
    assert {*names} in keys


def test_a_text_model_of_another_type_is_named_where_a_head_is_missing(tmp_path: Path) -> None:
    config = transformers.Qwen2_5_VLTextConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    state = transformers.Qwen2_5_VLTextModel(config).state_dict()
    file = tmp_path / "tower.pth"
    torch.save({f"model.{key}": tensor for key, tensor in state.items()}, file)
    guess = archfind.guess(file)
    assert guess.status == "ambiguous"
    assert "Qwen2_5_VLTextModel" in {twin.architecture for twin in guess.matches[0].twins}
    loaded = archfind.load(file, choose="transformers/Qwen2_5_VLTextModel", accept_ambiguous=True)
    assert {*loaded.state_dict()} == {*state}


def test_a_pooler_may_be_missing(alone: Path, tmp_path: Path) -> None:
    model = archfind.load(alone)
    state = {k: t for k, t in model.state_dict().items() if not k.startswith("pooler")}
    torch.save(state, tmp_path / "headless.pth")
    match = archfind.guess(tmp_path / "headless.pth").matches[0]
    assert match.fits and match.config["init.add_pooling_layer"].value is False


def test_real_sizes_from_headers(tmp_path: Path) -> None:
    sizes = benchmark("configured_sizes")
    wanted = {
        "llama": ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.2-1B"),
        "gpt2": ("openai-community/gpt2-xl",),
        "vit": ("google/vit-large-patch16-224",),
        "mixtral": ("mistralai/Mixtral-8x7B-v0.1",),
        "clip": ("openai/clip-vit-large-patch14",),
    }
    presets = read_presets(FOLDER / "presets")
    for model_type, names in wanted.items():
        for name in names:
            fields = presets[model_type][name]
            place = tmp_path / "model.safetensors"
            assert sizes.case(name, model_type, fields, place) == ("", True), name


def test_presets_are_many_and_of_known_types() -> None:
    presets = read_presets(FOLDER / "presets")
    assert sum(map(len, presets.values())) >= 150
    assert set(presets) <= set(library.type_names())


def test_the_compiled_types_are_what_the_text_says() -> None:
    assert compile_types(FOLDER) == (FOLDER / "configured.bin").read_bytes()


def test_every_line_that_a_class_leaves_out_is_one_of_what_it_holds() -> None:
    for found, _ in read_types(FOLDER / "transformers" / "types"):
        for like in (like for block in found.blocks for like in block.likes):
            gone = {*like.without} - {pattern(line) for line in like.block.flat()}
            assert not gone, f"{found.name}: {gone}; learn it again"


def test_every_text_comes_back_from_its_own_parse() -> None:
    for found, version in read_types(FOLDER / "transformers" / "types"):
        text = (FOLDER / "transformers" / "types" / f"{found.name}.txt").read_text()
        assert text == f"# transformers {version}\n\n{found.text()}"


def test_without_the_library_the_class_is_named_and_load_says_what_to_install(
    alone: Path,
) -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import archfind\n"
        "print(archfind.guess(sys.argv[1]).matches[0].entry.name)\n"
        "try: archfind.load(sys.argv[1])\n"
        "except archfind.BuildError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(alone)], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == "BertModel" and "pip install 'archfind[transformers]'" in second


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            ["base_model.model.q_proj.lora_A.weight", "base_model.model.q_proj.lora_B.weight"],
            "LoRA",
        ),
        (["model-00002-of-00005"], "shard 2 of 5"),
    ],
)
def test_what_is_no_network_is_said(keys: list[str], words: str, tmp_path: Path) -> None:
    name = keys[0] if "-of-" in keys[0] else "adapter_model"
    place = tmp_path / f"{name}.safetensors"
    save_file({f"layers.{n}.{key}": torch.zeros(4, 8) for n, key in enumerate(keys)}, place)
    guess: Guess = archfind.guess(place)
    assert guess.status in ("unknown", "close")
    said = [*guess.warnings, guess.kind.words if guess.kind is not None else ""]
    assert any(words in line for line in said)
