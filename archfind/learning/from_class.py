"""A class of the user's own code -> a signature with its arguments, and rules for others. The code
is imported in a process apart, as for `--code PLACE --trust`."""

from __future__ import annotations

import json
import os
import tempfile
import time

from archfind.database.plain import Unplain, decoded
from archfind.database.user_text import UserText, check_name, parsed_signature
from archfind.errors import SignatureError
from archfind.trusted.asked import run_child
from archfind.trusted.learnt import located
from archfind.trusted.places import ways
from archfind.types import TrustedClass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_BYTES = 16 << 20  # of an answer
_SECONDS = 50.0  # for rules
_ALL = 150.0
_DOING = {"starting": "starting Python", "importing": "importing it", "probing": "building it"}


def signature_of(
    target: str, name: str = "", arguments: str = ""
) -> tuple[UserText, TrustedClass, tuple[str, ...]]:
    """The signature of the class `target` ("mypkg.nets:Net", "nets.py:Net") called with arguments
    that are an object of JSON; the class as it was imported; and what its code tried and wasn't
    let. SignatureError where it can't be made."""
    way = _way(target)
    name = name or f"{way.module.partition('.')[0]}/{way.dotted.partition('.')[2]}"
    check_name(name)
    told = _told(arguments)
    found, refusals = _asked(way, name, told, target)
    try:
        fields = found["fields"]
        text = UserText(
            name,
            tuple(map(_word, found["lines"])),
            f"the class {way.dotted}",
            way.dotted,
            {_word(key): decoded(value) for key, value in found["arguments"].items()},
            {key: int(value) for key, _, value in [fields.partition("=")] if key},
            tuple(map(_word, found["families"])),
            unseen=_unseen(found["open"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, Unplain) as error:
        raise SignatureError("the process that imported it gave no signature", target) from error
    return _checked(text, target), way, refusals


def _unseen(found: Any) -> dict[str, list[object]] | None:
    return None if found is None else {_word(k): [*map(decoded, others)] for k, others in found}


def _checked(text: UserText, target: str) -> UserText:
    """The signature as it will be read; without its rules where those don't say its own tensors in
    the way that is asked of them."""
    try:
        return parsed_signature(text.written().encode())
    except SignatureError as error:
        if not text.families:
            raise SignatureError(error.message, target) from error
    text.families = ()
    return _checked(text, target)


def _way(target: str) -> TrustedClass:
    """How the class is imported: from a file, or as a module that Python finds, the current folder
    last."""
    module, colon, name = target.rpartition(":")
    if not (colon and module and name.isidentifier()):
        raise SignatureError(f"{target!r} is no PACKAGE.MODULE:CLASS, and no FILE.py:CLASS")
    if module.endswith(".py"):
        if not os.path.isfile(module):
            raise SignatureError("no such file", module)
        return ways(os.path.dirname(os.path.abspath(module)), module, name)[0]
    if not all(map(str.isidentifier, module.split("."))):
        raise SignatureError(f"{module!r} is no module's name")
    here = os.getcwd()
    file = located(module, (here,))
    paths = (here,) if file.startswith(here + os.sep) else ()
    return TrustedClass(target, paths, module, name, file)


def _told(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text or "{}")
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not all(name.isidentifier() for name in told):
        raise SignatureError(
            f"--args wants an object of JSON, like '{{\"width\": 24}}', not {text!r}"
        )
    return told


def _asked(
    way: TrustedClass, name: str, told: Mapping[str, Any], target: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the process apart says of the class, and what its code tried."""
    fields = ("place", "paths", "module", "name", "file")
    question = {
        "way": {field: getattr(way, field) for field in fields},
        "dotted": way.dotted,
        "name": name,
        "arguments": told,
        "seconds": _SECONDS,
    }
    with (
        tempfile.TemporaryDirectory(prefix="archfind-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as asks,
        tempfile.TemporaryFile() as tells,
    ):
        asks.write(json.dumps(question).encode())
        asks.seek(0)
        module = "archfind.learning.class_child"
        ended = run_child(module, folder, asks, tells, time.monotonic() + _ALL)
        tells.seek(0)
        lines = tells.read(_BYTES).splitlines()
    stage, refusals = "starting", []
    for line in lines:
        try:
            said = json.loads(line)
            stage = said["stage"] if said.get("stage") in _DOING else stage
            if "event" in said:
                refusals.append(f"{way.file} asked for {_word(said['event'])}: refused")
            if "refused" in said:
                raise SignatureError(_word(said["refused"]), target)
            if isinstance(said.get("answer"), dict):
                return said["answer"], tuple(refusals)
        except (ValueError, TypeError, AttributeError, Unplain):
            continue  # no answer of ours
    raise SignatureError(f"{_DOING[stage]} {ended}", target)


def _word(value: Any) -> str:
    if type(value) is not str:
        raise Unplain
    return value
