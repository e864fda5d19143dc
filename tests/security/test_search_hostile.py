"""`guess --search` on shapes that nobody has: tensors of 2**31 rows, a network of a million numbers
in its keys. It neither allocates what a file claims nor goes on beyond what it announces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from archfind.errors import BuildError
from archfind.probing.probe import on_meta

SECONDS = 4.0  # that a search may take
MORE = 40.0  # processor time for the libraries' import, the guess, and what a constructor is amid
MEGABYTES = 3_000  # beside what the libraries take
CASES = ("wide", "odd", "one odd", "wide regnet", "table", "last block", "rank 7", "no rows")

CHILD = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from archfind.database.entries import default
from archfind.matching.identify import guess_checkpoint
from archfind.report.answer import guess_document, guess_lines
from archfind.types import Checkpoint, Storage, TensorSpec
from fuzz.described import shapes_of

known = default()

def network(name):
    return {k: s for k, (s, _) in shapes_of(known.signature(known.named(name)[0])).items()}

def times(shapes, by, more=0):
    return {k: tuple(n * by + more if n >= 64 else n for n in s) for k, s in shapes.items()}

def among(shapes, word, change):
    return {k: change(s) if word in k else s for k, s in shapes.items()}

net, vit = network("timm/resnet18"), network("timm/vit_tiny_patch16_224")
made = {
    "wide": lambda: times(net, 1 << 25),
    "odd": lambda: times(net, 1 << 20, 1),
    "one odd": lambda: among(net, "layer2.0.conv1.", lambda s: (1 << 31, *s[1:])),
    "wide regnet": lambda: times(network("torchvision/regnet_y_400mf"), 1 << 14),
    "table": lambda: among(vit, "pos_embed", lambda s: (1, (1 << 63) - 1, s[2])),
    "last block": lambda: {k.replace("s.11.", "s.999999999."): s for k, s in vit.items()},
    "rank 7": lambda: among(vit, "qkv", lambda s: (1, 1, 1, 1, *s)),
    "no rows": lambda: among(vit, "qkv", lambda s: (0, *s[1:])),
}[sys.argv[2]]()
index = {
    k: TensorSpec("int64" if "num_batches" in k else "float32", s, Storage("x", k, -1, 4))
    for k, s in made.items()
}
found = guess_checkpoint(Checkpoint("x.pth", "torch-zip", index), known)
from archfind.searching.search import search
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = search(found, known, seconds=float(sys.argv[3]))
guess_lines(guess_document(found))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([found.status, time.process_time(), (peak - before) >> 10]))
"""


@pytest.mark.parametrize("case", CASES)
def test_a_search_for_impossible_shapes_ends(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parents[1]), case, str(SECONDS)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    status, processor, megabytes = json.loads(done.stdout.splitlines()[-1])
    assert status in ("exact", "ambiguous", "close", "unknown")
    assert processor < SECONDS + MORE
    assert megabytes < MEGABYTES


class _Counting(nn.Module):
    """Asks for values, which a module on the meta device hasn't got."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.scale = float(self.first.weight.sum())
        self.rest = nn.Linear(width, width)


class _Filling(nn.Module):
    """Makes its tensor past torch's functions, and fills it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = float(torch.ones(1).sum())
        self.table = nn.Parameter(torch.Tensor(width))
        nn.init.ones_(self.table)


@pytest.mark.parametrize("cls", [_Counting, _Filling])
def test_a_constructor_that_needs_storage_gets_no_more_than_a_bound(cls: type[nn.Module]) -> None:
    module = on_meta(cls, {"width": 8}, 60)
    assert not any(tensor.is_meta for tensor in module.parameters())
    with pytest.raises((BuildError, RuntimeError)):
        on_meta(cls, {"width": 1 << 33}, 60)
