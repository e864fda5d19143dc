"""Repairs: what plans say, that they survive JSON, and that what they write loads and computes the
same; adapters and packed weights; what is refused."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path

import pytest
import repair_sweep
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import archfind
from archfind.cli import main
from archfind.errors import ArchfindError, RepairError
from archfind.providers import provider
from archfind.repair import Edit, Plan
from archfind.repair.kinds import resized_table
from archfind.values.quantised import dequantised

VIT, RESNET = "timm/test_vit", "timm/test_resnet"


@pytest.mark.parametrize("damage", repair_sweep.FIXABLE, ids=lambda d: d.__name__)
def test_a_damage_is_undone(damage, tmp_path: Path) -> None:  # pyright: ignore
    draw = random.Random(3)
    for name in (VIT, RESNET):
        module = repair_sweep.lively(name, 1)
        state = module.state_dict()
        damaged = damage(dict(state), draw, module)
        if not repair_sweep.changed(state, damaged):
            continue
        good, word = repair_sweep.attempt(
            damaged, tmp_path / "in.pth", tmp_path / "out.pth", name, module
        )
        assert good, (name, word)


def test_square_kernels_of_one_pixel_turn_with_the_others(tmp_path: Path) -> None:
    """[1, 1, n, n] becomes [n, n, 1, 1] by dropping its ones, too, and computes another thing."""
    name = "torchvision/shufflenet_v2_x0_5"
    module = repair_sweep.lively(name, 3)
    damaged = repair_sweep.transposed_convs(module.state_dict(), random.Random(0), module)
    paths = tmp_path / "in.pth", tmp_path / "out.pth"
    good, word = repair_sweep.attempt(damaged, *paths, name, module)
    assert good, word


@pytest.mark.parametrize("damage", repair_sweep.UNFIXABLE, ids=lambda d: d.__name__)
def test_what_would_have_to_be_invented_is_refused(damage, tmp_path: Path) -> None:  # pyright: ignore
    module = repair_sweep.lively(RESNET, 1)
    damaged = damage(dict(module.state_dict()), random.Random(3), module)
    torch.save(damaged, tmp_path / "in.pth")
    plan = archfind.repair.plan(tmp_path / "in.pth")
    with pytest.raises(RepairError):
        archfind.repair.apply(plan, tmp_path / "out.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["in.pth"]


def test_a_missing_tensor_is_filled_on_request_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = provider("timm").create("test_resnet").state_dict()
    del state["fc.bias"]
    torch.save(state, tmp_path / "in.pth")
    out = tmp_path / "out.safetensors"
    assert main(["repair", str(tmp_path / "in.pth")]) == 1
    shown = capsys.readouterr().out
    assert "fill       fc.bias" in shown and "needs --allow-fill" in shown
    assert main(["repair", str(tmp_path / "in.pth"), "-o", str(out)]) == 2
    assert not out.exists()
    assert main(["repair", str(tmp_path / "in.pth"), "-o", str(out), "--allow-fill"]) == 0
    found = archfind.load(out).state_dict()
    assert not found["fc.bias"].any()
    assert torch.equal(found["fc.weight"], state["fc.weight"])
    assert main(["repair", str(tmp_path / "in.pth"), "-o", str(out), "--allow-fill"]) == 2


def test_a_plan_can_be_edited_and_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = provider("timm").create("test_resnet").state_dict()
    stem = "conv1.0."
    moved = {("my_" + k if k.startswith(stem) else k): value for k, value in state.items()}
    moved = {"module." + key: value for key, value in moved.items()}
    torch.save({"state_dict": moved}, tmp_path / "in.pth")
    assert main(["repair", "--json", str(tmp_path / "in.pth")]) == 0
    document = json.loads(capsys.readouterr().out)
    kinds = [edit["kind"] for edit in document["edits"]]
    assert kinds[0] == "unwrap" and "rename" in kinds
    assert all(edit["lossless"] for edit in document["edits"])
    document["edits"].append({"kind": "cast", "keys": ["fc.*"], "options": {"dtype": "float16"}})
    (tmp_path / "plan.json").write_text(json.dumps(document))
    out = tmp_path / "out.safetensors"
    arguments = ["repair", str(tmp_path / "in.pth"), "--plan", str(tmp_path / "plan.json")]
    assert main([*arguments, "-o", str(out)]) == 0
    index = archfind.open(out).index
    assert index["fc.weight"].dtype == "float16" and index["conv1.0.weight"].dtype == "float32"
    document["edits"].append({"kind": "drop", "keys": ["conv1.0.weight"]})
    (tmp_path / "plan.json").write_text(json.dumps(document))
    assert main([*arguments, "-o", str(tmp_path / "never.pth")]) == 2
    assert "doesn't load strictly" in capsys.readouterr().err
    assert not (tmp_path / "never.pth").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "a plan is JSON"),
        ("[]", "a plan is an object"),
        ('{"edits": []}', "names its source"),
        ('{"source": "a", "edits": [{"kind": "guess"}]}', "no edit 'guess'"),
        ('{"source": "a", "edits": [{"kind": "drop", "keys": 3}]}', "another form"),
        ('{"source": "a", "edits": [{"kind": ["drop"]}]}', "no edit a list"),
        ('{"source": "a", "edits": [{"kind": "drop", "keys": [1]}]}', "another form"),
        ('{"source": "a", "edits": [{"kind": "drop", "options": {"new": 1}}]}', "another form"),
        ('{"source": "a", "edits": [{"kind": "cast", "options": {"dtype": "load"}}]}', "another"),
        ('{"source": "a", "edits": [{"kind": "fill", "options": {"shape": [-1]}}]}', "another"),
        ('{"source": "a", "edits": [{"kind": "fill", "options": {"shape": [1e3]}}]}', "another"),
        ('{"source": "a", "edits": [{"kind": "merge", "options": {"scale": 1e999}}]}', "another"),
        ('{"source": "a", "edits": [{"kind": "drop", "lossless": "no"}]}', "another form"),
        ('{"source": "a", "edits": [], "tensors": "abc"}', "tensors is of another form"),
        ('{"source": "a", "edits": [], "tensors": [1]}', "tensors is of another form"),
        ('{"source": "a", "edits": [], "tensors": Infinity}', "not strict JSON"),
        ('{"source": "a", "edits": [], "problems": 5}', "problems is of another form"),
        ('{"source": "a", "edits": [], "notes": null}', "notes is of another form"),
        ('{"source": "a", "edits": [], "target": 5}', "target is of another form"),
        ('{"source": "a", "source": "b", "edits": []}', "stands twice"),
        ("[" * 200_000, "nested too deep"),
        ('{"source": "a", "edits":' + "[" * 900 + "]" * 900 + "}", "nested too deep"),
    ],
)
def test_what_is_no_plan(text: str, message: str) -> None:
    with pytest.raises(RepairError, match=message):
        Plan.from_json(text)


def test_a_plan_is_for_the_files_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through another path or a link, it may be; what the plan names alone isn't opened."""
    for name in ("in", "other"):
        save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    source, other = tmp_path / "in.safetensors", tmp_path / "other.safetensors"
    link = tmp_path / "link.safetensors"
    link.symlink_to(source)
    plan = tmp_path / "plan.json"

    def run(file: Path, *more: str, **said: str) -> int:
        plan.write_text(json.dumps({"source": str(source), "edits": [], **said}))
        return main(["repair", str(file), "--plan", str(plan), *more])

    assert run(source) == 0 and run(link) == 0
    assert run(source.parent / "." / "in.safetensors", source=str(link)) == 0
    capsys.readouterr()
    wrong: tuple[tuple[list[str], dict[str, str], str], ...] = (
        ([str(other)], {}, f"its source is {source}, not {other}"),
        ([str(source)], {"source": str(tmp_path / "none")}, "the plan is for another file"),
        ([str(source)], {"base": str(other)}, f"its base is {other}; name it with --base"),
        ([str(source), "--base", str(other)], {}, f"it has no base, not {other}"),
        ([str(source), "--base", str(link)], {"base": str(other)}, f"is {other}, not {link}"),
    )
    for (file, *more), said, words in wrong:
        assert run(Path(file), *more, **said) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{plan}: error: ") and words in line
    assert run(source, "--base", str(other), base=str(other)) == 0


