"""Checkpoints inside zips, tars and folders of several networks."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from layout_files import network, same, saved, values
from torch import nn

from archfind import formats
from archfind.errors import NotACheckpoint
from archfind.state_dicts.canonical import networks


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_stable_baselines_zip(tmp_path: Path, method: int) -> None:
    policy = {"mlp_extractor.policy_net.0.weight": torch.randn(4, 3), "log_std": torch.zeros(2)}
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    with zipfile.ZipFile(tmp_path / "ppo.zip", "w", method) as archive:
        archive.writestr("data", json.dumps({"gamma": 0.99, "policy_class": {":type:": "abc"}}))
        with archive.open("policy.pth", "w", force_zip64=True) as file:
            torch.save(policy, file)
        archive.writestr("policy.optimizer.pth", saved(optimizer.state_dict()))
        archive.writestr("pytorch_variables.pth", saved({}))
        archive.writestr("_stable_baselines3_version", "2.3.0")
        archive.writestr("system_info.txt", "- OS: Linux")
    found = formats.open(tmp_path / "ppo.zip")
    assert found.metadata["data/gamma"] == 0.99
    assert list(networks(found)) == ["policy"]
    same(values(tmp_path / "ppo.zip", "policy/"), policy)


def test_dduf_and_zipped_folder(tmp_path: Path) -> None:
    from safetensors.torch import save

    unet = {"conv_in.weight": torch.randn(4, 3), "conv_out.weight": torch.randn(2, 4)}
    vae = {"encoder.weight": torch.randn(3, 3)}
    with zipfile.ZipFile(tmp_path / "x.dduf", "w") as archive:
        archive.writestr("model_index.json", json.dumps({"_class_name": "StableDiffusionPipeline"}))
        archive.writestr("unet/config.json", json.dumps({"sample_size": 64}))
        first, second = (dict([one]) for one in unet.items())
        name = "unet/diffusion_pytorch_model-0000{}-of-00002.safetensors"
        archive.writestr(name.format(1), save(first))
        archive.writestr(name.format(2), save(second))
        archive.writestr("vae/diffusion_pytorch_model.safetensors", save(vae))
    found = formats.open(tmp_path / "x.dduf")
    assert found.metadata["model_index/_class_name"] == "StableDiffusionPipeline"
    assert found.metadata["unet.config/sample_size"] == 64
    same(values(tmp_path / "x.dduf", "unet/"), unet)
    same(values(tmp_path / "x.dduf", "vae/"), vae)


def test_diffusers_folder(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "model_index.json").write_text("{}")
    parts = {"unet": {"a.weight": torch.randn(2, 2)}, "vae": {"b.weight": torch.randn(3)}}
    for name, state in parts.items():
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "diffusion_pytorch_model.safetensors")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text("{}")
    same(values(tmp_path), {f"{n}/{k}": v for n, one in parts.items() for k, v in one.items()})


def test_nemo_tar(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    with tarfile.open(tmp_path / "x.nemo", "w") as archive:
        for name, data in (
            ("./model_config.yaml", b"sample_rate: 16000\n"),
            ("./model_weights.ckpt", saved(state)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    found = formats.open(tmp_path / "x.nemo")
    assert "sample_rate" in str(found.metadata["model_config.yaml"])
    same(values(tmp_path / "x.nemo"), state)


def test_zip_in_zip_in_zip_ends(tmp_path: Path) -> None:
    data = saved({"w": torch.ones(1)})
    for _ in range(6):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("inner.pth", data)
        data = buffer.getvalue()
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(NotACheckpoint, match="unpack it first"):
        formats.open(tmp_path / "x.pth")


def test_danger_inside_a_zip_is_told(tmp_path: Path) -> None:
    payload = b"cposix\nsystem\n(S'true'\ntR."
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("good.pth", saved({"w": torch.ones(2)}))
        archive.writestr("bad.pkl", payload)
    found = formats.open(tmp_path / "x.zip")
    assert list(found.index) and any("posix.system" in line for line in found.danger)
