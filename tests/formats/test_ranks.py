"""What the processes of a training run wrote, each its own part: ranks joined, chunks placed."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from layout_files import State, network, same, saved, values

from archfind import formats
from archfind.errors import BuildError, CheckpointError, NotACheckpoint


@pytest.mark.parametrize("vocabulary_split", [False, True])
def test_consolidated_ranks(tmp_path: Path, vocabulary_split: bool) -> None:
    torch.manual_seed(0)
    state = {
        "tok_embeddings.weight": (torch.randn(10, 8), 0 if vocabulary_split else 1),
        "norm.weight": (torch.randn(8), None),
        "layers.0.attention.wq.weight": (torch.randn(8, 8), 0),
        "layers.0.attention.wo.weight": (torch.randn(8, 8), 1),
        "layers.0.feed_forward.w1.weight": (torch.randn(12, 8), 0),
        "layers.0.feed_forward.w2.weight": (torch.randn(8, 12), 1),
        "output.weight": (torch.randn(10, 8), 0),
    }
    for rank in range(2):
        part = {
            key: value if dim is None else value.chunk(2, dim)[rank].clone()
            for key, (value, dim) in state.items()
        }
        torch.save(part, tmp_path / f"consolidated.0{rank}.pth")
    (tmp_path / "params.json").write_text("{}")
    same(values(tmp_path), {key: value for key, (value, _) in state.items()})


@pytest.mark.parametrize("gated", [True, False])
def test_megatron_ranks(tmp_path: Path, gated: bool) -> None:
    torch.manual_seed(1)
    gate, up = torch.randn(6, 4), torch.randn(6, 4)
    stem = "decoder.layers.0."
    whole = {
        "embedding.word_embeddings.weight": torch.randn(8, 4),
        f"{stem}self_attention.linear_qkv.weight": torch.randn(12, 4),
        f"{stem}self_attention.linear_proj.weight": torch.randn(4, 4),
        f"{stem}mlp.linear_fc1.weight": torch.cat([gate, up]),
        f"{stem}mlp.linear_fc2.weight": torch.randn(4, 6),
        f"{stem}input_layernorm.weight": torch.randn(4),
    }
    dims = dict(zip(whole, (0, 0, 1, 0, 1, None), strict=True))
    root = tmp_path / "iter_0000050"
    for rank in range(2):
        part = {
            key: value if dims[key] is None else value.chunk(2, dims[key])[rank].clone()
            for key, value in whole.items()
        }
        if gated:
            fc1 = torch.cat([gate.chunk(2)[rank], up.chunk(2)[rank]])
            part[f"{stem}mlp.linear_fc1.weight"] = fc1
        folder = root / f"mp_rank_0{rank}"
        folder.mkdir(parents=True)
        args = {"swiglu": gated, "num_layers": 1}
        value = {"model": part, "args": args, "checkpoint_version": 3.0, "iteration": 50}
        torch.save(value, folder / "model_optim_rng.pt")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("50")
    found = formats.open(tmp_path)
    assert found.format == "megatron" and found.hints["args/num_layers"] == 1
    same(values(tmp_path, "model/"), whole)


def zero_files(folder: Path, stage: int, ranks: int) -> State:
    """What DeepSpeed writes, made by the plainest code: pad, concatenate, cut."""
    torch.manual_seed(stage)
    weights = {
        "fc.weight": torch.randn(5, 3),
        "fc.bias": torch.randn(5),
        "out.weight": torch.randn(2, 5),
    }
    shapes = OrderedDict((key, value.shape) for key, value in weights.items())
    parts: list[torch.Tensor] = []
    if stage == 3:
        for rank in range(ranks):
            held = []
            for value in weights.values():
                share = -(-value.numel() // ranks)
                padded = torch.cat([value.reshape(-1), torch.zeros(share * ranks - value.numel())])
                held.append(padded[rank * share : (rank + 1) * share])
            parts.append(torch.cat(held))
    else:
        flat = torch.cat([value.reshape(-1) for value in weights.values()])
        padded = torch.cat([flat, torch.zeros(-flat.numel() % (2 * ranks))])
        parts = [one.clone() for one in padded.chunk(ranks)]
    buffers = {"bn.running_mean": torch.ones(3)}
    module = buffers if stage == 3 else {**{k: v.half() for k, v in weights.items()}, **buffers}
    model = {
        "module": module,
        "param_shapes": [shapes],
        "buffer_names": list(buffers),
        "ds_version": "0.14",
    }
    torch.save(model, folder / "mp_rank_00_model_states.pt")
    for rank, part in enumerate(parts):
        key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
        state = {"zero_stage": stage, "partition_count": ranks, key: [part]}
        name = f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": state}, folder / name)
    return {**weights, **buffers}


@pytest.mark.parametrize(("stage", "ranks"), [(1, 1), (2, 2), (2, 3), (3, 2), (3, 4)])
def test_deepspeed_zero(tmp_path: Path, stage: int, ranks: int) -> None:
    folder = tmp_path / "global_step10"
    folder.mkdir()
    expected = zero_files(folder, stage, ranks)
    (tmp_path / "latest").write_text("global_step10")
    found = formats.open(tmp_path)
    assert found.format == "deepspeed-zero" and found.container["ranks"] == ranks
    got = values(tmp_path, "module/")
    assert set(got) == set(expected)
    assert all(torch.equal(got[key], value) for key, value in expected.items())
    alone = formats.open(folder / "mp_rank_00_model_states.pt")
    assert alone.index["module/fc.weight"].shape == (5, 3)
    if stage == 3:
        assert any("give the folder" in line for line in alone.warnings)


def test_deepspeed_pipeline(tmp_path: Path) -> None:
    layers = {f"layer_0{i}-model_00-model_states.pt": {"weight": torch.randn(2, 2)} for i in (1, 2)}
    for name, value in layers.items():
        torch.save(value, tmp_path / name)
    torch.save({"module": None, "dp_world_size": 1}, tmp_path / "mp_rank_00_model_states.pt")
    first, second = layers.values()
    same(values(tmp_path), {"1.weight": first["weight"], "2.weight": second["weight"]})


@pytest.mark.filterwarnings("ignore")
def test_distributed_checkpoint(tmp_path: Path) -> None:
    from torch.distributed import checkpoint as dcp

    module = network()
    optimizer = torch.optim.AdamW(module.parameters())
    dcp.save(
        {"model": module.state_dict(), "step": 7, "config": {"lr": 0.1}},
        checkpoint_id=str(tmp_path),
        no_dist=True,
    )
    torch.save(
        {"hyper_parameters": {"width": 3}, "optimizer": optimizer.state_dict()},
        tmp_path / "meta.pt",
    )
    for path in (tmp_path, tmp_path / ".metadata"):
        found = formats.open(path)
        assert found.format == "torch-dcp" and found.metadata["step"] == 7
        assert found.metadata["config/lr"] == 0.1 and not found.danger
        got = values(path, "model/")
        assert set(got) == set(module.state_dict())
        assert all(torch.equal(got[key], value) for key, value in module.state_dict().items())
    assert formats.open(tmp_path).hints["hyper_parameters/width"] == 3


def test_distributed_checkpoint_in_chunks(tmp_path: Path) -> None:
    from torch.distributed.checkpoint import metadata as m
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    value = torch.arange(24.0).view(6, 4)
    chunks, places = [], {}
    for rank, (row, rows) in enumerate(((0, 2), (2, 4))):
        offsets, sizes = torch.Size([row, 0]), torch.Size([rows, 4])
        chunks.append(m.ChunkStorageMetadata(offsets=offsets, sizes=sizes))
        data = saved(value[row : row + rows].clone())
        name = f"__{rank}_0.distcp"
        (tmp_path / name).write_bytes(b"\0" * 10 + data)
        places[m.MetadataIndex("w", offsets, rank)] = _StorageInfo(name, 10, len(data))
    properties = m.TensorProperties(dtype=torch.float32)
    held = m.TensorStorageMetadata(properties=properties, size=value.size(), chunks=chunks)
    whole = m.Metadata(state_dict_metadata={"w": held}, storage_data=places)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(whole))
    same(values(tmp_path), {"w": value})
    (tmp_path / "__1_0.distcp").unlink()
    assert any("missing" in line for line in formats.open(tmp_path).warnings)
    with pytest.raises(BuildError):
        values(tmp_path)


def test_a_chunk_outside_the_folder_is_refused(tmp_path: Path) -> None:
    from torch.distributed.checkpoint import metadata as m
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    size = torch.Size([2])
    held = m.TensorStorageMetadata(
        properties=m.TensorProperties(dtype=torch.float32),
        size=size,
        chunks=[m.ChunkStorageMetadata(offsets=torch.Size([0]), sizes=size)],
    )
    places = {m.MetadataIndex("w", torch.Size([0]), 0): _StorageInfo("../secret", 0, 8)}
    whole = m.Metadata(state_dict_metadata={"w": held}, storage_data=places)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(whole))
    with pytest.raises(CheckpointError, match="plain file name"):
        formats.open(tmp_path)


def test_a_part_of_a_distributed_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "__0_0.distcp").write_bytes(saved({"w": torch.ones(1)}))
    with pytest.raises(NotACheckpoint, match="give its folder"):
        formats.open(tmp_path / "__0_0.distcp")
