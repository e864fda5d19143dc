"""The table in docs/security.md: every command that writes, at every moment, loses nothing."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from google.protobuf.message import DecodeError
from write_commands import COMMANDS, FOLDER, INDEX, SHARDS, Command, Driver, write_sources

from archfind.writing import temporary

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="moments are reached by forking")
Files = dict[str, bytes]


class Bench:
    """A folder for each run, and what each command leaves if nothing stops it."""

    def __init__(self, place: Path, driver: Driver) -> None:
        self.place, self.driver = place, driver
        self.base, self.runs = place / "base", 0
        self.base.mkdir()
        write_sources(self.base)
        self.complete: dict[str, tuple[Files, int]] = {}

    @contextlib.contextmanager
    def folder(self, command: Command | None = None) -> Iterator[Path]:
        """A copy of the sources; for a command, with an older file at each name it may replace."""
        self.runs += 1
        copy = self.place / f"run{self.runs}"
        shutil.copytree(self.base, copy, symlinks=True)
        for name in command.old if command else ():
            (copy / name).parent.mkdir(exist_ok=True)
            is_text = (copy / name).exists()  # of signatures/, where another run gives the same
            (copy / name).write_bytes(
                (copy / name).read_bytes() + b"\n" if is_text else b"old " + name.encode()
            )
        yield copy
        shutil.rmtree(copy)

    def finished(self, name: str) -> tuple[Files, int]:
        """What a whole run leaves, and its writes."""
        if name not in self.complete:
            with self.folder(COMMANDS[name]) as folder:
                done = self.driver.run(COMMANDS[name], folder)
                assert done["code"] == 0, done
                self.complete[name] = files(folder), done["events"]
                assert set(COMMANDS[name].targets) <= set(self.complete[name][0])
                assert not left_aside(folder)
        return self.complete[name]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Driver() as driver:
        yield Bench(tmp_path_factory.mktemp("moments"), driver)


def files(folder: Path) -> Files:
    """Every file below, links as what they say, but what is aside."""
    found = {
        str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_symlink() or p.is_file()
    }
    return {
        name: os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for name, path in found.items()
        if not re.search(r"(^|/)\.(archfind|partial)-", name)
    }


def left_aside(folder: Path) -> list[Path]:
    return list(folder.rglob(".archfind-*"))


def is_new(name: str, data: bytes | None, new: Files) -> bool:
    """Whether a target is what a whole run makes of it. How far an .onnx is open may depend on how
    long attempts took: its checker, and what stands behind the graph, say that it is whole."""
    if data is None or data == new[name] or not name.endswith(".onnx"):
        return data == new[name]
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError):
        return False
    said = {entry.key: entry.value for entry in model.metadata_props}
    source = {e.key: e.value for e in onnx.load_from_string(new[name]).metadata_props}
    return said["archfind.source_sha256"] == source["archfind.source_sha256"]


def assert_nothing_lost(before: Files, after: Files, new: Files, command: Command) -> None:
    """Each target is as it was or as it becomes, all else is as it was, and files that belong
    together don't mix."""
    renewed = {name: is_new(name, after.get(name), new) for name in command.targets}
    for name, data in before.items():
        assert name in after, f"{name} is gone"
        assert after[name] == data or renewed.get(name), name
    for name in set(after) - set(before):
        assert renewed.get(name), name
    for last, others in ((INDEX, SHARDS), (FOLDER[0], FOLDER[1:])):
        if renewed.get(last):
            assert all(renewed[name] for name in others), renewed


def killed_moments(events: int, command: Command) -> list[int]:
    """Every write of commands that are quick; of the others, two of the last ones, where
    files are moved. benchmarks/write_moments.py takes fifty of each."""
    every = range(1, events + 1)
    return [*every] if command.light else [*every[-6::3]]


