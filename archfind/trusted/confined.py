"""What the process may do in which somebody's code is imported and probed.

Limits for code that its user trusts, and that may have been written to train, log and download:
no prison for code that wants out. The system's own means come first, where it has them: name spaces
without a network, limits on memory and time. Python's audit events refuse the rest: connections,
processes, and files outside of the working folder. Code that isn't Python's can do all of that
without an event.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

_MEMORY = 12 << 30  # bytes that may be written to
_FILE = 64 << 20  # bytes of a file
_SECONDS = 600  # of processor time
_NEWUSER, _NEWNET, _NEWPID = 0x10000000, 0x40000000, 0x20000000
_NETWORK = (
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
    "socket.gethostbyaddr", "socket.getnameinfo", "socket.sendto", "socket.sendmsg",
)  # fmt: skip
_PROCESS = (
    "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile",
    "os.kill", "os.killpg", "subprocess.Popen", "pty.spawn",
)  # fmt: skip
_CHANGE = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "shutil.rmtree", "shutil.move",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PLACES = 2  # names of files in an event


def without_network() -> bool:
    """Leave the network, and become the first of a name space of processes, which all end with it;
    before any thread is started. False where the system doesn't let us."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "unshare"):
        return False
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEWUSER | _NEWNET | _NEWPID):
        return False
    with contextlib.suppress(OSError):  # a user without a name is still a user
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    return True


def limited() -> None:
    """Bounds on memory, files and processor time, where the system has them."""
    try:
        import resource
    except ImportError:
        return
    bounds = (
        (resource.RLIMIT_DATA, _MEMORY),
        (resource.RLIMIT_FSIZE, _FILE),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, bound in bounds:
        with contextlib.suppress(ValueError, OSError):
            _, most = resource.getrlimit(kind)
            bound = bound if most == resource.RLIM_INFINITY else min(bound, most)
            resource.setrlimit(kind, (bound, bound))


def watched(folder: str, told: Callable[[str], None]) -> None:
    """From now on, what the code does beyond computing and reading is refused, and told in words;
    for as long as the process lives."""
    home = os.path.realpath(folder) + os.sep
    busy = False

    def look(event: str, args: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy or (event not in watch and event != "open"):
            return
        busy = True  # asking for a path's real one is an event of its own, maybe
        try:
            text = _refusal(event, args, home)
        finally:
            busy = False
        if text:
            told(text)
            raise PermissionError(f"archfind refuses {text} to code that is probed")

    watch = frozenset((*_NETWORK, *_PROCESS, *_CHANGE))
    sys.addaudithook(look)


def _refusal(event: str, args: tuple[Any, ...], home: str) -> str:
    """What is refused, in words; "" where it isn't."""
    if event in _NETWORK:
        return "a connection"
    if event in _PROCESS:
        return "a process"
    if event == "open":
        name, mode, flags = args[0], args[1], args[2]
        written = set(mode) & set("wax+") if isinstance(mode, str) else flags & _WRITING
        names = [name] if written and isinstance(name, str | bytes | os.PathLike) else []
    else:
        names = [one for one in args[:_PLACES] if isinstance(one, str | bytes | os.PathLike)]
    for name in names:
        path = os.path.realpath(os.fsdecode(name))
        if path != os.devnull and not f"{path}{os.sep}".startswith(home):
            return f"writing {path}"
    return ""
