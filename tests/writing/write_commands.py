"""Every command that writes, run in forked children that can be ended at any moment.

    driver = Driver(); driver.run(COMMANDS["export .pth"], folder, kill={"event": 3})

A moment is the n-th write that Python reports below the command's folder (a folder made, a file
opened to be written, linked, renamed or removed), or a time. `python write_moments.py` is the
process that imports everything once and forks: its children start with warm libraries.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCES = {  # file, timm's or transformers' network that it holds
    "net.pth": "timm/test_resnet",
    "bert.safetensors": "transformers/BertModel",
    "gate.pt": "",
    "prefixed.pth": "timm/test_resnet",
    "demo/001.pth": "",
}
EVENTS = ("os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "open")


@dataclass(frozen=True)
class Command:
    """Arguments of archfind, run in a folder that holds SOURCES; `targets` are what it writes.
    `light` commands import no torch. `call` names a function of this module instead."""

    arguments: Sequence[str]
    targets: Sequence[str]
    light: bool = False
    call: str = ""
    source: str = ""
    old: Sequence[str] = field(default_factory=tuple)  # targets that may exist before


AS = ("--as", "timm/test_resnet", "--force")
BERT = ("--as", "transformers/BertModel", "--accept-ambiguous", "--force")
TRUST = ("--trust", "--input", "1x3x9x9", "--force")
SHARDS = tuple(f"o-0000{n}-of-00003.safetensors" for n in (1, 2, 3))
INDEX = "o.safetensors.index.json"
FOLDER = ("out/config.json", "out/model.safetensors")
SPLIT = ("--max-shard-size", "1MB", "--force")
COMMANDS = {
    "export to .safetensors": Command(
        ("export", "net.pth", "o.safetensors", "--force"), ["o.safetensors"], True,
        source="net.pth", old=["o.safetensors"],
    ),
    "export to .pth": Command(
        ("export", "net.pth", "o.pth", "--force"), ["o.pth"], True,
        source="net.pth", old=["o.pth"],
    ),
    "export to shards": Command(
        ("export", "net.pth", "o.safetensors", *SPLIT), [*SHARDS, INDEX], True,
        source="net.pth", old=[INDEX],
    ),
    "export to .onnx": Command(
        ("export", "net.pth", "o.onnx", *AS), ["o.onnx"], source="net.pth", old=["o.onnx"]
    ),
    "export to .ts": Command(
        ("export", "net.pth", "o.ts", *AS), ["o.ts"], source="net.pth", old=["o.ts"]
    ),
    "export to .pt2": Command(
        ("export", "net.pth", "o.pt2", *AS), ["o.pt2"], source="net.pth", old=["o.pt2"]
    ),
    "export to a folder": Command(
        ("export", "bert.safetensors", "out/", *BERT), FOLDER, source="bert.safetensors", old=FOLDER
    ),
    "export --trust": Command(
        ("export", "gate.pt", "o.onnx", *TRUST), ["o.onnx"], source="gate.pt", old=["o.onnx"]
    ),
    "repair -o": Command(
        ("repair", "prefixed.pth", "-o", "o.pth", "--force"), ["o.pth"],
        source="prefixed.pth", old=["o.pth"],
    ),
    "demo": Command(
        ("demo", "--folder", "demo"), ["demo/001.pth", "demo/001.onnx"], source="demo/001.pth"
    ),
    "signatures build": Command(
        (), ["signatures/torchvision/alexnet.txt"], call="build",
        old=["signatures/torchvision/alexnet.txt"],
    ),
    "signatures families": Command(
        (), ["signatures/torchvision/families/alexnet.AlexNet.txt"],
        call="families",
        old=["signatures/torchvision/families/alexnet.AlexNet.txt"],
    ),
    "signatures compile": Command(
        (), [f"signatures/{name}.bin" for name in ("index", "families", "configured")],
        call="compile", old=["signatures/index.bin"],
    ),
}  # fmt: skip


def write_sources(folder: Path) -> None:
    """SOURCES, a small signatures/, and files of somebody else's, in and beside what is written."""
    import safetensors.torch
    import torch
    import transformers

    import archfind
    from archfind.database.entries import signatures_folder as signatures
    from archfind.providers import provider

    torch.manual_seed(0)
    net = provider("timm").create("test_resnet").state_dict()
    torch.save(net, folder / "net.pth")
    torch.save({f"generator.{key}": value for key, value in net.items()}, folder / "prefixed.pth")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        vocab_size=90,
    )  # fmt: skip
    bert = transformers.BertModel(config).state_dict()
    safetensors.torch.save_file(bert, folder / "bert.safetensors")
    gate = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    torch.jit.trace(gate, torch.randn(1, 3, 9, 9)).save(folder / "gate.pt")
    (folder / "demo").mkdir()
    shutil.copy(Path(archfind.__file__).parent / "demo" / "001.pth", folder / "demo")
    (folder / "out" / ".git").mkdir(parents=True)
    for name in ("thesis.txt", "out/thesis.txt", "out/.git/HEAD", "demo/notes.txt"):
        (folder / name).write_text("mine")
    mine = folder / "signatures" / "torchvision"
    (mine / "families").mkdir(parents=True)
    known = Path(signatures())
    shutil.copytree(known / "presets", folder / "signatures" / "presets")
    shutil.copy(known / "prior.txt", folder / "signatures")
    shutil.copy(known / "torchvision" / "alexnet.txt", mine)
    family = "alexnet.AlexNet.txt"
    shutil.copy(known / "torchvision" / "families" / family, mine / "families")