def before(bench: Bench, name: str, folder: Path) -> str:
    """The place for OUT doesn't exist, or is no folder."""
    command = COMMANDS[name]
    if command.call:
        shutil.rmtree(folder / "signatures")
        (folder / "signatures").write_text("no folder")
        arguments: list[str] = []
    else:
        wrong = {a: f"missing/{a}" for a in ("out/", "o.safetensors", *command.targets)}
        arguments = [wrong.get(a, a) for a in command.arguments]
        if name == "demo":
            arguments[-1] = "thesis.txt"
    had = files(folder)
    done = bench.driver.run(command, folder, arguments=arguments)
    assert (done["code"], done["err"].count("\n")) == (2, 1), done
    assert files(folder) == had and not left_aside(folder)
    return "refused"


def amid(bench: Bench, name: str, folder: Path) -> str:
    """SIGTERM and SIGHUP, which end it silently, and an interrupt, which says so."""
    command, (new, events) = COMMANDS[name], bench.finished(name)
    endings = ((signal.SIGTERM, -15), (signal.SIGHUP, -1), (signal.SIGINT, 130))
    for number, code in endings if command.light else endings[:1]:
        first = 1 + number % 3  # so that together they come at every write
        for event in range(first, events + 1, 3) if command.light else (7,):
            with bench.folder(command) as folder:
                had = files(folder)
                done = bench.driver.run(command, folder, event=event, signal=int(number))
                assert done["code"] == code, (event, done)
                assert done["err"].count("\n") == (code > 0), (event, done)
                assert_nothing_lost(had, files(folder), new, command)
                assert not left_aside(folder), event
    return "as it was"


def after(bench: Bench, name: str, folder: Path) -> str:
    """The answer can't be printed: what was written stays, or nothing was."""
    command, (new, _) = COMMANDS[name], bench.finished(name)
    had = files(folder)
    done = bench.driver.run(command, folder, out="/dev/full")
    expected = 0 if command.call else 2
    assert done["code"] == expected and done["err"].count("\n") == expected // 2, done
    assert_nothing_lost(had, files(folder), new, command)
    assert not left_aside(folder)
    return "written"


def killed(bench: Bench, name: str, folder: Path) -> str:
    """SIGKILL: what is aside stays there until archfind writes in that folder again."""
    command, (new, events) = COMMANDS[name], bench.finished(name)
    for event in killed_moments(events, command):
        with bench.folder(command) as folder:
            had = files(folder)
            done = bench.driver.run(command, folder, event=event)
            assert done["code"] == -9, (event, done)
            assert_nothing_lost(had, files(folder), new, command)
            if event != events - 5:  # among those that leave something aside
                continue
            assert bench.driver.run(command, folder)["code"] == 0
            found = files(folder)
            assert all(is_new(target, found[target], new) for target in command.targets)
            assert not left_aside(folder)
    return "old or new"


def disk_full(bench: Bench, name: str, folder: Path) -> str:
    """No file can be as large as one of the new ones."""
    command, (new, _) = COMMANDS[name], bench.finished(name)
    had = files(folder)
    limit = max(len(new[t]) for t in command.targets if t != command.source) - 1
    done = bench.driver.run(command, folder, limit=limit)
    assert (done["code"], done["err"].count("\n")) == (2, 1), done
    assert "File too large" in done["err"]
    assert_nothing_lost(had, files(folder), new, command)
    assert not left_aside(folder)
    return "as it was"


def target_exists(bench: Bench, name: str, folder: Path) -> str:
    """Refused without --force; the demo replaces nobody else's file, `signatures` its own."""
    command, (new, _) = COMMANDS[name], bench.finished(name)
    if name == "demo":
        (folder / "demo" / "001.onnx").write_text("mine")
    had = files(folder)
    arguments = [a for a in command.arguments if a != "--force"]
    done = bench.driver.run(command, folder, arguments=arguments)
    if command.call:
        assert done["code"] == 0
        assert_nothing_lost(had, files(folder), new, command)
        return "replaced"
    assert (done["code"], done["err"].count("\n")) == (2, 1) and "exists" in done["err"], done
    assert files(folder) == had and not left_aside(folder)
    return "refused"


