"""Every hostile or damaged file ends as it should, and nothing that it holds is run.

The command line reads each file of tests/hostile in a process of its own, under an audit hook.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile import CASES
from hostile.build import MARKERS
from hostile.case import READ, REFUSED
from hostile.pickles import GADGETS

DRIVER = Path(__file__).parents[1] / "hostile" / "driver.py"
SECONDS, MEGABYTES = 20, 512  # twice the 10 s of CPU time that are promised: machines are busy
BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
COMMANDS = (("inspect",), ("guess", "--fail-on-danger"), ("inspect", "--json"), ("guess", "--json"))


def drive(tasks: list[dict[str, object]], markers: Path) -> list[dict]:
    """What the driver saw of each task; two drivers share the work."""

    def part(some: list[dict[str, object]]) -> list[dict]:
        done = subprocess.run(
            [sys.executable, str(DRIVER)],
            input=json.dumps(some),
            capture_output=True,
            text=True,
            env=os.environ | {MARKERS: str(markers)},
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(2) as pool:
        odd, even = pool.map(part, (tasks[::2], tasks[1::2]))
    found: list[dict] = [{}] * len(tasks)
    found[::2], found[1::2] = odd, even
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, tuple[str, ...]], dict]:
    """Every case read by every command; what was left behind by any is asserted here."""
    base = tmp_path_factory.mktemp("hostile")
    markers, cwd = base / "markers", base / "cwd"
    markers.mkdir()
    cwd.mkdir()
    tasks: list[dict[str, object]] = []
    keys: list[tuple[str, tuple[str, ...]]] = []
    before: dict[Path, bytes] = {}
    for number, case in enumerate(CASES):
        folder = base / f"{number:04}"
        folder.mkdir()
        path = case.write(folder)
        files = [str(one) for one in folder.rglob("*")] + [str(path)]
        before |= {Path(one): state(Path(one)) for one in files}
        # a bomb takes seconds to be refused, and has nothing to say in JSON that others haven't
        count = 1 if "bomb/" in case.name else 2 if number % 6 else 4
        for command in COMMANDS[:count]:
            tasks.append({"argv": [*command, "--", str(path)], "cwd": str(cwd), "files": files})
            keys.append((case.name, command))
    found = dict(zip(keys, drive(tasks, markers), strict=True))
    assert list(markers.iterdir()) == [], "a payload ran"
    assert list(cwd.iterdir()) == [], "a file was left behind"
    after = {one for number in range(len(CASES)) for one in (base / f"{number:04}").rglob("*")}
    assert after <= set(before), "a file was left beside the one that was read"
    assert all(state(path) == was for path, was in before.items()), "an input was changed"
    return found


def state(path: Path) -> bytes:
    """A file's size and time of change."""
    try:
        found = path.lstat()
    except OSError:
        return b""
    return f"{found.st_size} {found.st_mtime_ns}".encode()


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: case.name.encode("unicode_escape").decode()
)
def test_case(case, seen) -> None:  # type: ignore[no-untyped-def]
    for command in COMMANDS:
        found = seen.get((case.name, command))
        if found is None:
            continue
        printed = found["out"] + found["err"]
        assert found["found"] == [], "reading it caused this"
        assert found["code"] in codes(case, command), printed
        assert "Traceback" not in printed and "can't be followed" not in printed, printed
        assert_clean(found["out"], found["err"])
        assert found["seconds"] < SECONDS and found["megabytes"] < MEGABYTES
        assert not re.search(r"\bis safe\b", printed)
        if case.code == REFUSED:
            errors = found["err"].splitlines()
            assert len(errors) == 1 and ": error: " in errors[0], errors
        if command == ("inspect",):
            assert case.says in printed
        assert case.danger == ("DANGER: " in found["err"] or '"danger": ["' in found["out"]), (
            printed
        )
        if "--json" in command:
            document = json.loads(found["out"])
            assert bool(document["danger"]) == case.danger
            assert (document["error"] is None) == (case.code == READ)


def codes(case, command: tuple[str, ...]) -> set[int]:  # type: ignore[no-untyped-def]
    """What the command may end with."""
    if "--fail-on-danger" in command and case.danger:
        return {3}
    if case.code == REFUSED:
        return {2}
    return {0} if command[0] == "inspect" else {0, 1}


def assert_clean(*streams: str) -> None:
    """Nothing that a terminal would obey, and no text that reads other than it stands."""
    for stream in streams:
        text = stream.encode("latin-1").decode("utf-8")
        for char in set(text) - {"\n"}:
            assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp"), repr(char)
            assert unicodedata.bidirectional(char) not in BIDI, repr(char)
            assert char not in "\u200b\u200c\u200d\u2060\ufeff", repr(char)


def test_there_are_enough_of_every_kind() -> None:
    kinds: dict[str, int] = {}
    for case in CASES:
        kind = case.name.partition("/")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    assert len({case.name for case in CASES}) == len(CASES) >= 500
    assert min(kinds[kind] for kind in "pickle zip legacy tar safetensors index onnx".split()) >= 25
    assert len(GADGETS) >= 100


def test_the_payloads_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, the marker folder could be empty because the payloads do nothing."""
    from hostile.build import call, pickled
    from hostile.pickles import PLACES

    monkeypatch.setenv(MARKERS, str(tmp_path))
    for dotted in ("os.system", "posix.system", "builtins.exec", "builtins.eval", "timeit.timeit"):
        pickle.loads(pickled(call(dotted, *dict(GADGETS)[dotted])))
        assert (tmp_path / "ran").exists(), dotted
        (tmp_path / "ran").unlink()
    ran = []
    for place, data, _ in PLACES:
        if data[:2] != b"PK":
            with contextlib.suppress(Exception):
                pickle.loads(data)
            if (tmp_path / "ran").exists():
                ran.append(place)
                (tmp_path / "ran").unlink()
    assert len(ran) > 15, ran