class Driver:
    """The process that forks a child for each run; closed at the end of a `with`."""

    def __enter__(self) -> Driver:
        here = Path(__file__)
        self.process = subprocess.Popen(
            [sys.executable, str(here)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def run(self, command: Command, folder: Path, **how: Any) -> dict[str, Any]:
        """How a run in `folder` ended: `code` (a signal's is negative), `events`, `seconds`, `err`.
        `how`: `event` or `seconds`, when it gets `signal` (9 by default); `limit`, the bytes of the
        largest file; `out`, where its output goes."""
        assert self.process.stdin is not None and self.process.stdout is not None
        task = {"arguments": list(command.arguments), "call": command.call, "folder": str(folder)}
        self.process.stdin.write(json.dumps({**task, **how}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def _forked(task: dict[str, Any]) -> dict[str, Any]:
    """One run in a child."""
    folder = Path(task["folder"])
    err, count = folder.with_suffix(".err"), folder.with_suffix(".events")
    count.write_text("0")
    err.write_text("")
    began = time.monotonic()
    child = os.fork()
    if not child:
        code = 70
        try:
            code = _child(task, folder, err, count)
        except SystemExit as error:
            code = int(error.code or 0)
        except KeyboardInterrupt:  # of a call: main says it
            code = 130
            sys.stderr.write("error: interrupted\n")
        finally:
            sys.stderr.flush()
            os._exit(code)
    if "seconds" in task:
        _kill_at(child, began + task["seconds"], task.get("signal", signal.SIGKILL))
    status = os.waitpid(child, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    said = err.read_text(errors="replace")
    return {"code": code, "events": int(count.read_text()), "seconds": seconds, "err": said}


def _kill_at(child: int, when: float, number: int) -> None:
    while time.monotonic() < when:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return  # it was quicker
        time.sleep(min(0.002, max(0.0, when - time.monotonic())))
    os.kill(child, number)


def _child(task: dict[str, Any], folder: Path, err: Path, count: Path) -> int:
    os.setpgid(0, 0)
    for number in (signal.SIGHUP, signal.SIGTERM):  # whoever started this may ignore them
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    for number, name in ((1, task.get("out", os.devnull)), (2, str(err))):
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if number == 2 else 0)
        os.dup2(os.open(name, flags), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    if "limit" in task:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (task["limit"],) * 2)
    root, seen, busy = str(folder), 0, False
    log = os.open(count, os.O_WRONLY)

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal seen, busy
        if busy or event not in EVENTS or not isinstance(values[0], str | bytes | os.PathLike):
            return
        if event == "open" and not (int(values[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        busy = True
        is_ours = os.path.abspath(os.fsdecode(values[0])).startswith(root + "/")
        busy = False
        if is_ours:
            seen += 1
            os.pwrite(log, str(seen).encode(), 0)
            if seen == task.get("event"):
                os.kill(os.getpid(), task.get("signal", signal.SIGKILL))

    sys.addaudithook(hook)
    from archfind.cli import main
    from archfind.errors import ArchfindError

    if not task["call"]:
        return main(task["arguments"])
    try:
        return CALLS[task["call"]](folder / "signatures")
    except (ArchfindError, OSError) as error:  # as main does
        sys.stderr.write(f"error: {error}\n")
        return 2


def _build(signatures: Path) -> int:
    from archfind.learning.entries import build_signatures

    return int(build_signatures("torchvision", signatures, only="alexnet")[0] != 1)


def _families(signatures: Path) -> int:
    from archfind.learning.families import build_families

    return int(not build_families("torchvision", signatures, "AlexNet", again=True, seconds=5))


def _compile(signatures: Path) -> int:
    from archfind.learning import commands

    commands.signatures_folder = lambda: str(signatures)  # the command itself has no option for it
    return int(len(commands.compile_lines()) != 3)


CALLS: dict[str, Callable[[Path], int]] = {
    "build": _build, "families": _families, "compile": _compile,
}  # fmt: skip


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    import timm  # noqa: F401
    import torch
    import torchvision  # noqa: F401
    import transformers  # noqa: F401

    import archfind.cli
    import archfind.exporters.program
    import archfind.repair.perform
    import archfind.searching.search  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        answers.write(json.dumps(_forked(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
