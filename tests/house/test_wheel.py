"""The wheel: compiled tables without the texts that they are made of, and all that it then can."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from archfind.learning.commands import show_lines

pytestmark = pytest.mark.light

ROOT = Path(__file__).parents[2]
BYTES = 12_000_000  # unpacked


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What installing the wheel puts into site-packages."""
    place = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(place), versions=["standard"])
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place / "site")
    return place / "site"


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = "import sys; from archfind.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-S", "-c", script, *arguments],
        cwd=installed,
        env={"PYTHONPATH": str(installed), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )


def test_the_wheel_is_small_and_has_no_texts(installed: Path) -> None:
    files = [path for path in installed.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < BYTES
    tables = {path.name for path in (installed / "archfind" / "signatures").rglob("*")}
    assert tables == {"index.bin", "families.bin", "configured.bin", "older.txt"}
    modules = {path.relative_to(ROOT) for path in (ROOT / "archfind").rglob("*.py")}
    assert {path.relative_to(installed) for path in installed.rglob("*.py")} == modules


def test_an_installed_wheel_names_a_checkpoint(installed: Path) -> None:
    done = run(installed, "guess", str(ROOT / "archfind" / "demo" / "001.pth"))
    assert done.returncode == 0, done.stderr
    assert "timm/test_efficientnet" in done.stdout


def test_signatures_are_shown_as_in_a_checkout(installed: Path) -> None:
    done = run(installed, "signatures", "show", "timm/resnet18", "smp/Unet-resnet34")
    assert done.stdout.splitlines() == show_lines(["timm/resnet18", "smp/Unet-resnet34"])


@pytest.mark.parametrize("action", [("compile",), ("build", "timm"), ("families", "timm")])
def test_what_needs_the_texts_says_where_they_are(installed: Path, action: tuple[str, ...]) -> None:
    before = {path: path.read_bytes() for path in (installed / "archfind").glob("signatures/*")}
    done = run(installed, "signatures", *action)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "repository" in done.stderr
    assert before == {path: path.read_bytes() for path in before}
