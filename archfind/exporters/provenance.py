"""Where an exported file comes from, written into the file itself."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from archfind.escape import escape
from archfind.matching.recipe import assumed_document, recipe
from archfind.providers.example import Example
from archfind.types import Built


def metadata(built: Built, example: Example) -> dict[str, str]:
    """What every target carries: which network, how to build it, and from which file it was loaded.

    Values are text; those that aren't plain words are JSON.
    """
    match = built.match
    source = built.guess.canonical.checkpoint.path
    config = {k: {"value": s.value, "source": s.source} for k, s in match.config.items()}
    return {
        "archfind.architecture": match.entry.id,
        "archfind.provider": match.entry.provider,
        "archfind.config": _json(config),
        "archfind.build": _json(recipe(match)),
        "archfind.version": version("archfind"),
        "archfind.source": escape(Path(source).name),
        "archfind.source_sha256": sha256(source),
        "archfind.input_size": _json(list(example.size)),
        "archfind.mean": _json(list(example.mean)),
        "archfind.std": _json(list(example.std)),
        "archfind.chosen_by": built.guess.chosen_by,
        "archfind.model_type": match.pretrained.model_type if match.pretrained else "",
        "archfind.assumed": _json(assumed_document(match)),
        **({"archfind.grade": match.written.grade} if match.written is not None else {}),
    }


def sha256(path: str | Path) -> str:
    """The file's hash; read in pieces, since checkpoints are larger than memory at times."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, default=str)
