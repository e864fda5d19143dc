"""What a command prints with --json where it fails: all of its keys, with nothing in them but why.

`schema.json` beside this file is the contract of every command's JSON, and has these defaults.
"""

from __future__ import annotations

import os

from archfind.errors import CheckpointError, InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.errors import ArchfindError

SCHEMA = os.path.join(os.path.dirname(__file__), "schema.json")
_PATHS = {"repair": "source"}  # the key that names the file, where it isn't `path`


def error_document(command: str, path: str, error: ArchfindError) -> dict[str, Any]:
    """The object of a command ("guess") whose work on `path` failed: the file, the error in words,
    and what loading the file would have run; all other keys as in an answer, empty."""
    import json

    with open(SCHEMA, encoding="utf-8") as file:
        properties = json.loads(file.read())["$defs"][command]["properties"]
    document = {name: given["default"] for name, given in properties.items()}
    document[_PATHS.get(command, "path")] = path
    document["error"] = error.message
    document["danger"] = list(error.danger) if isinstance(error, CheckpointError) else []
    document["report"] = dict(error.report) if isinstance(error, InternalError) else None
    return document
