"""Small networks with random configs of every model type: class, type, sizes, and a build.

    python benchmarks/configured_sweep.py [--seed 1] [--types bert,vit] [--seconds 500] [--build]

For each type a public class is drawn, and new values for its config's whole numbers, made
smaller, as long as the library takes them and builds the class on meta. Its keys are written
without data, in the module's dialect (a .pth's keys) or the published one, and guessed. Counted
are: the class or a twin, the type or a twin's, every field read from shapes, and the config giving
the same tensors when the library builds it again; where keys and shapes alone gave no answer, or
one that the library doesn't build, of the search that `load` makes then. What can't be built at all
is listed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from configured_sizes import published, write_sparse

import archfind
from archfind.building.from_config import config_and_class
from archfind.database import entries
from archfind.database.entries import signatures_folder
from archfind.database.model_types import model_types_beside
from archfind.probing.config import leaves_of_config, moved
from archfind.probing.probe import Shapes, on_meta, shapes_of
from archfind.providers import transformers as library
from archfind.searching.config_search import SECONDS, mended
from archfind.types import Match

_TRIES = 12
_SMALL = ("layer", "depth", "expert", "block")


def drawn(model_type: str, cls: type, draw: random.Random) -> tuple[object, torch.nn.Module] | None:
    """A config with new sizes, and the class built from it."""
    base = library.default_config(model_type)
    whole = {
        p: v for p, v in leaves_of_config(base).items() if type(v) is int and not p.endswith("#")
    }
    for tries in range(_TRIES):
        moves: dict[str, object] = {}
        for path, value in whole.items():
            if any(word in path for word in _SMALL) and 2 < value < 400:
                moves[path] = draw.randint(2, 4) if value > 4 else value
            elif value >= 32 and draw.random() < (0.5 - 0.04 * tries) and "token" not in path:
                # Multiples of the default's eighths keep what divides what.
                moves[path] = max(8, value * draw.choice((2, 4, 6)) // 8)
        try:
            config = library.config_of(model_type, moved(base, moves))
            if not library.is_divided(config):
                continue
            module = on_meta(lambda config=config: cls(config), {}, 20.0)
            published(module)  # where the library can't save it, it's no case
            return config, module
        except Exception:  # a library refuses values in its own ways
            continue
    return None


def field(config: object, path: str) -> object:
    """A config's field by its dotted path; None where it has none, or others in other layers."""
    for part in path.split("."):
        try:
            config = getattr(config, part, None)
        except Exception:  # a field that is another in every layer
            return None
    return config


def case(
    name: str, module: torch.nn.Module, config: object, dialect: str, place: Path
) -> list[str]:
    """What was wrong: "class", "type", "fields", "tensors"; or "searched" and "mended", where keys
    and shapes alone didn't do."""
    model_type, _, cls = name.partition("/")
    shapes = published(module) if dialect else shapes_of(module)
    write_sparse(place, shapes)
    guess = archfind.guess(place)
    wrong: list[str] = []
    if guess.status not in ("exact", "ambiguous"):
        wrong = ["searched"]
        guess = archfind.guess(guess, search=True)
    found = list(guess.matches)
    if guess.status not in ("exact", "ambiguous") or not found:
        return [*wrong, "class", "type", "fields", "tensors", guess.status]
    match = found[0]
    twins = {t.architecture for t in match.twins}
    kinds = {t.differs.partition(":")[0] for t in match.twins}
    known = match.pretrained.model_type if match.pretrained is not None else ""
    own = match.entry.name == cls and known == model_type
    if not own and cls not in twins:
        wrong.append("class")
    if known != model_type and model_type not in kinds:
        wrong.append("type")
    same = any(t.architecture == cls and t.same_function for t in match.twins)
    if guess.status == "exact" and not (own or same):
        wrong.append("exact")
    if own:
        for path, setting in match.config.items():
            value = field(config, path)
            shown = setting.source == "shape" and not path.startswith("init.")
            if shown and type(setting.value) is int and value not in (setting.value, None):
                wrong.append(f"fields {path}={setting.value} not {value}")
                break
        if not rebuilt(match, shapes, place):
            types = model_types_beside(entries.default().path)
            better = mended(guess, types, SECONDS) if types is not None else None
            if better is None or not rebuilt(better.matches[0], shapes, place):
                wrong.append("tensors")
            else:
                wrong.append("mended")
    return wrong


def rebuilt(match: Match, shapes: Shapes, place: Path) -> bool:
    """Whether the library makes a file's tensors of a match's config."""
    assert match.pretrained is not None
    try:
        again, made, switches = config_and_class(match, {}, str(place))
        built = on_meta(lambda: made(again, **switches), {}, 20.0)
        expected = published(built) if match.pretrained.keys else shapes_of(built)
    except Exception:  # of a config that the library refuses
        return False
    left = {k: s for k, s in expected.items() if k not in match.pretrained.tied}
    return all(shapes.get(k) == s for k, s in left.items() if s[1] == "float")


def main() -> int:
    """Prints a line for each case with something wrong, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--part", default="0/1", help="K/N: every N-th type, from K")
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + options.seconds
    types = sorted(
        p.stem for p in (Path(signatures_folder()) / "transformers" / "types").glob("*.txt")
    )
    random.Random(options.seed).shuffle(types)
    first, _, step = options.part.partition("/")
    types = types[int(first) :: int(step)]
    kinds = ("searched", "mended", "class", "type", "fields", "tensors", "exact")
    counts = dict.fromkeys(("cases", *kinds), 0)
    unbuilt: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "model.safetensors"
        for model_type in types:
            if options.types and model_type not in options.types.split(","):
                continue
            if time.monotonic() > end:
                break
            draw = random.Random(f"{options.seed} {model_type}")  # so that one can be run again
            name, cls = draw.choice(sorted(library.classes(model_type).items()))
            dialect = draw.choice(("", "published"))
            found = drawn(model_type, cls, draw)
            if found is None or not found[1].state_dict():
                unbuilt.append(f"{model_type}/{name}")
                continue
            wrong = case(f"{model_type}/{name}", found[1], found[0], dialect, place)
            counts["cases"] += 1
            for kind in kinds:
                counts[kind] += any(word.startswith(kind) for word in wrong)
            if wrong:
                print(f"{model_type}/{name} {dialect or 'module'}: {', '.join(wrong)}", flush=True)
    total = max(1, counts["cases"])
    print(f"{counts['cases']} types; not built: {', '.join(unbuilt) or 'none'}")
    for kind in ("class", "type", "fields", "tensors"):
        print(f"{kind} right: {1 - counts[kind] / total:.1%}")
    print(f"without a search: {1 - (counts['searched'] + counts['mended']) / total:.1%}")
    print(f"wrong exact: {counts['exact']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
