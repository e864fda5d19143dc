"""One model type of transformers -> its text: the rules of each of its classes, learned."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from archfind.classes.blocks import Block, TypeText, others, parse_blocks
from archfind.database.compile_model_types import read_presets
from archfind.learning.configs.bench import Bench, keys_of, lighter, shrunk
from archfind.learning.configs.challenge import challenged, share
from archfind.learning.configs.complete import completed_config
from archfind.learning.configs.explore import candidates, explore_fields
from archfind.learning.configs.inside import inner_block_rules
from archfind.learning.configs.learn import LearnedBlock, block_gives, learn
from archfind.learning.configs.traced import Hints
from archfind.learning.fit import Failed
from archfind.probing.config import Config, Leaf, leaves_of_config
from archfind.providers import transformers as library
from archfind.writing import beside

_VOCABULARY = 1_000
SECONDS = 3.0  # at least, for the first class of a type; the others are mostly like it
_MOST = 6.0
_LEARNING = 8.0  # seconds for one search of rules
_WHOLE = 8.0  # ... for all searches of a class; a third of each after a type's first
_NETWORKS = 40  # built at random and for the rules' sake
_ROUNDS = 4  # of learning, and of trying what was learned
_TOLD = re.compile(
    r"head|_act|activation|eps|rope|theta|window|per_tok|top_k|scal|image_size|patch|position"
    r"|tie_word|is_encoder|is_decoder|num_labels"
)


class Harvest:
    """Types learned so far, by name; those inside others come first. `patience` is how many times
    as long as usual a class's networks are built and its rules looked for: what takes long is
    learned better then."""

    def __init__(self, folder: Path, patience: float = 1.0) -> None:
        self.folder = folder
        self.patience = patience
        self.presets = read_presets(folder.parent.parent / "presets")
        self.known: dict[str, TypeText | None] = {}
        self.failed: dict[str, str] = {}

    def type(self, name: str) -> TypeText | None:
        """One type's text, from its file or learned."""
        if name in self.known:
            return self.known[name]
        self.known[name] = None  # a type within itself
        file = self.folder / f"{name}.txt"
        if file.exists():
            text = file.read_text()
            blocks: dict[str, Block] = {}
            for other in dict.fromkeys(others(text)):
                inner = self.type(other) if other != name else None
                blocks |= {b.id: b for b in inner.blocks} if inner else {}
            self.known[name] = parse_blocks(text, blocks)
            return self.known[name]
        found = self._learned(name)
        if found is not None:
            release = version(library.LIBRARY)
            beside.write_small_file(file, f"# {library.LIBRARY} {release}\n\n{found.text()}")
        self.known[name] = found
        return found

    def _learned(self, name: str) -> TypeText | None:
        try:
            classes = library.classes(name)
            config = library.default_config(name)
        except Exception as error:  # a library may raise anything
            self.failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
            return None
        if not classes:
            self.failed[name] = "no public class takes its config"
            return None
        usual = leaves_of_config(config)
        config = self.complete(name, min(classes, key=_order), config)
        filled = {p for p, value in leaves_of_config(config).items() if usual.get(p, ...) != value}
        made = type(library.config_of(name, {}))
        found = TypeText(name, f"{made.__module__}.{made.__qualname__}", {}, {}, [])
        visible: dict[str, list[Leaf]] = {}
        seen: set[str] = set()
        small = None
        tried = Failed()
        benches: list[Bench] = []
        every: dict[str, Leaf] = leaves_of_config(config)
        facts: dict[str, list[Leaf]] = {}  # what public models have for switches and choices
        for model in self.presets.get(name, {}).values():
            for path, value in model.items():
                own = every.get(path)
                is_size = type(value) is int and (own is None or (type(own) is int and own < 1))
                if (isinstance(value, bool | str) or is_size) and value != own:
                    facts.setdefault(path, []).append(value)
        for cls, made_cls in sorted(classes.items(), key=lambda item: _order(item[0])):
            entry = f"{name}/{cls}"
            # A class with other defaults than the type's first is learned with those alone.
            switches = {
                name: value
                for name, value in library.switches(made_cls).items()
                if every.get(f"init.{name}", value) == value
            }
            try:
                small = small or lighter(entry, shrunk(entry, config))
                own_base = buildable(entry, small)
                bench = Bench(
                    entry, {**own_base, **({"init": switches} if switches else {})}, tried
                )
            except Exception as error:
                self.failed[entry] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            benches.append(bench)
            every |= {p: v for p, v in leaves_of_config({"init": switches}).items() if switches}
            paths = candidates(bench)
            first = not found.blocks
            # What was read in the type's other classes and moved nothing moves nothing here, but
            # for what their code says: a width that is only taken together with another one.
            said = {
                name for block in found.blocks for line in block.whole() for name in _names(line)
            }
            paths = [p for p in paths if p in visible or p in said or p not in seen]
            inner = [b for t in sorted(bench.first.inner - {name}) for b in self._blocks(t)]
            unruled = {path for block in found.blocks for path in block.left}
            paths = [p for p in paths if p not in unruled]
            limit = self.patience * _limit(bench, paths) / (1 if first else 3)
            wanted = 14 if first and not inner else 8
            end = time.process_time() + limit
            own = explore_fields(bench, paths, wanted, end, facts, visible, self._inner(bench))
            seen |= set(paths)
            known = [*found.blocks, *inner]
            whole = self.patience * _WHOLE / (1 if first else 3)
            learned = _learned(bench, paths, own, known, limit, whole, self.failed)
            for path, values in own.items():
                kept = visible.setdefault(path, [])
                kept += [v for v in values if v not in kept]
            found.blocks += [_finished(one, bench, every) for one in learned]
        for bench in benches:
            for one in _inside(bench, found.blocks):
                found.blocks = [b for b in found.blocks if b.id != one.block.id]
                found.blocks.append(_finished(one, bench, every))
                self.failed.pop(one.block.id, None)
        if not found.blocks:
            return None
        read = {
            n.partition("{")[0] for b in found.blocks for line in b.whole() for n in _names(line)
        }
        moving = {p for p in visible if p in read or any(n and p.startswith(n) for n in read)}
        items = {p for p in every if p in moving or p in read}
        lists = {p.rpartition(".")[0] for p in items if p.rpartition(".")[2].isdigit()}
        own = {p for p in every if p in read or p in moving or p.rpartition(".")[0] in lists}
        found.leaves = {p: v for p, v in every.items() if p in own | filled or _is_told(p)}
        found.options = {p: v for p, v in visible.items() if p in moving}
        for path in own - visible.keys():  # a size that nothing but the code showed
            value = every[path]
            if path in read and type(value) is int and value > 0:
                found.options[path] = [2 * value]
        for block in found.blocks:
            block.leaves = found.leaves
        return found

    def complete(self, name: str, cls: str, config: Config) -> Config:
        """The default config where the class can be built from it, else with what it lacks: the
        fields of a public model, or some number for what is None."""
        known = self.presets.get(name, {}).values()
        tried = [config, *({**config, **_top(one)} for one in known), _filled(config)]
        entry = f"{name}/{cls}"
        built = next((one for one in tried if keys_of(entry, one) is not None), None)
        return built or completed_config(entry, config) or config

    def _inner(self, bench: Bench) -> dict[str, list[Leaf]]:
        """What the leaves of the networks inside can be, for those that are known."""
        found: dict[str, list[Leaf]] = {}
        for path, value in bench.base.items():
            root, _, last = path.rpartition(".")
            inside = self.known.get(str(value)) if root and last == "model_type" else None
            for name, values in inside.options.items() if inside is not None else ():
                own = bench.base.get(f"{root}.{name}", ...)
                others = [one for one in values if one != own]
                if others and own is not ...:
                    found[f"{root}.{name}"] = others
        return found

    def _blocks(self, name: str) -> list[Block]:
        inner = self.type(name) if name in library.type_names() else None
        return inner.blocks if inner else []


