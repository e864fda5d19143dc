"""Runs archfind's command line in a process of its own per file, watched from within and without.

Reads one JSON array of runs from stdin, each {"argv": [...], "cwd": ...}; writes one JSON object a
line: the exit code or signal, what was printed, seconds, peak memory, and every audit event that
reading a file has no business to cause. Imports nothing but archfind and the standard library.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time

import archfind.cli

SECONDS = 60
LOOKED = 4.0  # for which an unknown network is looked for before it is refused
ROOT = os.path.dirname(os.path.abspath(archfind.__file__))
SIGNATURES = os.path.join(os.path.dirname(ROOT), "signatures")
STDLIB = (os.path.dirname(os.__file__), sys.prefix, sys.base_prefix)
LISTING = ("os.listdir", "os.scandir")
FORBIDDEN = (
    "os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty os.startfile subprocess. pty. "
    "socket. urllib. ftplib. http. smtplib. imaplib. poplib. telnetlib. nntplib. webbrowser. "
    "ctypes. pickle. marshal.load marshal.dumps code.__new__ function.__new__ shutil. tempfile. "
    "os.remove os.rename os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod os.chown "
    "os.putenv os.unsetenv os.chdir os.kill os.listdir os.scandir os.walk glob. sqlite3. mmap. "
    "builtins.input builtins.breakpoint cpython.run_ sys.settrace sys.setprofile signal."
).split()


class Watch:
    """Collects the audit events of one run that its file may not cause."""

    def __init__(self, allowed: set[str]) -> None:
        self.allowed = allowed
        self.on = True
        self.found: list[str] = []
        self.opened: list[str] = []

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            self._open(*args[:3])  # type: ignore[arg-type]
        elif event == "import":
            name = str(args[0]).partition(".")[0]
            if name != "archfind" and name not in sys.stdlib_module_names:
                self.found.append(f"import {args[0]}")
        elif event in ("exec", "compile"):
            code = args[0] if event == "exec" else args[1]
            name = getattr(code, "co_filename", code)
            if not self._ours(os.fsdecode(name) if isinstance(name, str | bytes) else repr(name)):
                self.found.append(f"{event} {name!r}")
        elif event == "mmap.__new__":
            pass  # archfind's own index is mapped; its file was checked when it was opened
        elif event == "marshal.loads":
            if sys._getframe(1).f_code.co_filename != "<frozen importlib._bootstrap_external>":
                self.found.append(event)
        elif event.startswith(tuple(FORBIDDEN)) and event not in LISTING:
            self.found.append(f"{event} {args!r}")
        elif event in LISTING and not self._ours(os.path.abspath(str(args[0]))):
            if os.path.abspath(str(args[0])) in (ROOT, *self.allowed):
                return  # the import system's own look, or a folder that was named or stands in one
            self.found.append(f"{event} {args!r}")  # the import system looks through its folders

    def _open(self, path: object, mode: object, flags: object) -> None:
        if isinstance(path, int):
            return
        where = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            if where != os.devnull:
                self.found.append(f"write {where}")
        elif where in self.allowed:
            self.opened.append(where)
        elif not self._ours(where):
            self.found.append(f"open {where}")

    @staticmethod
    def _ours(where: str) -> bool:
        if where.startswith("<frozen ") or where == "<string>":
            return where != "<string>"
        return where.startswith((ROOT + os.sep, SIGNATURES + os.sep)) or any(
            where.startswith(folder + os.sep) or where == folder for folder in STDLIB
        )


# What libraries read of the machine as they build or export.
MACHINE = ("/proc/", "/sys/", "/dev/", "/etc/os-release", "/etc/ssl/openssl.cnf", "/etc/mime.types")
# What a library has no business to do for a network that is built, wherever it is done.
NEVER = (
    "os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty os.startfile subprocess. pty. "
    "socket. urllib. ftplib. http. smtplib. imaplib. poplib. telnetlib. nntplib. webbrowser. "
    "pickle. os.chown os.kill sqlite3. builtins.input builtins.breakpoint sys.settrace"
).split()
PLACED = (  # first arguments are paths
    "os.remove os.rename os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod shutil. tempfile."
).split()


# urllib3, which model libraries import, asks the machine whether it has IPv6: it connects to nobody.
PROBES = ("socket.__new__", "socket.bind")


def _is_of_urllib3() -> bool:
    frame = sys._getframe(2)
    for _ in range(3):
        if frame is None:
            break
        if frame.f_code.co_name == "_has_ipv6" and "urllib3" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


APART = os.path.join(ROOT, "exporters", "apart.py")  # runs what it forks, and no other program


class Building(Watch):
    """For commands that build, with torch and the libraries loaded: those may import and make code
    of their own, but nothing of the file's; and everything that is written is below `out`."""

    def __init__(self, allowed: set[str], out: str) -> None:
        super().__init__(allowed)
        self.out = tempfile.tempdir = out
        self._process = os.getpid()
        self._of_copies = os.memfd_create("events")  # what copies of this process did

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if not self.on or (event in PROBES and _is_of_urllib3()):
            return
        known = len(self.found)
        self._look(event, args)
        if os.getpid() != self._process and len(self.found) > known:
            os.write(self._of_copies, (self.found[-1].replace("\n", " ") + "\n").encode())

    def of_copies(self) -> list[str]:
        """What was found in copies of the process, which the exporters make to limit attempts."""
        return os.pread(self._of_copies, 1 << 20, 0).decode().splitlines()

    def _look(self, event: str, args: tuple[object, ...]) -> None:
        if event == "os.fork" and sys._getframe(2).f_code.co_filename == APART:
            return
        if event == "open":
            self._open(*args[:3])  # type: ignore[arg-type]
        elif event == "import":
            where = args[1]
            if isinstance(where, str) and not self._ours(os.path.abspath(where)):
                self.found.append(f"import {args[0]} {where}")
        elif event in ("exec", "compile"):
            text = args[0] if event == "compile" else ""
            text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
            maker = sys._getframe(2).f_code.co_filename
            if "ARCHFIND_MARKERS" in text or not self._ours(maker):
                self.found.append(f"{event} by {maker}: {text[:80]}")
        elif event == "ctypes.dlopen":
            name = str(args[0])
            if "/" in name and not self._ours(os.path.abspath(name)):
                self.found.append(f"{event} {name}")
        elif event.startswith(tuple(PLACED)):
            first = args[0]
            where = os.path.abspath(os.fsdecode(first)) if isinstance(first, str | bytes) else ""
            if where and not where.startswith(self.out):
                self.found.append(f"{event} {args!r}")
        elif event.startswith(tuple(NEVER)):
            self.found.append(f"{event} {args!r}")

    def _open(self, path: object, mode: object, flags: object) -> None:
        if isinstance(path, int):
            return
        where = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        if where.startswith(self.out + os.sep) or where == self.out or where == os.devnull:
            return
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writes and where.startswith(MACHINE):
            return
        super()._open(path, mode, flags)


