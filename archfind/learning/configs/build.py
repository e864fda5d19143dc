"""transformers -> signatures/transformers/types/*.txt, one file a model type, learned by as many
processes as there are cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache, partial
from graphlib import TopologicalSorter
from pathlib import Path

import networkx
import torch

from archfind.learning.configs.again import adopted
from archfind.learning.configs.harvest import Harvest
from archfind.probing.config import leaves_of_config
from archfind.progress import progress
from archfind.providers import transformers as library

_CHUNK = 16  # types whose configs are made at once
_PATIENCE = 2.5  # with what is known already: nobody waits for it


def build_types(folder: Path, only: Iterable[str] = ()) -> list[str]:
    """Write the text of each model type that has none; return a line for each type that can't be
    built. Stopped work goes on where it stopped: delete a file to learn it anew."""
    out = folder / library.LIBRARY / "types"
    out.mkdir(parents=True, exist_ok=True)
    names = list(only) or library.type_names()
    lines = [line for some in each(partial(_learn, out), names) for line in some]
    return sorted({*lines})  # what holds a type may have failed with it, too


def build_again(folder: Path, only: Iterable[str] = ()) -> list[str]:
    """Learn these types anew beside what is known, all if none are named, keep the better of the
    two, and say which."""
    types = folder / library.LIBRARY / "types"
    names = list(only) or sorted(file.stem for file in types.glob("*.txt"))
    with tempfile.TemporaryDirectory() as place:
        beside = Path(place) / library.LIBRARY / "types"
        shutil.copytree(folder / "presets", Path(place) / "presets")
        shutil.copytree(types, beside)
        for name in names:
            (beside / f"{name}.txt").unlink(missing_ok=True)
        lines = [
            line for some in each(partial(_learn_again, types, beside), names) for line in some
        ]
    return sorted(lines)


def _learn(folder: Path, name: str) -> list[str]:
    harvest = _harvest(folder)
    before = set(harvest.failed)
    harvest.type(name)
    return [f"{one}: {why}" for one, why in harvest.failed.items() if one not in before]


def _learn_again(types: Path, beside: Path, name: str) -> list[str]:
    _harvest(beside, _PATIENCE).type(name)
    file = beside / f"{name}.txt"
    return [adopted(types, file) if file.exists() else f"{name}: can't be learned"]


@cache
def _harvest(folder: Path, patience: float = 1.0) -> Harvest:
    return Harvest(folder, patience)  # one a process


def each(work: Callable[[str], list[str]], names: Sequence[str]) -> Iterator[list[str]]:
    """What `work` gives for each type, in a process of its own a core, those that are inside of
    others before those."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), context, torch.set_num_threads, (1,)) as pool:

        def done() -> Iterator[list[str]]:
            inside = pool.map(_inside, names, chunksize=_CHUNK)
            order = TopologicalSorter(acyclic(dict(zip(names, inside, strict=True))))
            order.prepare()
            running: dict[Future[list[str]], str] = {}
            while order.is_active():
                running |= {pool.submit(work, name): name for name in order.get_ready()}
                for one in wait(running, return_when=FIRST_COMPLETED).done:
                    order.done(running.pop(one))
                    yield one.result()

        yield from progress(done(), len(names), f"harvest {library.LIBRARY}")


def _inside(name: str) -> set[str]:
    """The types whose configs a type's config holds."""
    with contextlib.suppress(Exception):  # what has no defaults is reported when it is learned
        values = leaves_of_config(library.default_config(name))
        return {str(v) for path, v in values.items() if path.endswith(".model_type")} - {name}
    return set()


def acyclic(inside: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Without what isn't asked for, and without types that are inside of each other."""
    graph = networkx.DiGraph([(a, b) for a in inside for b in inside[a] if b in inside])
    graph.add_nodes_from(inside)
    whole = {
        n: i for i, some in enumerate(networkx.strongly_connected_components(graph)) for n in some
    }
    return {name: {b for b in graph[name] if whole[b] != whole[name]} for name in inside}
