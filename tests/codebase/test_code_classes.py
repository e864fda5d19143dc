"""`--code`: the class that a state dict belongs to is told from Python files, which are never run.

The networks here are written to disk as source, built by running that source in the test, and given
to archfind as keys and shapes with the folder.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

import archfind
from archfind.cli import main
from archfind.codebase.ranked import classes_of
from archfind.errors import CodeError
from archfind.types import CodeClass

BLOCKS = """
import torch.nn as nn

def conv3x3(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)

class Block(nn.Module):
    def __init__(self, width, ratio=2, norm=nn.BatchNorm2d):
        super().__init__()
        inner = width * ratio
        self.up = conv3x3(width, inner)
        self.norm = norm(inner)
        self.down = nn.Sequential(nn.ReLU(), conv3x3(inner, width))

class Gate(Block):
    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("scale", torch.ones(width))
"""
NETS = """
import sys
open(sys.argv[-1] + ".ran", "w")  # what importing this file would do
import torch
from torch import nn
from .blocks import Block as Unit

class Net(nn.Module):
    def __init__(self, in_ch, width, depth=3, classes=10, dims=(8, 16)):
        super().__init__()
        self.stem = nn.Conv2d(in_ch, width, 7)
        self.blocks = nn.ModuleList([])
        for number in range(depth):
            self.blocks.append(Unit(width, ratio=3))
        for number, size in enumerate(dims):
            self.add_module(f"side{number}", nn.Linear(width, size))
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.aside = nn.Linear(1, 1) if classes > 99 else None
        self._head(classes, width)

    def _head(self, classes, width):
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(width, classes))

class Other(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)
"""
OLD = 'class Net:\n    def __init__(self):\n        print "stem", self.stem\n'


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "blocks.py").write_text(BLOCKS)
    (folder / "nets.py").write_text(NETS)
    (folder / "old.py").write_text(OLD)
    return folder


def network(**arguments: int) -> nn.Module:
    """The Net of the source above, built by running it."""
    names: dict[str, object] = {"torch": torch}
    exec(BLOCKS, names)
    names["Unit"] = names["Block"]
    source = NETS.replace("from .blocks import Block as Unit", "")
    exec("\n".join(line for line in source.split("\n") if "argv" not in line), names)
    made = names["Net"]
    assert isinstance(made, type)
    module = made(**arguments)
    assert isinstance(module, nn.Module)
    return module


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def best(module: nn.Module, place: Path) -> CodeClass:
    return classes_of(shapes_of(module), str(place))[0][0]


@pytest.mark.parametrize(
    ("channels", "width", "depth", "classes"), [(3, 24, 2, 7), (1, 40, 5, 100)]
)
def test_the_class_and_its_arguments(
    code: Path, channels: int, width: int, depth: int, classes: int
) -> None:
    net = network(in_ch=channels, width=width, depth=depth, classes=classes)
    answer = best(net, code)
    assert (answer.name, Path(answer.file).name) == ("Net", "nets.py")
    assert NETS.split("\n")[answer.line - 1].startswith("class Net")
    assert answer.known == answer.tensors == len(net.state_dict())
    wanted = {"in_ch": channels, "width": width, "depth": depth, "classes": classes}
    assert {name: answer.arguments.get(name) for name in wanted} == wanted
    assert not answer.unsaid


def test_a_file_is_read_and_never_run(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pth"
    torch.save(network(in_ch=3, width=16).state_dict(), path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["guess", str(path), "--code", str(code)]) == 1
    text = capsys.readouterr().out
    assert f"{code}/nets.py:8 Net(" in text and "in_ch=3" in text
    assert "1 of 3 Python files don't parse" in text
    assert main(["guess", "--json", str(path), "--code", str(code)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["code"][0]["class"] == "Net" and document["status"] == "unknown"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_network_within_another_is_told_by_its_prefix(code: Path) -> None:
    net = network(in_ch=3, width=16)
    wrapped = nn.ModuleDict({"model": net, "metric": nn.Linear(2, 2)})
    assert (best(wrapped, code).name, best(wrapped, code).prefix) == ("Net", "model.")


def test_a_wheel_and_an_installed_package_are_places(code: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "nets-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in code.iterdir():
            archive.write(path, f"nets/{path.name}")
    answer = best(network(in_ch=3, width=16), wheel)
    assert (answer.name, answer.file) == ("Net", f"{wheel}/nets/nets.py")
    library = archfind.guess(_saved(tmp_path), code="torchvision")
    assert "ResNet" in [one.name for one in library.code[:2]]


def _saved(folder: Path) -> Path:
    torch.save(models.resnet18(num_classes=5).state_dict(), folder / "resnet.pth")
    return folder / "resnet.pth"


def test_other_sizes_in_the_code_are_a_contradiction(tmp_path: Path) -> None:
    source = """
from torch import nn
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(8, 16)
        self.two = nn.Linear(16, 4)
class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(80, 160)
        self.two = nn.Linear(160, 40)
"""
    (tmp_path / "two.py").write_text(source)
    net = nn.ModuleDict({"one": nn.Linear(80, 160), "two": nn.Linear(160, 40)})
    found = classes_of(shapes_of(net), str(tmp_path))[0]
    assert [one.name for one in found] == ["Large"]


def test_two_classes_that_fit_alike_are_both_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        text = (
            f"from torch import nn\nclass {name.upper()}(nn.Module):\n    def __init__(self, n):\n"
        )
        text += "        self.first = nn.Linear(n, n)\n        self.second = nn.Linear(n, 3)\n"
        (tmp_path / f"{name}.py").write_text(text)
    net = nn.ModuleDict({"first": nn.Linear(5, 5), "second": nn.Linear(5, 3)})
    found = classes_of(shapes_of(net), str(tmp_path))[0]
    assert {one.name for one in found} == {"A", "B"} and len({one.share for one in found}) == 1
    assert all(one.arguments == {"n": 5} for one in found)


@pytest.mark.parametrize(
    "text",
    [
        b"class A(A):\n    def __init__(self):\n        self.x = self.x = A(A)\n",
        b"class A:\n    def __init__(self, f=lambda: 1):\n        x = x\n        self.x = x\n",
        b"class A:\n    def __init__(self):\n        self.x = " + b"(" * 5000 + b")" * 5000,
        b"class A:\n  def __init__(self):\n    self.x = [[self.x for _ in self.x]] * self.x\n",
        b"class A(B): pass\nclass B(A):\n    def __init__(self): self.x = self.m()\n"
        b"    def m(self): return self.m()\n",
        b"\x00\xff\xfe class A",
        b"def x(): return x()\nclass A:\n    def __init__(self): self.x = x(x=x)\n",
    ],
)  # fmt: skip
def test_hostile_code_ends(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(text)
    found, read, _ = classes_of({"x.weight": (2, 2), "x.y.bias": (2,)}, str(tmp_path))
    assert read == 1 and len(found) <= 2


@pytest.mark.parametrize("place", ["no_such_package", "no/such/folder", "no-such.whl", ""])
def test_a_place_that_is_not_there_is_told(place: str) -> None:
    with pytest.raises(CodeError, match="installed package"):
        classes_of({"x.weight": (2, 2)}, place)