def load(path: str) -> int:
    """What `archfind.load` does with a file, as if it were a command."""
    import archfind

    try:
        archfind.load(path, accept_ambiguous=True)
    except archfind.ArchfindError as error:
        print(f"{path}: error: {error.message}", file=sys.stderr)
        return 2
    return 0


def run(task: dict, out: int, err: int, said: int) -> None:
    """The child's part: runs one command and tells what it saw; doesn't return."""
    code = 99
    files = {os.path.abspath(one) for one in task["files"]}
    watch = Building(files, task["cwd"]) if "builds" in task else Watch(files)
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(task["cwd"])
        sys.addaudithook(watch)
        try:
            command, *rest = task["argv"]
            code = load(*rest) if command == "load" else archfind.cli.main(task["argv"])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 98
        except BaseException as error:
            print(f"Traceback: {type(error).__name__}: {error!r}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        watch.on = False
        if isinstance(watch, Building):
            watch.found += watch.of_copies()
        found = {"found": watch.found[:20], "opened": sorted(set(watch.opened))}
        os.write(said, json.dumps(found).encode())
        os._exit(code)


def watched(task: dict, folder: str) -> dict:
    """Runs one task in a child, with a clock, and gives what came of it."""
    names = [os.path.join(folder, name) for name in ("out", "err", "said")]
    files = [os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for name in names]
    start = time.monotonic()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        run(task, *files)
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > 10 * SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    texts = []
    for one in files:
        os.lseek(one, 0, os.SEEK_SET)
        texts.append(b"".join(iter(lambda one=one: os.read(one, 1 << 20), b"")))
        os.close(one)
    said = json.loads(texts[2] or b'{"found": ["killed"], "opened": []}')
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": texts[0].decode("latin-1"),
        "err": texts[1].decode("latin-1"),
        "seconds": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss / 1024,
        **said,
    }


def warm() -> None:
    """Imports what a run imports, and reads what it reads of archfind's own, once for all runs:
    later, nothing but a file's own reader may follow."""
    import locale  # noqa: F401
    import pkgutil
    from encodings import cp437  # noqa: F401

    import archfind.database.entries
    import archfind.formats
    import archfind.matching.identify
    import archfind.report.answer
    import archfind.report.inspection

    for one in pkgutil.walk_packages(archfind.formats.__path__, "archfind.formats."):
        importlib.import_module(one.name)
    demo = os.path.join(ROOT, "demo", "001.pth")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for command in (["inspect"], ["inspect", "--json"], ["guess"], ["guess", "--json"]):
            assert archfind.cli.main([*command, demo]) == 0


def warm_to_build(honest: list[list[str]]) -> None:
    """Runs honest commands, so that torch and the libraries are there, and what each makes of the
    machine once is done."""
    import archfind.pipeline

    archfind.pipeline._SECONDS = LOOKED
    for command in honest:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            code = load(*command[1:]) if command[0] == "load" else archfind.cli.main(command)
        assert code == 0, command


if __name__ == "__main__":
    warm()
    tasks = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as place:
        honest = [one["argv"] for one in tasks if one.get("honest")]
        warm_to_build(honest)
        for one in [task for task in tasks if not task.get("honest")]:
            print(json.dumps(watched(one, place)), flush=True)
