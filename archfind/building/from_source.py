"""Source -> Built: the module that was written for a state dict, imported and loaded strictly.

What is imported is archfind's own text, made of checked identifiers, quoted strings and numbers;
the file that it was written for is read as data, here too.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from torch import nn

from archfind.building.instantiate import load_strictly, read_state
from archfind.errors import BuildError
from archfind.frozen import replace
from archfind.types import Assumed, Built, Entry, Guess, Match, Source
from archfind.version import VERSION

PROVIDER = "source"


def build_written(guess: Guess, source: Source) -> Built:
    """The written `Model` with the file's tensors. BuildError where it can't be made."""
    checkpoint = source.canonical.checkpoint
    found = _match(source)
    try:
        module: nn.Module = imported_source(source.text).Model()
    except Exception as error:  # sizes or settings that torch refuses
        raise BuildError(f"the written module can't be made: {error}", checkpoint.path) from error
    cut = len(source.prefix)
    state = {key[cut:]: tensor for key, tensor in read_state(source.canonical).items()}
    load_strictly(module, state, found, checkpoint.path)
    status = "exact" if source.grade == "certain" else "ambiguous"
    answer = replace(
        guess, canonical=source.canonical, status=status, matches=(found,), chosen_by="source"
    )
    return Built(answer, found, module.eval(), len(state), len(state))


def imported_source(text: str, *, is_kept: bool = True) -> ModuleType:
    """The module of a written source. Its file is gone afterwards; what shows lines of it has
    them still, where it `is_kept`."""
    name = f"archfind_written_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    with tempfile.TemporaryDirectory(prefix="archfind-source-") as folder:
        path = Path(folder) / f"{name}.py"
        path.write_text(text, encoding="ascii")
        loader = SourceFileLoader(name, str(path))
        spec = spec_from_file_location(name, path, loader=loader)
        assert spec is not None
        module = module_from_spec(spec)
        loader.exec_module(module)
        if is_kept:
            lines = text.splitlines(keepends=True)
            linecache.cache[str(path)] = (len(text), None, lines, str(path))
            sys.modules[name] = module  # where torch looks for the source of a class
    return module


def _match(source: Source) -> Match:
    """The answer that the written module is: every tensor is its own, and what was assumed is
    listed."""
    count = len(source.canonical.index)
    name = "archfind.load"
    entry = Entry(PROVIDER, "Model", "Model", name, {}, {}, VERSION)
    unknown = [item for item in source.unseen if item.source not in ("file", "user", "pair")]
    unknown.sort(key=lambda item: not item.alternatives)  # what is the least sure comes first
    assumed = tuple(
        Assumed(item.place, item.reason, item.value, item.alternatives) for item in unknown
    )
    reasons = (source.words,)
    return Match(entry, {}, count, count, assumed=assumed, reasons=reasons, written=source)
