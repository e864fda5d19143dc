"""How many of a corpus's files load strictly: `key_names.py CORPUS --load N` runs this.

A sample of N is drawn by a seed, half of it in older names. Each file is built with weights in a
process of its own, which ends after `--limit` seconds; what came of it is a line of `--results`,
and what stands there already isn't run again, so that a sample may be run in pieces (`--seconds`),
or run again after a change (`--again searched,refused`).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from configured_build import equal, inputs, outputs
from drawn_configs import base_of, older
from key_names import judged
from safetensors.torch import save_file

import archfind
from archfind.probing.config import leaves_of_config, moved
from archfind.providers import transformers as library
from archfind.types import Guess

_LARGE = 100_000_000  # numbers: files of more aren't drawn, as they're held three times
_TODAY = ("module", "published")
_STRICT = ("equal", "loaded")


def loaded(case: dict[str, Any], place: Path) -> tuple[str, str, str]:
    """What a guess alone says of a class of a corpus, with weights; how far it gets: "equal";
    "loaded", where outputs differ or no input is known that it runs on; "searched", where a search
    finds no such class; "refused" by archfind.load; "unbuilt", which says nothing; and why."""
    model_type, _, cls = case["name"].partition("/")
    torch.manual_seed(0)
    try:
        config = library.config_of(model_type, moved(base_of(model_type, cls), case["moves"]))
        module: Any = library.classes(model_type)[cls](config).eval()
    except Exception as error:  # what is built on meta alone
        return "", "unbuilt", _said(error)
    given: dict[str, Any] = {}
    expected: list[torch.Tensor] = []
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            given = inputs(case["name"], module)
        expected = outputs(module, given)
        why = "" if equal(expected, outputs(module, given)) else "it is random"
    except Exception as error:  # inputs that a class doesn't take
        why = _said(error)
    own = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    state = {"published": library.published, "older": older}.get(case["way"], _plain)(module, own)
    prefix = f"{module.base_model_prefix}." if case["way"] == "based" else ""
    written = {key for key, _, _ in case["index"]}
    state = {prefix + key: value.contiguous().clone() for key, value in state.items()}
    save_file({key: value for key, value in state.items() if key in written}, place)
    first = archfind.guess(place)
    guess = archfind.guess(first, search=True)
    if "named" not in judged(case["name"], guess) or not guess.matches:
        return first.status, "searched", _answer(guess)
    if guess.matches[0].entry.name != cls:
        guess = archfind.guess(place, choose=f"transformers/{cls}")
        guess = archfind.guess(guess, choose=f"transformers/{cls}", search=True)
    settings: dict[str, object] = {}
    match = guess.matches[0]
    for path, value in leaves_of_config(library._arguments(config)).items():  # pyright: ignore
        setting = match.config.get(path)
        is_item = path.rpartition(".")[2].isdigit() or path.endswith("#")
        if not is_item and (setting is None or setting.source != "shape"):
            settings[path] = value
    try:
        built = archfind.load(guess, settings=settings, accept_ambiguous=True)
    except Exception:  # what isn't shown may be refused beside rules that are wrong
        try:
            built = archfind.load(guess, accept_ambiguous=True)
        except Exception as error:
            return first.status, "refused", _said(error)
    if why:
        return first.status, "loaded", f"no inputs: {why}"
    try:
        is_equal = equal(outputs(built, given), expected)
        return first.status, "equal" if is_equal else "loaded", "" if is_equal else "other outputs"
    except Exception as error:
        return first.status, "loaded", f"it doesn't run: {_said(error)}"


def _plain(module: object, own: dict[str, Any]) -> dict[str, Any]:
    return own


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _answer(guess: Guess) -> str:
    if not guess.matches:
        return guess.status
    first = guess.matches[0]
    wrong = [*first.missing, *first.unexpected, *(one.key for one in first.mismatched)]
    few = f", {len(wrong)} wrong: {' '.join(wrong[:3])}" if wrong else ""
    return f"{guess.status} {first.entry.name}{few}"


def sampled(cases: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Cases drawn by a seed, as many in older names as in today's, no class twice before all are
    drawn; larger ones than fit a small machine left out."""
    draw = random.Random(seed)
    small = [c for c in cases if sum(math.prod(shape) for _, shape, _ in c["index"]) <= _LARGE]
    draw.shuffle(small)
    names: Counter[str] = Counter()
    parts: tuple[list[Any], list[Any]] = ([], [])
    for case in small:
        parts[case["way"] in _TODAY].append((names[case["name"]], case))
        names[case["name"]] += 1
    older, today = ([case for _, case in sorted(p, key=lambda item: item[0])] for p in parts)
    half = max(count // 2, count - len(older))
    return [*today[:half], *older[: count - min(half, len(today))]]


def load_sample(
    cases: list[dict[str, Any]], results: Path, limit: float, seconds: float, again: str
) -> None:
    """Runs what isn't in `results` yet until `seconds` are over, then prints a line for each file
    that doesn't load strictly with equal outputs, and the shares by status and by names. What
    came out as a word of `again` (a comma between) is run once more."""
    end = time.monotonic() + seconds
    done = _read(results)
    for key in [key for key, line in done.items() if line["word"] in again.split(",")]:
        del done[key]
    for number, case in enumerate(cases, 1):
        key = f"{case['name']} {case['way']}"
        if key in done:
            continue
        if time.monotonic() > end:
            print(f"{len(cases) - len(done)} are left; the same command goes on", file=sys.stderr)
            break
        start = time.monotonic()
        status, word, why = _alone(case, limit)
        took = round(time.monotonic() - start, 1)
        done[key] = {"key": key, "status": status, "word": word, "why": why, "seconds": took}
        print(f"{number}/{len(cases)} {key}: {status}, {word} {why} {took}s", file=sys.stderr)
        with results.open("a") as out:
            out.write(json.dumps(done[key]) + "\n")
    _print([done[k] for c in cases if (k := f"{c['name']} {c['way']}") in done])


def _read(results: Path) -> dict[str, dict[str, Any]]:
    lines = results.read_text().splitlines() if results.exists() else []
    return {line["key"]: line for line in map(json.loads, lines)}


def _alone(case: dict[str, Any], limit: float) -> tuple[str, str, str]:
    """`loaded` in a process of its own."""
    own, other = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_told, args=(case, other))
    process.start()
    other.close()
    try:
        if own.poll(limit):
            return own.recv()
        return "", "out of time", f"after {limit:.0f} s"
    except EOFError:
        return "", "ended", "the process ended, of too little memory perhaps"
    finally:
        process.kill()
        process.join()


def _told(case: dict[str, Any], end: Connection) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        try:
            end.send(loaded(case, Path(temporary) / "model.safetensors"))
        except Exception as error:
            end.send(("", "refused", _said(error)))


def _print(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if line["word"] != "equal" and not line["why"].startswith("no inputs"):
            status = line["status"] or "no status"
            print(f"{line['key']}: {status}, {line['word']}: {line['why']} {line['seconds']:.0f}s")
    counts: dict[str, Counter[str]] = {}
    for line in lines:
        if line["word"] == "unbuilt":
            continue
        names = "today's names" if line["key"].rpartition(" ")[2] in _TODAY else "older names"
        for group in (names, line["status"] or "no status", "together"):
            count = counts.setdefault(group, Counter())
            count.update(("all", line["word"], line["why"].partition(":")[0]))
    for group, count in counts.items():
        total, strict = count["all"], sum(count[word] for word in _STRICT)
        others = count["other outputs"] + count["it doesn't run"]
        print(
            f"{group}: {strict} of {total} loaded strictly ({strict / total:.1%}): "
            f"{count['equal']} equal, {others} others, {count['no inputs']} without inputs"
        )
