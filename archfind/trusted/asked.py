"""Classes of trusted code -> what the process that imports and probes them says of each. This
process imports none of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from archfind.database.plain import Unplain, decoded, encoded
from archfind.trusted.places import ways
from archfind.types import TrustedClass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO, Any

    from archfind.types import CodeClass

_START = 120.0  # seconds until the first class is imported: torch comes before it
_SILENT = 75.0  # seconds that the process may take to say another word
_LIKELY = 0.95  # of the best class's share
_ALL = 150.0  # seconds for all classes together
_POLL = 0.05
_HEAD = 4096  # bytes of answers within which the first import is told
_BYTES = 32 << 20  # of answers that are read
_TENSORS = 100_000
_SIZE = 2**48
_PROCESSES = 4  # a class that ends its process takes no other class with it
_DOING = {"starting": "starting Python", "importing": "importing it", "probing": "probing it"}


class Answer:
    """A class of the code as it was probed: what it's called with, and what it makes of that.
    `shown` are arguments that the tensors leave one value, `assumed` those that no tensor shows."""

    def __init__(self, code: CodeClass, trusted: TrustedClass, said: Mapping[str, Any]) -> None:
        self.code = code
        self.shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        for key, shape, kind in _list(said["shapes"], _TENSORS):
            sizes = tuple(_list(shape, 64))
            if not all(type(n) is int and 0 <= n < _SIZE for n in sizes):
                raise Unplain
            self.shapes[_word(key)] = sizes, _word(kind)
        objects = {_word(k): _word(v) for k, v in _pairs(said["objects"])}
        self.arguments = {_word(k): decoded(v) for k, v in _pairs(said["arguments"])}
        self.defaults = {_word(k): decoded(v) for k, v in _pairs(said["defaults"])}
        self.shown = frozenset(map(_word, _list(said["shown"])))
        self.assumed = [
            (_word(name), decoded(value), tuple(map(decoded, _list(others))))
            for name, value, others in _list(said["assumed"])
        ]
        self.tries = said["tries"] if type(said["tries"]) is int else 0
        place, paths, module, name, file = (
            trusted.place, trusted.paths, trusted.module, trusted.name, trusted.file
        )  # fmt: skip
        self.trusted = TrustedClass(place, paths, module, name, file, objects)


class Answers:
    """What was said of all classes: answers, why others have none, and what the code tried."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.refused: list[str] = []
        self.events: list[str] = []


def asked(
    classes: Sequence[CodeClass], place: str, tensors: Mapping[str, tuple[tuple[int, ...], str]]
) -> Answers:
    """The classes imported and probed in a process of its own, which has no network, limited memory
    and time, and a working folder that is gone afterwards."""
    found = Answers()
    rows: list[list[object]] = [[key, list(shape), kind] for key, (shape, kind) in tensors.items()]
    left = [(one, ways(place, one.file, one.name)) for one in classes]
    end = time.monotonic() + _ALL
    for _ in range(_PROCESSES):
        if not left:
            break
        done = _round(left, rows, end, found)
        left = left[done:]
    return found


def _round(
    classes: list[tuple[CodeClass, list[TrustedClass]]],
    rows: list[list[object]],
    end: float,
    found: Answers,
) -> int:
    """One process asked about classes; how many of them are done with."""
    best = max(code.share for code, _ in classes)
    question = {
        "classes": [
            {
                "ways": [{n: getattr(way, n) for n in _WAY} for way in ways_],
                "arguments": {k: encoded(v) for k, v in code.arguments.items()},
                "likely": code.share >= _LIKELY * best,
            }
            for code, ways_ in classes
        ],
        "tensors": rows,
    }
    with (
        tempfile.TemporaryDirectory(prefix="archfind-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as asks,
        tempfile.TemporaryFile() as tells,
    ):
        asks.write(json.dumps(question).encode())
        asks.seek(0)
        ended = run_child("archfind.trusted.child", folder, asks, tells, end)
        tells.seek(0)
        lines = tells.read(_BYTES).splitlines()
    at, stage, answered = 0, "starting", -1
    for line in lines:
        try:
            said = json.loads(line)
            number = said["at"]
            code, ways_ = classes[number if type(number) is int and number >= 0 else len(classes)]
            at = number
            stage = said["stage"] if said.get("stage") in _DOING else stage
            where = f"{code.file}:{code.line} {code.name}"
            if "event" in said:
                found.events.append(f"{code.file} asked for {_word(said['event'])}: refused")
            if "refused" in said:
                answered = at
                found.refused.append(f"{where}: {_word(said['refused'])}")
            if "answer" in said:
                answered = at
                way = said["answer"]["way"]
                trusted = ways_[way if type(way) is int and way >= 0 else len(ways_)]
                found.answers.append(Answer(code, trusted, said["answer"]))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, Unplain):
            continue  # no answer of ours
    if answered == len(classes) - 1:
        return len(classes)
    code = classes[max(at, answered + 1)][0]
    where = f"{code.file}:{code.line} {code.name}"
    found.refused.append(f"{where}: {_DOING[stage]} {ended}")
    return max(at, answered + 1) + 1


_WAY = ("place", "paths", "module", "name", "file")


def run_child(module: str, folder: str, asks: IO[bytes], tells: IO[bytes], end: float) -> str:
    """The process that runs a module of archfind's on a user's code, until it ends or a stage takes
    too long; how it ended, in words."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=folder,
        stdin=asks,
        stdout=tells,
        stderr=subprocess.DEVNULL,
        env=_environment(folder),
        start_new_session=True,
    )
    told, since = 0, time.monotonic()
    try:
        while True:
            try:
                code = process.wait(_POLL)
                return f"ended its process (exit code {code})" if code >= 0 else _signal(-code)
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            size = os.fstat(tells.fileno()).st_size
            if size != told:
                told, since = size, now
            began = not hasattr(os, "pread") or b'"importing"' in os.pread(tells.fileno(), _HEAD, 0)
            if now - since > (_SILENT if began else _START) or now > end:
                return f"didn't end within {now - since:.0f} s; it was stopped"
    finally:
        _kill(process)


def _signal(number: int) -> str:
    name = signal.Signals(number).name if number in {*signal.Signals} else number
    return f"ended its process by {name}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process with all that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _environment(folder: str) -> dict[str, str]:
    """This process's own, with what it can import, and homes and caches in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().endswith(_SECRET)}
    homes = dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "TORCH_HOME"), folder)
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return {
        **kept,
        **homes,
        "PYTHONPATH": paths,
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "MPLCONFIGDIR": folder,
        "TORCHINDUCTOR_CACHE_DIR": folder,
    }


_SECRET = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")


def _list(value: Any, most: int = 4096) -> list[Any]:
    if type(value) is not list or len(value) > most:
        raise Unplain
    return value


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if type(value) is not dict or len(value) > 4096:
        raise Unplain
    return list(value.items())


def _word(value: Any) -> str:
    if type(value) is not str or len(value) > 4096:
        raise Unplain
    return value
