"""Programs in files: run when trusted, and never otherwise."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import archfind
from archfind.cli import main
from archfind.errors import ExportError


class Gate(nn.Module):
    """A network of no library, whose path depends on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3)
        self.last = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu().mean((2, 3)))


def outputs(path: Path, *inputs: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = {one.name: t.numpy() for one, t in zip(session.get_inputs(), inputs, strict=True)}
    return torch.from_numpy(session.run(None, fed)[0])


@pytest.mark.parametrize("kind", ["traced", "scripted", "exported"])
def test_a_trusted_program_becomes_onnx(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    net, x = Gate().eval(), torch.randn(2, 3, 9, 9)
    path, out = tmp_path / "net.pt", tmp_path / "net.onnx"
    if kind == "traced":
        torch.jit.trace(net, x).save(path)
    elif kind == "scripted":
        torch.jit.script(net).save(path)
    else:
        torch.export.save(torch.export.export(net, (x,)), path := tmp_path / "net.pt2")
    more = [] if kind == "exported" else ["--input", "2x3x9x9"]
    assert main(["export", str(path), str(out), "--trust", *more]) == 0
    assert "the program in the file" in capsys.readouterr().out
    y = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(outputs(out, y), net(y).detach(), rtol=1e-4, atol=1e-5)


def test_code_runs_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(Gate().eval(), torch.randn(1, 3, 9, 9)).save(path)

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("torch.jit.load was called")

    monkeypatch.setattr(torch.jit, "load", loaded)
    for args in (["guess"], ["inspect"], ["export"], ["repair"]):
        out = [str(tmp_path / "o.onnx")] if args == ["export"] else []
        main([*args, str(path), *out])
    assert main(["export", str(path), str(tmp_path / "o.safetensors")]) == 0


def test_what_a_program_needs_is_said(tmp_path: Path) -> None:
    path, plain = tmp_path / "net.pt", tmp_path / "plain.pt"
    torch.jit.trace(Gate().eval(), torch.randn(1, 3, 9, 9)).save(path)
    torch.save(Gate().state_dict(), plain)
    out = tmp_path / "o.onnx"
    for source, inputs, said in (
        (path, [], "--input 1x3x224x224"),
        (path, ["3 by 9"], "1x128:int64"),
        (path, ["1x2x9x9"], "doesn't run"),
        (plain, [], "holds no TorchScript"),
    ):
        with pytest.raises(ExportError, match=said):
            archfind.export_program(source, out, inputs=inputs)
    with pytest.raises(ExportError, match="only"):
        archfind.export_program(path, tmp_path / "o.pth", inputs=["1x3x9x9"])
    assert not out.exists()
