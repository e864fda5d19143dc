"""Small networks of every model type with weights: found, loaded, exported as folders, opened.

    python benchmarks/configured_build.py [--seed 1] [--types bert,vit] [--seconds 500]

Each type's base class is built from its default config made small, with random weights, and saved
by the library; its model.safetensors is guessed without the config.json. Fields that no tensor
shows are given, then it is loaded and its outputs compared with the original's; then it is exported
as a folder, and what `AutoModel.from_pretrained` opens there is compared with what it opens in the
folder that the library saved.
"""

from __future__ import annotations

import argparse
import inspect
import random
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

import archfind
from archfind.database import folder
from archfind.from_config import quiet
from archfind.probing.config import leaves, moved
from archfind.probing.probe import on_meta
from archfind.providers import transformers as library

_LARGEST = 40_000_000  # parameters
_COUNTS = ("layer", "depth", "block", "stage")


def small(model_type: str, cls: type) -> Any:
    """A config from which the class is small, every width divided by the same number."""
    base = library.defaults(model_type)
    whole = {p: v for p, v in leaves(base).items() if type(v) is int and not p.endswith("#")}
    counts = {p: 2 for p, v in whole.items() if any(w in p for w in _COUNTS) and 2 < v < 400}
    few = {p: 4 for p, v in whole.items() if "expert" in p and v > 4 and "per" not in p}
    for divisor in (16, 8, 4, 2, 1):
        sizes = {p: v // divisor for p, v in whole.items() if v >= 64 and v % divisor == 0}
        sizes = {p: n for p, n in sizes.items() if "token_id" not in p and "head" not in p}
        for moves in ({**sizes, **counts, **few}, {**sizes, **counts}, sizes, counts):
            try:
                config = library.config_of(model_type, moved(base, dict(moves)))
                made = on_meta(partial(cls, config), {}, 20.0)
            except Exception:  # a library refuses values in its own ways
                continue
            total = sum(p.numel() for p in made.parameters())
            if library.is_divided(config) and 0 < total < _LARGEST:
                return config
    return None


def inputs(module: Any, draw: random.Random) -> dict[str, torch.Tensor]:
    """Something for every input that the class names and may need."""
    wanted = inspect.signature(module.forward).parameters
    config = module.config
    text = getattr(config, "text_config", config)
    vision = getattr(config, "vision_config", config)
    vocabulary = max(4, int(getattr(text, "vocab_size", None) or 16))
    image = getattr(vision, "image_size", None) or 64
    height, width = image if isinstance(image, list | tuple) else (image, image)
    channels = int(getattr(vision, "num_channels", None) or 3)
    torch.manual_seed(draw.randrange(1000))
    ids = torch.randint(3, vocabulary, (1, 7))
    mels = int(getattr(config, "num_mel_bins", None) or 80)
    length = 2 * int(getattr(config, "max_source_positions", None) or 50)
    every = {
        "input_ids": ids,
        "decoder_input_ids": ids,
        "pixel_values": torch.randn(1, channels, height, width),
        "input_values": torch.randn(1, 4000),
        "input_features": torch.randn(1, mels, length),
    }
    return {name: value for name, value in every.items() if name in wanted}


def outputs(module: Any, given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Every tensor of what a module gives."""
    with torch.no_grad(), quiet():
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
    if len(one) != len(other) or not one:
        return False
    same = [a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    nan = [bool(t.isnan().any()) for t in one if t.is_floating_point()]
    return all(same) and not all(nan)


def case(model_type: str, name: str, cls: type, config: Any, place: Path, seed: int) -> list[str]:
    """What was reached: "found", "loaded", "equal", "folder", "opened"; or why it can't be told."""
    torch.manual_seed(seed)
    with quiet():
        module: Any = cls(config).float().eval()
        module.save_pretrained(place / "own")
    try:
        given = inputs(module, random.Random(seed))
        expected = outputs(module, given)
        again = outputs(module, given)
    except Exception as error:  # inputs that this class doesn't take
        return [f"no inputs: {type(error).__name__}: {str(error)[:80]}"]
    if not equal(expected, again):
        return ["no inputs: it is random"]
    file = place / "weights.safetensors"
    (place / "own" / "model.safetensors").rename(file)
    guess = archfind.guess(file)
    match = guess.matches[0] if guess.matches else None
    if guess.status not in ("exact", "ambiguous") or match is None or match.pretrained is None:
        return [f"{guess.status}"]
    reached: list[str] = []
    if (match.pretrained.model_type, match.entry.name) != (model_type, name):
        if not any(t.architecture == name for t in match.twins):
            return [f"taken for {match.pretrained.model_type}/{match.entry.name}"]
        guess = archfind.guess(file, choose=name)
        match = guess.matches[0]
    reached.append("found")
    settings: dict[str, object] = {}
    every = leaves(library._arguments(config))  # pyright: ignore[reportPrivateUsage]
    for path, value in every.items():
        setting = match.config.get(path)
        if path.rpartition(".")[2].isdigit() or path.endswith("#"):
            continue
        if setting is None or setting.source != "shape":
            settings[path] = value
    try:
        built = archfind.load(file, choose=name, settings=settings, accept_ambiguous=True)
        reached.append("loaded")
    except Exception as error:
        return [*reached, f"load: {type(error).__name__}: {str(error)[:160]}"]
    try:
        if equal(outputs(built, given), expected):
            reached.append("equal")
        archfind.export(file, place / "out", choose=name, settings=settings, accept_ambiguous=True)
        reached.append("folder")
        file.rename(place / "own" / "model.safetensors")
        with quiet():
            mapping: Any = transformers.AutoModel._model_mapping  # pyright: ignore
            opener: Any = transformers.AutoModel if type(config) in mapping else cls
            one: Any = opener.from_pretrained(place / "own", dtype=torch.float32)
            two: Any = opener.from_pretrained(place / "out", dtype=torch.float32)
        base = inputs(one, random.Random(seed))
        if equal(outputs(one, base), outputs(two, base)):
            reached.append("opened")
    except Exception as error:
        return [*reached, f"{type(error).__name__}: {str(error)[:160]}"]
    return reached


def base_class(model_type: str, names: list[str]) -> str:
    """The class that AutoModel opens, or one like it."""
    known: Any = transformers.AutoModel._model_mapping  # pyright: ignore
    config = library.config_class(model_type)
    if config in known and known[config].__name__ in names:
        return known[config].__name__
    bases = [n for n in names if n.endswith("Model") and "For" not in n]
    return (bases or names)[0]


def main() -> int:
    """Prints a line for each type that doesn't get to the end, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + options.seconds
    types = sorted(p.stem for p in (Path(folder()) / "transformers" / "types").glob("*.txt"))
    draw = random.Random(options.seed)
    draw.shuffle(types)
    words = ("tried", "found", "loaded", "equal", "folder", "opened")
    counts: dict[str, int] = dict.fromkeys(words, 0)
    left: list[str] = []
    for model_type in types:
        if options.types and model_type not in options.types.split(","):
            continue
        if time.monotonic() > end:
            break
        classes = library.classes(model_type)
        name = base_class(model_type, sorted(classes))
        config = small(model_type, classes[name])
        if config is None:
            left.append(f"{model_type} (not small)")
            continue
        place = Path(tempfile.mkdtemp())
        try:
            reached = case(model_type, name, classes[name], config, place, options.seed)
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