@pytest.mark.parametrize("made", ["fifo", "device", "folder", "missing", "huge", "link"])
def test_a_plan_that_is_no_regular_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: str
) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "in.safetensors")
    plan = tmp_path / "plan.json"
    if made == "fifo":
        os.mkfifo(plan)
    elif made == "folder":
        plan.mkdir()
    elif made == "huge":
        with plan.open("wb") as file:
            file.truncate(1 << 40)
    elif made != "missing":
        plan.symlink_to("/dev/zero")
    place = Path("/dev/zero") if made == "device" else plan
    assert main(["repair", str(tmp_path / "in.safetensors"), "--plan", str(place)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{place}: error: ")


@pytest.mark.parametrize("text", ["abc", "", "nan", "1e999", "-inf", "[" * 9_000, "\x1b[31m"])
def test_an_adapter_whose_alpha_is_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """What it adapts is still said; merged it isn't, as with another scale it would be wrong."""
    key = "base_model.model.x.lora_{}.weight"
    lora = {key.format("A"): torch.ones(2, 4), key.format("B"): torch.ones(4, 2)}
    save_file({"x.weight": torch.ones(4, 4)}, tmp_path / "base.safetensors")
    path = tmp_path / "lora.safetensors"
    save_file(lora, path, {"ss_network_alpha": text})
    assert main(["repair", str(path)]) == 1
    assert "ss_network_alpha in its metadata is no number" in capsys.readouterr().out
    plan = archfind.repair.plan(path, base=tmp_path / "base.safetensors")
    assert plan.problems == ("ss_network_alpha in its metadata is no number",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"lora_alpha": "much"}', "lora_alpha in adapter_config.json is no number"),
        ('{"lora_alpha": 1' + "0" * 400 + "}", "is no number"),
        ('{"lora_alpha": true}', "is no number"),
        ('{"lora_alpha": 4, "use_rslora": "yes"}', "neither true nor false"),
        ('{"lora_alpha": 4, "alpha_pattern": {"^x$": 8}}', "an alpha of their own"),
        ('{"lora_alpha":' + "[" * 200_000, "is left aside"),
        ("[]", "is left aside"),
    ],
)
def test_an_adapter_config_of_another_form(tmp_path: Path, text: str, words: str) -> None:
    key = "base_model.model.x.lora_{}.weight"
    lora = {key.format("A"): torch.ones(2, 4), key.format("B"): torch.ones(4, 2)}
    save_file(lora, tmp_path / "adapter_model.safetensors")
    save_file({"x.weight": torch.ones(4, 4)}, tmp_path / "base.safetensors")
    (tmp_path / "adapter_config.json").write_text(text)
    plan = archfind.repair.plan(tmp_path / "adapter_model.safetensors")
    assert any(words in note for note in plan.notes)
    base = tmp_path / "base.safetensors"
    merged = archfind.repair.plan(tmp_path / "adapter_model.safetensors", base=base)
    assert any(words in problem for problem in merged.problems)


