"""What is written loads every state dict strictly, whatever its keys; nothing of a file is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from drawn_nets import drawn
from torch import nn
from written_sources import STORAGE, check_format, compiled, written_for

from archfind.sourcing.network import written
from archfind.types import Canonical, Checkpoint, Source, TensorSpec

HOSTILE: dict[str, Mapping[str, tuple[int, ...]]] = {
    "keywords": {"class.weight": (3, 4), "import.bias": (2,), "None.lambda": (1,)},
    "taken": {"forward.weight": (3, 4), "type.weight": (4,), "training.weight": (2, 2)},
    "dunder": {"__class__.__init__.weight": (3, 4), "__dict__.x": (1,), "_modules.a": (1,)},
    "numbers": {"0": (2,), "1.weight": (3, 4), "7.3.weight": (3, 3), "007.weight": (1, 1)},
    "code": {'");import os;os.system("x")#.weight': (2, 2), "'''+1.\"\"\"": (1,)},
    "unicode": {
        "\uff43\uff4f\uff4e\uff56.weight": (2, 2),
        "é.weight": (3,),
        "\u202e.bias": (1,),
        "\U0001f600": (1,),
    },
    "empty": {"": (1,), ".weight": (2, 2), "a..b": (1,), "a.": (3,)},
    "both": {"a": (1,), "a.weight": (2, 2), "a.b.weight": (3,), "a.b": (1,)},
    "deep": {".".join("a" * 3000): (1,), "b": (2,)},
    "large numbers": {"layers.2147483648.weight": (2, 2), "layers.0.weight": (2, 2)},
    "extra state": {"a._extra_state": (3,), "a.weight": (2, 2)},
    "lines": {"a\nb.weight": (2, 2), "\r\x00.weight": (2,), "\\.x": (1,), "x\\": (1,)},
    "long": {"a" * 100_000 + ".weight": (2, 2)},
    "shadowing": {"torch.weight": (2, 2), "nn.weight": (2, 2), "self.weight": (2, 2)},
    "odd layers": {
        "conv.weight": (0, 3, 3, 3),
        "fc.weight": (0, 0),
        "n.weight": (1, 1, 1, 1, 1, 1),
    },
}


def _reload(state: Mapping[str, torch.Tensor]) -> Source:
    source = written_for(state)
    module = compiled(source.text)()
    module.load_state_dict(
        {key.removeprefix(source.prefix): tensor for key, tensor in state.items()}, strict=True
    )
    return source


@pytest.mark.parametrize("name", HOSTILE)
def test_any_keys_load_strictly(name: str) -> None:
    state = {key: torch.zeros(shape) for key, shape in HOSTILE[name].items()}
    source = _reload(state)
    assert source.text.isascii()
    assert source.grade != "certain"


def test_every_kind_of_number_loads() -> None:
    dtypes = "float16 bfloat16 float64 int8 uint8 int32 bool complex64 float8_e4m3fn".split()
    _reload({f"a.{name}": torch.zeros(2, dtype=getattr(torch, name)) for name in dtypes})


def test_many_tensors_load_strictly() -> None:
    _reload({f"{n}.x": torch.zeros(1) for n in range(20_001)})


def test_drawn_networks_load_strictly_and_are_formatted(tmp_path: Path) -> None:
    texts: list[str] = []
    for _, state, _ in drawn(11, 2):
        source = written_for(state)
        with torch.device("meta"):
            module = compiled(source.text)()
        kept = {key.removeprefix(source.prefix): tensor for key, tensor in state.items()}
        module.load_state_dict(kept, strict=True, assign=True)
        texts.append(source.text)
    check_format(texts, tmp_path)


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "weight norm": lambda: nn.utils.weight_norm(nn.Conv1d(4, 6, 3)),
    "spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 6)),
    "attention": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 3),
    "decoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32), 2),
    "projected": lambda: nn.LSTM(5, 7, 2, bidirectional=True, proj_size=3),
    "bilinear": lambda: nn.Bilinear(3, 4, 5),
    "cell": lambda: nn.GRUCell(3, 4),
    "parametrised": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
    "bag": lambda: nn.EmbeddingBag(9, 4),
    "instance": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_layers_of_torch_load_strictly(name: str) -> None:
    _reload(nn.Sequential(nn.Linear(3, 3), WRAPPED[name]()).state_dict())


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    """Under an audit hook: writing a source compiles, imports and starts nothing."""
    path = tmp_path / "hostile.pth"
    state = {k: torch.zeros(s) for keys in HOSTILE.values() for k, s in keys.items() if len(k) < 99}
    torch.save(state, path)
    script = (
        "import sys, archfind.cli as cli\n"
        "cli.main(['source', sys.argv[1], '-o', sys.argv[2]])\n"  # everything is imported
        "bad = []\n"
        "names = ('exec', 'compile', 'subprocess', 'os.system', 'os.exec', 'socket', 'import')\n"
        "sys.addaudithook(lambda e, a: bad.append((e, a)) if e.startswith(names) else None)\n"
        "code = cli.main(['source', sys.argv[1], '-o', sys.argv[2], '--force'])\n"
        "assert not bad and code == 4, (bad, code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "model.py")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


EVIL = (
    "torch.nn.modules.x.Linear(2, 2); import os; os.system('x'); nn.ReLU",
    "torch.nn.BatchNorm2d\n    import os",
    "torch.nn.modules.module.Module",
    "torch.nn.ReLU()or __import__('os').system('x')#",
    'torch.nn."""',
    "torch.nn.parallel.DataParallel",
)


@pytest.mark.parametrize("name", EVIL)
def test_only_known_classes_of_a_listing_are_written(name: str) -> None:
    shapes = {"a": (3, 4), "n": (3,)}
    index = {f"{k}.weight": TensorSpec("float32", shape, STORAGE) for k, shape in shapes.items()}
    objects = {"": name, "a": name, "n": name, "r": name, "s.t": name, "s": name}
    told = {"r@p": name, "a@stride": [name], "a@padding_mode": name, "r@inplace": True}
    checkpoint = Checkpoint("evil.pth", "pth", index, objects=objects, metadata=told)
    source = written(Canonical(checkpoint, index, {key: key for key in index}))
    tree = ast.parse(source.text)
    imports = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert set(imports) <= {"import torch", "from torch import Tensor, nn", "from torch import nn"}
    named = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not named & {"system", "DataParallel"}
    calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert not any("__" in call and not call.endswith("__init__") for call in calls)
