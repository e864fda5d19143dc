"""Real sizes: the public models of signatures/presets, built on meta by the library, their
published keys and shapes written as files without data, and guessed.

    python benchmarks/configured_sizes.py [--types llama,bert] [--seconds 500]

A case is right where the model type and class are the model's own and every size that the file
shows is the config's; `heads` counts those whose head counts come out as the config's, too.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
import tempfile
import time
from pathlib import Path

import torch

import archfind
from archfind.database.compile_model_types import read_presets
from archfind.database.entries import signatures_folder
from archfind.probing.probe import on_meta
from archfind.providers import transformers as library

_BYTES = {"F16": 2, "I64": 8, "BOOL": 1}


def write_sparse(path: Path, shapes: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """A .safetensors file with a header and no data on the disk."""
    head: dict[str, object] = {}
    at = 0
    for key, (shape, dtype) in shapes.items():
        kind = {"float": "F16", "bool": "BOOL"}.get(dtype, "I64")
        size = math.prod(shape) * _BYTES[kind]
        head[key] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(head).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)


def nested(fields: dict[str, object], base: dict[str, object]) -> dict[str, object]:
    """Dotted fields put into a config's arguments."""
    for path, value in fields.items():
        *above, last = path.split(".")
        target = base
        for part in above:
            target = target[part] if isinstance(target, dict) else target[int(part)]
        if isinstance(target, list):
            target[int(last)] = value
        else:
            target[last] = value
    return base


def published(module: torch.nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    """What `save_pretrained` would write: published keys, tied tensors once."""
    state = module.state_dict()
    tied = library.tied(module)
    own = {k: t for k, t in state.items() if not (k in tied and tied[k] in state)}
    found = {}
    for key, tensor in library.published(module, own).items():
        dtype = "float" if tensor.is_floating_point() else str(tensor.dtype)[6:]
        found[key] = (tuple(tensor.shape), dtype)
    return found


def case(name: str, model_type: str, fields: dict[str, object], place: Path) -> tuple[str, bool]:
    """What was wrong, "" for nothing, and whether the head counts are right."""
    fields = dict(fields)
    classes = library.classes(model_type)
    stated = str(fields.pop("class", ""))
    bases = [c for c in classes if c.endswith("Model") and not c.endswith("PretrainedModel")]
    cls = stated or next((c for c in bases if "Pretrained" not in c), next(iter(classes)))
    # Sizes that the library derives are left to it, as in the published config.
    arguments = nested(fields, library.default_config(model_type))
    for derived in ("head_dim", "num_key_value_heads"):
        if derived not in fields and derived in arguments:
            arguments[derived] = None
    if arguments.get("head_dim", 0) is None and "num_attention_heads" in arguments:
        arguments["head_dim"] = int(arguments["hidden_size"]) // int(
            arguments["num_attention_heads"]
        )
    config = library.config_of(model_type, arguments)
    module = on_meta(lambda: classes[cls](config), {})
    shapes = published(module)
    write_sparse(place, shapes)
    guess = archfind.guess(place)
    if not guess.matches or guess.matches[0].pretrained is None:
        return f"{guess.status}: no transformers class", False
    match = guess.matches[0]
    kinds = {(match.pretrained.model_type, match.entry.name)}
    if (model_type, cls) not in kinds:
        others = [t.architecture for t in match.twins]
        return (
            f"{guess.status}: {match.pretrained.model_type}/{match.entry.name} {others[:3]}",
            False,
        )
    wrong = []
    heads = True
    for path, setting in match.config.items():
        value: object = config
        for part in path.split("."):
            value = getattr(value, part, None)
        if path.endswith("heads") or path.endswith("n_head"):
            heads = heads and setting.value == value
        elif setting.source == "shape" and not path.startswith("init") and setting.value != value:
            wrong.append(f"{path}={setting.value} not {value}")
    if not match.fits:
        wrong.append(f"{len(match.missing)} missing {len(match.unexpected)} unexpected")
    if wrong:
        return f"{guess.status}: {', '.join(wrong[:4])}", heads
    return ("" if guess.status == "exact" else f"{guess.status} {guess.chosen_by}"), heads


def main() -> int:
    """Prints a line for each case that isn't right, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default="")
    parser.add_argument("--seconds", type=float, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + options.seconds
    known = {p.stem for p in (Path(signatures_folder()) / "transformers" / "types").glob("*.txt")}
    counts = {"exact": 0, "ambiguous": 0, "wrong": 0, "heads": 0, "skipped": 0}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "model.safetensors"
        for model_type, models in read_presets(Path(signatures_folder()) / "presets").items():
            if options.types and model_type not in options.types.split(","):
                continue
            for name, fields in models.items():
                if model_type not in known or time.monotonic() > end:
                    counts["skipped"] += 1
                    continue
                try:
                    why, heads = case(name, model_type, fields, place)
                except Exception as error:  # a library may raise anything
                    why, heads = f"{type(error).__name__}: {str(error).splitlines()[0]}", False
                kind = "exact" if not why else "wrong"
                kind = "ambiguous" if why.startswith("ambiguous ") else kind
                counts[kind] += 1
                counts["heads"] += heads
                if why:
                    print(f"{name}: {why}")
    total = counts["exact"] + counts["ambiguous"] + counts["wrong"]
    print(f"{total} models: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
