"""Small networks of every model type with weights: found, loaded, exported as folders, opened.

    python benchmarks/configured_build.py [--seed 1] [--types bert,vit] [--seconds 500] [--part 0/2]

Each type's base class, or the first that runs, is built from its default config made small, with
random weights, and saved by the library; its model.safetensors is guessed without the config.json,
and searched for as `load` does where that isn't enough.
Fields that no tensor shows are given, then it is loaded and its outputs compared with the
original's; then it is exported as a folder, and what `AutoModel.from_pretrained` opens there is
compared with what it opens in the folder that the library saved.
"""

from __future__ import annotations

import argparse
import inspect
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from small_configs import small, types

import archfind
from archfind.building.from_config import quiet_library
from archfind.probing.config import leaves_of_config
from archfind.providers import transformers as library

_CLOSE = 1e-5  # of the largest number


def inputs(name: str, module: Any) -> dict[str, Any]:
    """What the class runs on, by its `forward`'s names."""
    example = library.example(name, module)
    names = list(inspect.signature(module.forward).parameters)
    return dict(zip(names, example.args, strict=False))


def outputs(module: Any, given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Every tensor of what a module gives."""
    with torch.no_grad(), quiet_library():
        found = module.eval()(**given, return_dict=False)
    flat: list[torch.Tensor] = []

    def collect(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            flat.append(value)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(item)

    collect(found)
    return flat


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether all tensors are the same, but for the order of a sum."""
    if len(one) != len(other) or not one:
        return False
    pairs = list(zip(one, other, strict=True))
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return False
    if all(bool(a.isnan().any()) for a, _ in pairs if a.is_floating_point()):
        return False
    return all(
        torch.allclose(a.float(), b.float(), 0, _CLOSE * _largest(a), equal_nan=True)
        if a.is_floating_point()
        else torch.equal(a, b)
        for a, b in pairs
    )


def _largest(tensor: torch.Tensor) -> float:
    found = tensor.float().nan_to_num().abs()
    return float(found.max()) if found.numel() else 0.0


def case(model_type: str, name: str, module: Any, place: Path) -> list[str]:
    """What was reached: "at once" (without a search), "found", "loaded", "equal", "folder",
    "opened"; or why it can't be told."""
    config: Any = module.config
    with quiet_library():
        module.save_pretrained(place / "own")
    try:
        given = inputs(name, module)
        expected = outputs(module, given)
        again = outputs(module, given)
    except Exception as error:  # inputs that this class doesn't take
        return [f"no inputs: {type(error).__name__}: {str(error)[:80]}"]
    if not equal(expected, again):
        return ["no inputs: it is random"]
    file = place / "weights.safetensors"
    (place / "own" / "model.safetensors").rename(file)
    guess = archfind.guess(file)
    reached: list[str] = ["at once"] * (guess.status in ("exact", "ambiguous"))
    guess = archfind.guess(guess, search=True)
    match = guess.matches[0] if guess.matches else None
    if guess.status not in ("exact", "ambiguous") or match is None or match.pretrained is None:
        return [f"{guess.status}"]
    if (match.pretrained.model_type, match.entry.name) != (model_type, name):
        if not any(t.architecture == name for t in match.twins):
            return [f"taken for {match.pretrained.model_type}/{match.entry.name}"]
        named = archfind.guess(file, choose=f"transformers/{name}")
        guess = archfind.guess(named, choose=f"transformers/{name}", search=True)
        match = guess.matches[0]
    reached.append("found")
    settings: dict[str, object] = {}
    every = leaves_of_config(library._arguments(config))  # pyright: ignore[reportPrivateUsage]
    for path, value in every.items():
        setting = match.config.get(path)
        if path.rpartition(".")[2].isdigit() or path.endswith("#"):
            continue
        if setting is None or setting.source != "shape":
            settings[path] = value
    try:
        built = archfind.load(guess, settings=settings, accept_ambiguous=True)
        reached.append("loaded")
    except Exception as error:
        return [*reached, f"load: {type(error).__name__}: {str(error)[:160]}"]
    try:
        if equal(outputs(built, given), expected):
            reached.append("equal")
        archfind.export(guess, place / "out", settings=settings, accept_ambiguous=True)
        reached.append("folder")
        file.rename(place / "own" / "model.safetensors")
        with quiet_library():
            mapping: Any = transformers.AutoModel._model_mapping  # pyright: ignore
            opener: Any = transformers.AutoModel if type(config) in mapping else type(module)
            one: Any = opener.from_pretrained(place / "own", dtype=torch.float32)
            two: Any = opener.from_pretrained(place / "out", dtype=torch.float32)
        base = inputs(name, one)
        if equal(outputs(one, base), outputs(two, base)):
            reached.append("opened")
    except Exception as error:
        return [*reached, f"{type(error).__name__}: {str(error)[:160]}"]
    return reached


def main() -> int:
    """Prints a line for each type that doesn't get to the end, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--part", default="0/1", help="K/N: every N-th type, from K")
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + options.seconds
    every = types()
    random.Random(options.seed).shuffle(every)
    first, _, step = options.part.partition("/")
    every = every[int(first) :: int(step)]
    words = ("tried", "at once", "found", "loaded", "equal", "folder", "opened")
    counts: dict[str, int] = dict.fromkeys(words, 0)
    left: list[str] = []
    for model_type in every:
        if options.types and model_type not in options.types.split(","):
            continue
        if time.monotonic() > end:
            break
        try:
            name, module = small(model_type)
        except Exception as error:  # a library may raise anything
            left.append(f"{model_type} ({str(error).partition(': ')[2][:100]})")
            continue
        place = Path(tempfile.mkdtemp())
        try:
            reached = case(model_type, name, module, place)
        except Exception as error:  # a library may raise anything
            reached = [f"no inputs: {type(error).__name__}: {str(error)[:80]}"]
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if reached[0].startswith("no inputs"):
            left.append(f"{model_type} ({reached[0]})")
            continue
        counts["tried"] += 1
        for word in reached:
            counts[word] = counts.get(word, 0) + (word in counts)
        if reached[-1] != "opened" or "equal" not in reached:
            print(f"{model_type}/{name}: {', '.join(reached)}", flush=True)
    print(f"left out: {len(left)}: {'; '.join(left)}")
    print(
        ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "tried")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
