"""pth <-> safetensors of networks that no library knows: values, ties, dtypes, shards, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import archfind
from archfind.errors import ExportError

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8]
DTYPES += [torch.bool, torch.int32, torch.float8_e4m3fn, torch.uint16]


def equal(one: Tensor, other: Tensor) -> bool:
    """The same dtype, shape and bits."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
    return torch.equal(*bits)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Tensor]:
    """State dicts with views of one storage, ties, scalars, nothing, and odd keys."""
    torch.manual_seed(draw(st.integers(0, 99)))
    words = st.text(st.characters(codec="utf-8", exclude_characters="/~\0"), min_size=1, max_size=8)
    keys = draw(st.lists(words, min_size=1, max_size=6, unique=True))
    state: dict[str, Tensor] = {}
    for key in keys:
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        dtype = draw(st.sampled_from(DTYPES))
        made = (torch.rand(shape) * 9).to(dtype)
        held = [t for t in state.values() if t.dim() == 2]
        how = draw(st.sampled_from(["own", "own", "tied", "transposed", "part"]))
        if held and how != "own":
            made = {"tied": held[0], "transposed": held[0].t(), "part": held[0][:, 1:]}[how]
        state[key] = made
    return state


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(state=states(), wrapped=st.booleans())
def test_there_and_back_again(
    state: dict[str, Tensor], wrapped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    torch.save({"state_dict": state} if wrapped else state, folder / "in.pth")
    archfind.export(folder / "in.pth", folder / "out.safetensors")
    found = load_file(folder / "out.safetensors")
    assert set(found) == set(state)
    assert all(equal(found[key], value) for key, value in state.items())
    archfind.export(folder / "out.safetensors", folder / "back.pth")
    assert zipfile.ZipFile(folder / "back.pth").testzip() is None
    back = torch.load(folder / "back.pth", weights_only=True)
    assert all(equal(back[key], value) for key, value in state.items())


def own() -> dict[str, Tensor]:
    torch.manual_seed(0)
    shared = torch.randn(64, 32)
    return {
        "stem.w": shared,
        "head.w": shared,
        "turned": torch.randn(32, 64).t(),
        "scale": torch.tensor(2.5),
        "steps": torch.arange(5),
    }


def test_ties_are_told_and_come_back(tmp_path: Path) -> None:
    torch.save(own(), tmp_path / "in.pth")
    done = archfind.export(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert done.notes["tied"].startswith("stem.w = head.w")
    archfind.export(tmp_path / "out.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back["stem.w"].data_ptr() == back["head.w"].data_ptr()
    # a tie that a file claims and its values deny is none
    state = {"stem.w": torch.ones(3), "head.w": torch.zeros(3)}
    claim = {"archfind.tied": json.dumps([["stem.w", "head.w"]])}
    save_file(state, tmp_path / "lie.safetensors", metadata=claim)
    archfind.export(tmp_path / "lie.safetensors", tmp_path / "lie.pth")
    back = torch.load(tmp_path / "lie.pth", weights_only=True)
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_casts(suffix: str, name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save(own(), tmp_path / "in.pth")
    out = tmp_path / f"out{suffix}"
    archfind.export(tmp_path / "in.pth", out, dtype=name)
    found = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    for key, value in own().items():
        wanted = value.to(dtype) if value.is_floating_point() else value
        assert equal(found[key], wanted), key


def test_a_value_that_a_half_cannot_hold_is_refused(tmp_path: Path) -> None:
    torch.save({"big": torch.tensor([1.0, 70000.0])}, tmp_path / "in.pth")
    with pytest.raises(ExportError, match="big holds 70000, too large for float16"):
        archfind.export(tmp_path / "in.pth", tmp_path / "out.pth", dtype="fp16")
    assert [p.name for p in tmp_path.iterdir()] == ["in.pth"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_shards_with_their_index(suffix: str, tmp_path: Path) -> None:
    state = {f"layer.{n}": torch.randn(10, 10) for n in range(9)}
    torch.save(state, tmp_path / "in.pth")
    done = archfind.export(tmp_path / "in.pth", tmp_path / f"out{suffix}", max_shard_size=1000)
    assert done.path == str(tmp_path / f"out{suffix}.index.json")
    shards = sorted(tmp_path.glob("out-*"))
    assert [p.name for p in shards] == [f"out-0000{n}-of-00005{suffix}" for n in range(1, 6)]
    found = archfind.open(done.path)
    assert set(found.index) == set(state)
    weights = json.loads(Path(done.path).read_text())["weight_map"]
    for key, name in weights.items():
        path = tmp_path / name
        shard = load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
        assert equal(shard[key], state[key])
    archfind.export(done.path, tmp_path / "whole.safetensors")
    whole = load_file(tmp_path / "whole.safetensors")
    assert all(equal(whole[key], value) for key, value in state.items())


def test_what_the_file_says_of_itself_is_carried(tmp_path: Path) -> None:
    torch.save({"model": own(), "epoch": 7, "arch": "mine"}, tmp_path / "in.pth")
    archfind.export(tmp_path / "in.pth", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert "mine" in metadata["archfind.hints"]
    assert metadata["archfind.source"] == "in.pth"
    save_file({"a": torch.ones(2)}, tmp_path / "lora.safetensors", metadata={"ss_tag": "cat"})
    archfind.export(tmp_path / "lora.safetensors", tmp_path / "lora.pth")
    state = torch.load(tmp_path / "lora.pth", weights_only=True)
    assert state._metadata["archfind"]["ss_tag"] == "cat"


def test_optimizer_state_is_left_and_said(tmp_path: Path) -> None:
    whole = {"model": own(), "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    torch.save(whole, tmp_path / "in.pth")
    done = archfind.export(tmp_path / "in.pth", tmp_path / "out.pth")
    assert done.notes["left"] == "1 tensors of optimizer are not written"
    assert set(torch.load(tmp_path / "out.pth", weights_only=True)) == set(own())


def test_a_known_network_gets_its_own_names(tmp_path: Path) -> None:
    import timm

    state = timm.create_model("test_resnet").state_dict()
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "in.pth")
    done = archfind.export(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert done.notes["network"] == "timm/test_resnet, under its own names"
    found = load_file(tmp_path / "out.safetensors")
    assert all(equal(found[key], value) for key, value in state.items())
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata()["archfind.architecture"] == "timm/test_resnet"


def test_shards_of_two_sets_never_meet(tmp_path: Path) -> None:
    """An index names shards of one export: where an old one names a file that would be replaced,
    nothing is moved; where it doesn't, it is replaced itself, last."""
    source, out = tmp_path / "in.pth", tmp_path / "out.safetensors"
    torch.save({f"layer.{n}": torch.randn(10, 10) for n in range(9)}, source)
    archfind.export(source, out, max_shard_size=1000)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ExportError, match=r"belongs to out\.safetensors\.index\.json"):
        archfind.export(source, out, max_shard_size=1000, force=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    done = archfind.export(source, out, max_shard_size=2000, force=True)
    assert len(archfind.open(done.path).index) == 9
    assert {name for name in before if not name.endswith(".json")} < set(os.listdir(tmp_path))
    Path(done.path).unlink()
    archfind.export(source, out, max_shard_size=1000, force=True)  # nothing names the others now
    out.write_text("one file, which would be opened in place of the shards")
    with pytest.raises(ExportError, match="remove it"):
        archfind.export(source, out, max_shard_size=500, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_refusals(force: bool, tmp_path: Path) -> None:
    torch.save(own(), tmp_path / "in.pth")
    (tmp_path / "taken.pth").write_text("mine")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for out, text in [
        ("in.pth", "is the checkpoint itself"),
        ("missing/out.pth", "there is no folder"),
        *([] if force else [("taken.pth", "exists; --force overwrites")]),
    ]:
        with pytest.raises(ExportError, match=text):
            archfind.export(tmp_path / "in.pth", tmp_path / out, force=force)
    with pytest.raises(ExportError, match="no dtype fp8"):
        archfind.export(tmp_path / "in.pth", tmp_path / "new.pth", dtype="fp8")
    torch.save({"c": torch.zeros(2, dtype=torch.complex128)}, tmp_path / "c.pth")
    with pytest.raises(ExportError, match="safetensors has no complex128, which c is"):
        archfind.export(tmp_path / "c.pth", tmp_path / "c.safetensors")
    (tmp_path / "c.pth").unlink()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("limit", [10_000, 3_000_000])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk(limit: int, suffix: str, tmp_path: Path) -> None:
    import resource

    torch.save({"a": torch.zeros(4, 1000), "b": torch.ones(1000, 1000)}, tmp_path / "in.pth")
    before = (tmp_path / "in.pth").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(ExportError, match="can't be written: File too large"):
            archfind.export(tmp_path / "in.pth", tmp_path / f"out{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["in.pth"]
    assert (tmp_path / "in.pth").read_bytes() == before


def test_checksums_and_values_over_many_blocks(tmp_path: Path) -> None:
    """Large and small tensors in turn, so that blocks end anywhere and sums lag behind."""
    torch.manual_seed(0)
    sizes = [1, 3_000_001, 7, 5000, 262_144, 1, 900_000, 3, 40_000, 1_048_577] * 3
    state = {f"t.{n}": torch.randint(0, 255, (s,), dtype=torch.uint8) for n, s in enumerate(sizes)}
    torch.save(state, tmp_path / "in.pth")
    archfind.export(tmp_path / "in.pth", tmp_path / "out.pth")
    assert zipfile.ZipFile(tmp_path / "out.pth").testzip() is None
    archfind.export(tmp_path / "in.pth", tmp_path / "out.safetensors")
    for found in (
        torch.load(tmp_path / "out.pth", weights_only=True),
        load_file(tmp_path / "out.safetensors"),
    ):
        assert all(equal(found[key], value) for key, value in state.items())


def test_neither_torch_nor_the_whole_file_is_loaded(tmp_path: Path) -> None:
    state = {f"layer.{n}": torch.full((1024, 1024), float(n)) for n in range(50)}  # 200 MB
    torch.save(state, tmp_path / "in.pth")
    script = (
        "import sys, resource; from archfind.cli import main; code = main();"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "peak = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1];"
        "print(peak); sys.exit(code)"
    )
    for source, out in (("in.pth", "out.safetensors"), ("out.safetensors", "out.pth")):
        done = subprocess.run(
            [sys.executable, "-c", script, "export", source, out],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        if sys.platform == "linux":
            assert int(done.stdout.split()[-1]) < 100_000  # kB
    back = torch.load(tmp_path / "out.pth", weights_only=True)
    assert all(torch.equal(back[key], value) for key, value in state.items())