def target_is_a_link(bench: Bench, name: str, folder: Path) -> str:
    """A link is neither followed nor replaced, as in a snapshot of the hub's cache."""
    command, (new, _) = COMMANDS[name], bench.finished(name)
    target = folder / command.targets[-1]
    target.unlink(missing_ok=True)
    target.symlink_to(folder / "thesis.txt")
    had = files(folder)
    done = bench.driver.run(command, folder)
    assert (done["code"], done["err"].count("\n")) == (2, 1) and "is a link" in done["err"], done
    assert_nothing_lost(had, files(folder), new, command)  # of several, others may be renewed
    assert target.is_symlink() and not left_aside(folder)
    return "refused"


def target_holds_the_source(bench: Bench, name: str, folder: Path) -> str:
    """The source under OUT's name, by a link or a hard link; for a folder, anywhere inside."""
    command, (new, _) = COMMANDS[name], bench.finished(name)
    if not command.source or name == "demo":
        had = files(folder)  # what they read stays beside what they write
        assert bench.driver.run(command, folder)["code"] == 0
        assert_nothing_lost(had, files(folder), new, command)
        return "its own copy" if name == "demo" else "texts stay"
    source, target = folder / command.source, folder / command.targets[-1]
    for link in (os.symlink, os.link):
        target.unlink(missing_ok=True)
        link(source, target)
        had = files(folder)
        done = bench.driver.run(command, folder)
        assert done["code"] == 2 and "is the checkpoint itself" in done["err"], done
        assert files(folder) == had and not left_aside(folder)
    return "refused"


MOMENTS: dict[str, Callable[[Bench, str, Path], str]] = {
    "before": before,
    "amid": amid,
    "after": after,
    "killed": killed,
    "disk full": disk_full,
    "target exists": target_exists,
    "target is a link": target_is_a_link,
    "target holds the source": target_holds_the_source,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_lost(name: str, moment: str, bench: Bench) -> None:
    with bench.folder(COMMANDS[name]) as folder:
        assert MOMENTS[moment](bench, name, folder) == table()[name][moment]


def test_the_table_has_every_command_and_moment() -> None:
    assert {name: [*cells] for name, cells in table().items()} == {
        name: [*MOMENTS] for name in COMMANDS
    }


@functools.cache
def table() -> dict[str, dict[str, str]]:
    """What the docs say of each command at each moment."""
    section = SECURITY.read_text().partition("\n## Writing")[2].partition("\n## ")[0]
    lines = section.partition("\n| command |")[2].partition("\n\n")[0].split("\n")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(rows[0], row[1:], strict=True)) for row in rows[2:]}


def test_a_disk_that_is_full(bench: Bench) -> None:
    place = bench.place / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "archfind-test", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can't be mounted here")
    try:
        for name in ("net.pth", "thesis.txt"):
            shutil.copy(bench.base / name, place)
        for name in ("export to .pth", "export to .safetensors", "export to shards"):
            (place / "filler").write_bytes(bytes(1_000_000))
            had = files(place)
            done = bench.driver.run(COMMANDS[name], place)
            assert (done["code"], done["err"].count("\n")) == (2, 1), done
            assert "No space left on device" in done["err"]
            assert files(place) == had and not left_aside(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_what_a_killed_process_left_is_removed_and_nothing_else(bench: Bench) -> None:
    with bench.folder() as folder:
        command = COMMANDS["export to .pth"]
        bench.driver.run(command, folder, event=bench.finished("export to .pth")[1] - 3)
        (abandoned,) = left_aside(folder)
        assert sorted(p.name for p in abandoned.iterdir()) == ["lock", "new"]
        running, lock = temporary.make(str(folder))
        elsewhere = Path(shutil.copytree(abandoned, folder / ".archfind-elsewher"))
        (elsewhere / "lock").write_bytes(b"archfind on another machine\n")
        mine = folder / ".archfind-12345678"
        (mine / "new").mkdir(parents=True)
        (mine / "new" / "thesis.txt").write_text("mine")
        link = folder / ".archfind-abcdefgh"
        link.symlink_to(elsewhere)
        assert bench.driver.run(command, folder)["code"] == 0
        assert set(folder.glob(".archfind-*")) == {Path(running), elsewhere, mine, link}
        assert (mine / "new" / "thesis.txt").read_text() == "mine"
        temporary.remove(running)
        os.close(lock)
