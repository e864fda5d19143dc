"""A package that isn't run until somebody asks for its names is the same package then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archfind.providers.unopened import unopened


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package "registry" that imports one of its two modules, and counts how often it is run."""
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import sys\n"
        "sys.runs = getattr(sys, 'runs', 0) + 1\n"
        "from .one import One\n"
        "__all__ = ['One']\n"
    )
    (folder / "one.py").write_text("class One: pass\n")
    (folder / "other.py").write_text("from registry.one import One\nclass Other(One): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _run(package: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"from archfind.providers.unopened import unopened\n{code}"],
        capture_output=True,
        text=True,
        cwd=package,
        env={"PYTHONPATH": f"{package}:{Path(__file__).parents[2]}"},
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "asks",
    ["registry.One", "from registry import One", "from registry import *", "registry.__all__"],
)
def test_a_package_runs_once_when_it_is_asked_for_a_name(package: Path, asks: str) -> None:
    code = f"""
import sys
unopened("registry"), unopened("registry")
import registry.other
print(hasattr(sys, "runs"))
other = registry.other.Other
{asks}
from registry import One
from registry.one import One as again
print(sys.runs, One is again, registry.other.Other is other, hasattr(registry, "Two"))
"""
    assert _run(package, code) == "False\n1 True True False"


def test_a_package_that_is_there_stays_what_it_is(package: Path) -> None:
    code = "import sys, registry\nunopened('registry')\nprint(sys.runs, type(registry).__name__)"
    assert _run(package, code) == "1 module"


def test_a_package_that_is_missing_is_said_to_be() -> None:
    with pytest.raises(ModuleNotFoundError) as error:
        unopened("no_such_package_here")
    assert error.value.name == "no_such_package_here"


def test_one_restorer_is_built_without_the_others() -> None:
    code = """
import sys
from archfind.providers import provider
built = type(provider("spandrel").create("MoSR"))
print("torchvision" in sys.modules)
import spandrel
print(any(type(a.architecture).__module__ == "spandrel.architectures.MoSR"
          for a in spandrel.MAIN_REGISTRY))
from spandrel.architectures.MoSR import MoSR
print(MoSR is built)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "True"]