def buildable(entry: str, config: Config) -> Config:
    """A type's config with what this class of it lacks and the first doesn't."""
    return (
        config if keys_of(entry, config) is not None else completed_config(entry, config) or config
    )


def _limit(bench: Bench, paths: Sequence[str]) -> float:
    """Seconds for a class: more where its networks take long to build, or many leaves move them."""
    start = time.process_time()
    keys_of(bench.name, bench.config)
    each = time.process_time() - start
    return min(_MOST, max(SECONDS, each * (_NETWORKS + 2 * len(paths))))


def _learned(
    bench: Bench,
    paths: Sequence[str],
    own: dict[str, list[Leaf]],
    known: Sequence[Block],
    limit: float,
    whole: float,
    failed: dict[str, str],
) -> list[LearnedBlock]:
    """A class's rules in both dialects: learned, tried on new networks, and learned again with
    those that they missed."""
    draw = random.Random(f"{bench.name} challenged")
    best: dict[str, LearnedBlock] = {}
    end = time.process_time() + whole
    hints = Hints(bench)
    for _ in range(_ROUNDS):
        newest: list[LearnedBlock] = []
        old = best.get("")
        for dialect in ("", "published"):
            if dialect and all(b.shapes[dialect] is b.shapes[""] for b in bench.built()):
                continue
            blocks = [*(one.block for one in newest), *known]
            blocks.sort(key=lambda b: b.dialect != dialect)
            kept = best.get(dialect)
            if dialect and newest and newest[0] is not old:
                kept = None  # its lines may be told by the other dialect's, which are new
            late = kept is not None and time.process_time() > end
            if kept is None or (not late and share(bench, kept) < len(bench.built())):
                new = learn(bench, dialect, own, blocks, hints, min(limit, _LEARNING), end)
                if new is not None and (kept is None or share(bench, new) > share(bench, kept)):
                    kept = new
            if kept is None:
                failed[f"{bench.name} {dialect}".strip()] = "no rules found"
                best.pop(dialect, None)
                continue
            best[dialect] = kept
            newest.append(kept)
        tried = min(end, time.process_time() + limit)
        if not newest or not challenged(bench, paths, own, newest, draw, tried):
            break
    return list(best.values())