@pytest.mark.parametrize(
    "edit",
    [
        Edit("rename", ("no.such",), ("key",)),
        Edit("rename", ("a", "b"), ("c", "c")),
        Edit("transpose", ("a",), (), {"axes": [0, 1, 2, 3]}),
        Edit("reshape", ("a",), (), {"shape": [7]}),
        Edit("cast", ("a",), (), {"dtype": "int8"}),
        Edit("split", ("a",), ("c", "d"), {}),
    ],
    ids=lambda e: e.kind,
)
def test_an_edit_that_cannot_be_done_leaves_nothing(edit: Edit, tmp_path: Path) -> None:
    torch.save({"a": torch.rand(4, 6), "b": torch.rand(2)}, tmp_path / "in.pth")
    plan = Plan(str(tmp_path / "in.pth"), (edit,))
    with pytest.raises(ArchfindError):
        archfind.repair.apply(plan, tmp_path / "out.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["in.pth"]


def test_a_sound_file_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(provider("timm").create("test_resnet").state_dict(), tmp_path / "in.pth")
    assert main(["repair", str(tmp_path / "in.pth")]) == 0
    assert "loads strictly into timm/test_resnet as it is" in capsys.readouterr().out


def test_position_tables_of_another_size(tmp_path: Path) -> None:
    """A ViT for 224 pixels brought to 384: the class token's row stays, the grid is moved."""
    source = provider("timm")
    state = source.create("vit_tiny_patch16_224").state_dict()
    torch.save(state, tmp_path / "in.pth")
    plan = archfind.repair.plan(tmp_path / "in.pth", choose="timm/vit_tiny_patch16_384")
    (edit,) = [e for e in plan.edits if e.kind == "resize"]
    assert not edit.lossless and edit.options["prefix"] == 1
    archfind.repair.apply(plan, tmp_path / "out.pth")
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert found["pos_embed"].shape == (1, 577, 192)
    assert torch.equal(found["pos_embed"][:, 0], state["pos_embed"][:, 0])
    source.create("vit_tiny_patch16_384").load_state_dict(found, strict=True)


def test_resizing() -> None:
    grid = torch.arange(16.0).reshape(1, 16, 1)
    assert resized_table(grid, (1, 64, 1), "grid").shape == (1, 64, 1)
    kernel = torch.rand(4, 3, 2, 2)
    gray = torch.rand(1, 1, 8, 8)
    one = torch.nn.functional.conv2d(gray.expand(1, 3, 8, 8), kernel)
    assert torch.allclose(
        one, torch.nn.functional.conv2d(gray, resized_table(kernel, (4, 1, 2, 2), "sum"))
    )
    single = kernel[:, :1]
    more = torch.nn.functional.conv2d(
        gray.expand(1, 5, 8, 8), resized_table(single, (4, 5, 2, 2), "repeat")
    )
    assert torch.allclose(more, torch.nn.functional.conv2d(gray, single), atol=1e-6)


def _lora(
    state: dict[str, Tensor], kind: str, rank: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """An adapter of a ViT's attention, and what it adds to each weight."""
    torch.manual_seed(0)
    out: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}
    for key, value in state.items():
        if not key.endswith(("attn.qkv.weight", "attn.proj.weight")):
            continue
        down, up = torch.randn(rank, value.shape[1]), torch.randn(value.shape[0], rank)
        name = key.removesuffix(".weight")
        if kind == "PEFT":
            out[f"base_model.model.{name}.lora_A.weight"] = down
            out[f"base_model.model.{name}.lora_B.weight"] = up
        else:
            stem = f"lora_unet_{name.replace('.', '_')}"
            out |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            out[f"{stem}.alpha"] = torch.tensor(8.0)
        added[key] = up @ down * (8 / rank)
    return out, added


@pytest.mark.parametrize("kind", ["PEFT", "kohya"])
def test_a_lora_names_its_base_and_is_merged(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = provider("timm").create("test_vit").state_dict()
    lora, added = _lora(state, kind, 4)
    torch.save(state, tmp_path / "base.pth")
    torch.save(lora, tmp_path / "lora.pth")
    if kind == "PEFT":
        (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8, "r": 4}')
    assert main(["repair", str(tmp_path / "lora.pth")]) == 1
    shown = capsys.readouterr().out
    assert f"a LoRA adapter ({kind}), rank 4, alpha 8" in shown
    assert "timm/test_vit" in shown
    out = tmp_path / "out.safetensors"
    base = str(tmp_path / "base.pth")
    assert main(["repair", str(tmp_path / "lora.pth"), "--base", base, "-o", str(out)]) == 0
    found = archfind.load(out, choose="timm/test_vit").state_dict()
    for key, value in state.items():
        torch.testing.assert_close(found[key], value + added.get(key, torch.zeros(())))
    # a base that it isn't for
    other = tmp_path / "other.pth"
    torch.save(provider("timm").create("test_resnet").state_dict(), other)
    plan = archfind.repair.plan(tmp_path / "lora.pth", base=other)
    assert "which the base hasn't" in plan.problems[0]


def _words(values: Tensor, bits: int, axis: int) -> Tensor:
    """Whole numbers packed into 32-bit words, one by one: the plain way."""
    count = 32 // bits
    moved = values.movedim(axis, 0)
    words = torch.zeros(moved.shape[0] // count, *moved.shape[1:], dtype=torch.int64)
    for n in range(len(moved)):
        words[n // count] |= moved[n] << (bits * (n % count))
    words = torch.where(words >= 2**31, words - 2**32, words)
    return words.to(torch.int32).movedim(0, axis)


def _packed(scheme: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """A weight [out, in] as a library packs it, and what it is worth afterwards."""
    torch.manual_seed(0)
    rows, columns = weight.shape
    if scheme == "fp8-scaled":
        scale = weight.abs().max() / 448
        packed = (weight / scale).to(torch.float8_e4m3fn)
        return {"weight": packed, "weight_scale": scale.reshape(1)}, packed.float() * scale
    if scheme == "bitsandbytes-int8":
        largest = weight.abs().amax(1)
        packed = (weight * 127 / largest[:, None]).round().to(torch.int8)
        return {"weight": packed, "SCB": largest}, packed.float() * largest[:, None] / 127
    if scheme == "bitsandbytes-nf4":
        codes = torch.linspace(-1, 1, 16)
        blocks = weight.reshape(-1, 64)
        largest = blocks.abs().amax(1)
        index = (blocks / largest[:, None])[..., None].sub(codes).abs().argmin(-1).flatten()
        packed = (index[::2] << 4 | index[1::2]).to(torch.uint8)[:, None]
        note = json.dumps({"blocksize": 64, "shape": [rows, columns], "dtype": "float32"})
        said = torch.tensor(list(note.encode()), dtype=torch.uint8)
        parts = {
            "weight": packed, "weight.absmax": largest, "weight.quant_map": codes,
            "weight.quant_state.bitsandbytes__nf4": said,
        }  # fmt: skip
        value = codes[index].reshape(-1, 64) * largest[:, None]
        return parts, value.reshape(rows, columns)
    group = 16
    whole = torch.randint(0, 16, (columns, rows))
    zeros = torch.randint(1, 16, (columns // group, rows))
    scales = torch.rand(columns // group, rows) * 0.01 + 0.01
    order = torch.arange(columns) // group
    if scheme == "gptq-4":
        order = order[torch.randperm(columns)]
    value = ((whole - zeros[order]) * scales[order]).T
    if scheme == "gptq-4":
        parts = {"qweight": _words(whole, 4, 0), "qzeros": _words(zeros - 1, 4, 1)}
        return {**parts, "scales": scales, "g_idx": order.int()}, value
    shuffle = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    mixed = [t.reshape(len(t), -1, 8)[:, :, shuffle].flatten(1) for t in (whole, zeros)]
    return {
        "qweight": _words(mixed[0], 4, 1),
        "qzeros": _words(mixed[1], 4, 1),
        "scales": scales,
    }, value


SCHEMES = ["fp8-scaled", "bitsandbytes-int8", "bitsandbytes-nf4", "gptq-4", "awq-4"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_packed_weights_are_seen_through(scheme: str, tmp_path: Path) -> None:
    state = provider("timm").create("test_vit").state_dict()
    packed: dict[str, Tensor] = {}
    worth: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("blocks") and value.dim() == 2:
            parts, worth[key] = _packed(scheme, value)
            packed |= {key.removesuffix("weight") + name: part for name, part in parts.items()}
        else:
            packed[key] = worth[key] = value
    torch.save(packed, tmp_path / "in.pth")
    guess = archfind.guess(tmp_path / "in.pth", choose="timm/test_vit")
    assert guess.status == "exact"
    module = archfind.load(guess)
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, worth[key], rtol=1e-4, atol=1e-6)
    plan = archfind.repair.plan(guess)
    assert {e.options["scheme"] for e in plan.edits if e.kind == "dequantise"} == {scheme}
    archfind.repair.apply(plan, tmp_path / "out.safetensors")
    found = archfind.load(tmp_path / "out.safetensors", choose="timm/test_vit").state_dict()
    assert all(torch.equal(found[key], value) for key, value in module.state_dict().items())


def test_blocks_of_fp8_scales() -> None:
    weight = torch.randn(5, 7).to(torch.float8_e4m3fn)
    scale = torch.rand(2, 3)
    spread = scale.repeat_interleave(3, 0)[:5].repeat_interleave(3, 1)[:, :7]
    assert torch.equal(dequantised("fp8-scaled", [weight, scale], (5, 7)), weight.float() * spread)


def test_folded_norms_are_put_back(tmp_path: Path) -> None:
    """torch's own folding, which leaves an Identity where the norm was."""
    torch.manual_seed(0)
    module = provider("torchvision").create("resnet18").eval()
    for name, value in module.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    folded = copy.deepcopy(module)
    for parent in folded.modules():
        pairs = [(f"conv{n}", f"bn{n}") for n in (1, 2)] + [("0", "1")]
        for conv, norm in pairs:
            if isinstance(getattr(parent, norm, None), nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm))
                setattr(parent, conv, fused)
                setattr(parent, norm, nn.Identity())
    torch.save(folded.state_dict(), tmp_path / "folded.pth")
    plan = archfind.repair.plan(tmp_path / "folded.pth")
    assert plan.target == "torchvision/resnet18" and plan.complete and not plan.invents
    assert [e.options["how"] for e in plan.edits] == ["batch_norm"] * 20
    archfind.repair.apply(plan, tmp_path / "out.safetensors")
    loaded = archfind.load(tmp_path / "out.safetensors", choose=plan.target)
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(loaded(image), module(image), rtol=1e-4, atol=1e-4)


def test_a_norm_before_its_layer_is_not_made_up(tmp_path: Path) -> None:
    """densenet's norms come before their convolutions: nothing says what was folded where."""
    module = provider("torchvision").create("densenet121")
    state = {
        key: value
        for key, value in module.state_dict().items()
        if not key.startswith("features.denseblock1.denselayer1.norm1.")
    }
    torch.save(state, tmp_path / "cut.pth")
    plan = archfind.repair.plan(tmp_path / "cut.pth")
    assert plan.invents and "split" not in {edit.kind for edit in plan.edits}


def test_an_adapter_with_whole_tensors_is_merged(tmp_path: Path) -> None:
    """A resized embedding takes the base's place, a new head stands beside, both as they are."""
    torch.manual_seed(4)
    base = {
        "model.embed_tokens.weight": torch.randn(20, 8),
        "model.layers.0.self_attn.q_proj.weight": torch.randn(8, 8),
        "lm_head.weight": torch.randn(20, 8),
    }
    down, up = torch.randn(2, 8), torch.randn(8, 2)
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    whole = torch.randn(23, 8), torch.randn(3, 8)
    lora = {
        f"{stem}.lora_A.weight": down,
        f"{stem}.lora_B.weight": up,
        "base_model.model.model.embed_tokens.weight": whole[0],
        "base_model.model.score.modules_to_save.default.weight": whole[1],
        "base_model.model.score.original_module.weight": torch.zeros(3, 8),
    }
    torch.save(base, tmp_path / "base.pth")
    torch.save(lora, tmp_path / "lora.pth")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 6, "r": 2}')
    plan = archfind.repair.plan(tmp_path / "lora.pth", base=tmp_path / "base.pth")
    assert plan.complete and not plan.invents
    done = archfind.repair.apply(plan, tmp_path / "out.pth")
    assert "2 of them the adapter's own" in done.notes["load"]
    made = torch.load(tmp_path / "out.pth")
    query = "model.layers.0.self_attn.q_proj.weight"
    assert torch.allclose(made[query], base[query] + 3 * up @ down, atol=1e-5)
    assert torch.equal(made["model.embed_tokens.weight"], whole[0])
    assert torch.equal(made["score.weight"], whole[1])
    assert torch.equal(made["lm_head.weight"], base["lm_head.weight"])
    assert set(made) == {*base, "score.weight"}


def test_magnitudes_of_dora_are_not_left_out(tmp_path: Path) -> None:
    stem = "base_model.model.fc"
    lora = {
        f"{stem}.lora_A.weight": torch.randn(2, 8),
        f"{stem}.lora_B.weight": torch.randn(8, 2),
        f"{stem}.lora_magnitude_vector": torch.randn(8),
    }
    torch.save(lora, tmp_path / "lora.pth")
    torch.save({"fc.weight": torch.randn(8, 8)}, tmp_path / "base.pth")
    plan = archfind.repair.plan(tmp_path / "lora.pth", base=tmp_path / "base.pth")
    assert plan.problems and "magnitude" in plan.problems[0]
