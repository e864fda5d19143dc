"""How often key names alone name a class of transformers.

    python benchmarks/key_names.py draw CORPUS.jsonl [--seed 1] [--classes 3] [--seconds 500]
    python benchmarks/key_names.py CORPUS.jsonl [--types bert,vit] [-v]

`draw` appends small configs of every model type to a corpus, up to `--classes` of its classes with
a config for each (drawn_configs.py says how), a line for each way that its keys are written. What
is there already isn't drawn again. Then each header is guessed, and counted are, without a search:
the class or a twin named in an answer; named first by a `close` one; the type; and wrong `exact`.

    python benchmarks/key_names.py CORPUS.jsonl --load 120 --results R.jsonl [--seconds 280]

With `--load N` a sample of N is built with weights, loaded strictly from the file, a search among
it, with what no tensor shows given, and its outputs are compared with those of the module
(loaded_names.py says how). The same command goes on where the last ended, after `--seconds`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import archfind
from archfind.types import Guess

WORDS = ("named", "first", "type", "wrong")  # of which the last is wrong


def said(guess: Guess) -> tuple[set[str], set[str]]:
    """The classes and the types that an answer names, those of twins too; of a close one those of
    the first."""
    first = guess.matches[:1] if guess.status == "close" else guess.matches
    classes = {one.entry.name for one in first}
    types = {one.pretrained.model_type for one in first if one.pretrained is not None}
    for one in first:
        classes |= {twin.architecture for twin in one.twins}
        types |= {twin.differs.partition(":")[0] for twin in one.twins}
    return classes, types


def judged(name: str, guess: Guess) -> set[str]:
    """Which of WORDS hold of an answer about a class."""
    model_type, _, cls = name.partition("/")
    if guess.status not in ("exact", "ambiguous", "close"):
        return set()
    classes, types = said(guess)
    words = {"type"} if model_type in types else set()
    if cls in classes:
        words.add("first" if guess.status == "close" else "named")
    if guess.status == "exact":
        first = guess.matches[0]
        same = any(t.architecture == cls and t.same_function for t in first.twins)
        if first.entry.name != cls and not same:
            words.add("wrong")
    return words


def draw(corpus: Path, seed: int, several: int, seconds: float, only: set[str]) -> None:
    """Append headers to a corpus until `seconds` are over."""
    from drawn_configs import drawn, public_types, written

    there: set[str] = set()
    if corpus.exists():
        there = {json.loads(line)["name"] for line in corpus.open()}
    end = time.monotonic() + seconds
    order = random.Random(seed)
    types = list(public_types().items())
    order.shuffle(types)
    picked = {t: order.sample(names, min(several, len(names))) for t, names in types}
    with corpus.open("a") as out:
        for number in range(several):
            for model_type, names in picked.items():
                name = f"{model_type}/{names[number]}" if number < len(names) else ""
                if not name or name in there or (only and model_type not in only):
                    continue
                if time.monotonic() > end:
                    return
                source = random.Random(f"{seed} {name}")
                try:
                    found = drawn(model_type, names[number], source)
                    ways = list(written(found[1], source)) if found is not None else []
                except Exception as error:  # what can't be saved is no case
                    print(f"{name}: {type(error).__name__}: {error}"[:150], file=sys.stderr)
                    continue
                moves = found[0] if found is not None else {}
                if not ways:
                    print(f"{name}: nothing that was drawn is built", file=sys.stderr)
                for way, shapes in ways:
                    index = [[key, list(shape), kind] for key, (shape, kind) in shapes.items()]
                    line = {"name": name, "way": way, "seed": seed, "moves": moves, "index": index}
                    out.write(json.dumps(line) + "\n")
                out.flush()


def guessed(case: dict[str, Any], place: Path) -> Guess:
    """The answer about a header of a corpus."""
    from configured_sizes import write_sparse

    write_sparse(place, {key: (tuple(shape), kind) for key, shape, kind in case["index"]})
    return archfind.guess(place)


def print_shares(counts: dict[str, Counter[str]]) -> None:
    """A line for each way of naming."""
    for way, count in counts.items():
        total = count["cases"]
        shares = ", ".join(
            f"{word} {count[word] / total:.1%}" for word in ("named", "first", "type")
        )
        status = ", ".join(f"{count[s]} {s}" for s in ("exact", "ambiguous", "close", "unknown"))
        print(f"{way}: {total} headers: {shares}, wrong exact {count['wrong']}; {status}")


def main() -> int:
    """Prints a line for each header whose class isn't named, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--types", default="")
    parser.add_argument("--load", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("loaded.jsonl"))
    parser.add_argument("--limit", type=float, default=150)
    parser.add_argument("--again", default="")
    parser.add_argument("-v", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    only = set(filter(None, options.types.split(",")))
    if options.corpus[0] == "draw":
        place = Path(options.corpus[1])
        draw(place, options.seed, options.classes, options.seconds, only)
        return 0
    if options.load:
        from loaded_names import load_sample, sampled

        texts = (Path(corpus).read_text() for corpus in options.corpus)
        cases = [json.loads(line) for text in texts for line in text.splitlines()]
        cases = [c for c in cases if not only or c["name"].partition("/")[0] in only]
        cases = sampled(cases, options.load, options.seed)
        load_sample(cases, options.results, options.limit, options.seconds, options.again)
        return 0
    counts: dict[str, Counter[str]] = {}
    types: set[str] = set()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "model.safetensors"
        for corpus in options.corpus:
            for line in Path(corpus).read_text().splitlines():
                case = json.loads(line)
                model_type = case["name"].partition("/")[0]
                if only and model_type not in only:
                    continue
                start = time.process_time()
                guess = guessed(case, place)
                took = time.process_time() - start
                words = judged(case["name"], guess)
                older = case["way"] in ("older", "based")
                count = counts.setdefault("older names" if older else "today's names", Counter())
                count.update(("cases", guess.status, *words))
                types.add(model_type)
                if options.v or "named" not in words or "wrong" in words:
                    first = guess.matches[0].entry.name if guess.matches else ""
                    text = ", ".join(sorted(words)) or "missed"
                    print(
                        f"{case['name']} {case['way']}: {text}; {guess.status} {first} {took:.2f}s",
                        flush=True,
                    )
    print_shares(counts)
    print(f"{len(types)} types")
    return 0


if __name__ == "__main__":
    sys.exit(main())