def _inside(bench: Bench, known: Sequence[Block]) -> Iterable[LearnedBlock]:
    """Rules of other classes for those dialects of a class for which they do better than its own;
    what others are made of stays."""
    own = {block.dialect: block for block in known if block.name == bench.name}
    used = {like.block.id for block in known for like in block.likes}
    for dialect in ("", "published"):
        block = own.get(dialect)
        same = dialect and all(b.shapes[dialect] is b.shapes[""] for b in bench.built())
        if same or (block is not None and block.id in used):
            continue
        right = (
            sum(block_gives(block, built) for built in bench.built()) if block is not None else 0
        )
        found = inner_block_rules(bench, dialect, known) if right < len(bench.built()) else None
        if found is not None and found.right > right:
            yield found


def _top(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if "." not in key and key != "class"}


def _filled(config: Config) -> Config:
    """A config with numbers for what has none: a vocabulary, heads of keys."""
    heads = config.get("num_attention_heads")
    own = {"vocab_size": _VOCABULARY, "num_key_value_heads": heads, "pad_token_id": 0}
    own |= {name: 4 for name in config if "experts" in name}
    return {**config, **{k: v for k, v in own.items() if k in config and config[k] is None}}


def _finished(learned: LearnedBlock, bench: Bench, every: dict[str, Leaf]) -> Block:
    block = learned.block
    block.held = learned.right, learned.held
    names = {key: new for new, key in bench.first.sources.items()} if block.dialect else {}
    block.tied = {names.get(k, k): names.get(v, v) for k, v in bench.first.tied.items()}
    block.prefix = bench.first.prefix
    written = "" if bench.first.shapes["published"] is bench.first.shapes[""] else "published"
    block.older = bench.first.older if block.dialect == written else ()
    block.leaves = every
    return block


def _names(line: object) -> Iterable[str]:
    for expression in [*line.sizes, line.condition, *(p.bound for p in line.parts)]:  # pyright: ignore
        yield from expression.names if expression is not None else ()


def _order(cls: str) -> tuple[bool, int, str]:
    """The base network before those that hold it."""
    head = "For" in cls or "Head" in cls or not cls.endswith("Model")
    return head, len(cls) if not head else 0, cls


def _is_told(path: str) -> bool:
    return bool(_TOLD.search(path)) and "dropout" not in path and not path.endswith("#")
