"""signatures/*.txt -> signatures/index.bin, a table of signatures: the same bytes from one text.

Its features are hashes of "key shape", "key" and " shape" (of lines with fixed sizes), its column
counts the "key shape" features that a signature always has, and its texts are the entries' heads,
then the lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from archfind.database.entries import MAGIC, tensor_feature
from archfind.database.grouping import HEADS, without_likes
from archfind.database.notation import Line, Size, expand, parse_line
from archfind.database.table import compiled
from archfind.errors import SignatureError


@dataclass(frozen=True)
class Text:
    """One entry as signatures/ has it."""

    id: str
    cls: str
    build: str
    fields: str
    version: str
    lines: tuple[str, ...]


def read_texts(folder: Path) -> Iterator[Text]:
    """Every entry of every provider's folder, in a fixed order."""
    for place in sorted({path.parent for path in folder.glob("*/*.txt")}):
        texts = [text for path in sorted(place.glob("*.txt")) for text in _texts(path)]
        known = {text.id: text.lines for text in texts}
        for text in texts:
            try:
                yield replace(text, lines=tuple(without_likes(text.lines, known)))
            except KeyError as error:
                raise SignatureError(f"[{text.id}] is like {error}, which isn't there") from error


def _texts(path: Path) -> Iterator[Text]:
    """The entries of a file as they are written."""
    text = path.read_text()
    version = text.partition("\n")[0].split()[-1]
    for block in text.split("\n[")[1:]:
        head, *lines = block.strip("\n").split("\n")
        words = dict(line.split(None, 1) for line in lines if line.startswith(HEADS))
        if "class" not in words or "build" not in words:
            raise SignatureError(f"[{head} has no class or build line", str(path))
        body = tuple(line for line in lines if not line.startswith(HEADS))
        fields = words.get("fields", "")
        yield Text(head.rstrip("]"), words["class"], words["build"], fields, version, body)


def twin_key(text: Text) -> frozenset[tuple[str, str]]:
    """What twins share: exact keys and shapes, less derived buffers; whether a library can leave
    the head out is a property of the library, not of the tensors."""
    found: set[tuple[str, str]] = set()
    for key, line in expand([parse_line(line) for line in text.lines]):
        if line.dtype == "float":
            condition = "" if line.condition == "num_classes" else line.condition
            found.add((key, f"{' '.join(map(str, line.shape))} {condition}"))
    return frozenset(found)


def groups(texts: list[Text]) -> list[list[Text]]:
    """Entries with the same tensors together; order of first appearance."""
    found: dict[frozenset[tuple[str, str]], list[Text]] = {}
    for text in texts:
        found.setdefault(twin_key(text), []).append(text)
    return list(found.values())


def compile_index(folder: Path) -> bytes:
    """The compiled index of a signatures folder."""
    functions = read_twins(folder / "twins.txt")
    prior = read_prior(folder / "prior.txt")
    return index_of(groups(list(read_texts(folder))), functions, prior)


def index_of(
    grouped: list[list[Text]], functions: dict[str, tuple[int, str]], prior: list[str]
) -> bytes:
    """The compiled index of entries, those with the same tensors together."""
    holders: dict[int, list[int]] = {}
    sizes: list[int] = []
    texts: list[str] = []
    for number, members in enumerate(grouped):
        if len(members) == 1:
            functions.pop(members[0].id, None)
        else:  # a twin that was never compared counts as another function
            for unlisted, text in enumerate(m for m in members if m.id not in functions):
                functions[text.id] = 100 + unlisted, "not compared yet"
        lines = [parse_line(line) for line in members[0].lines]
        if not any(line.condition == "num_classes" for line in lines):
            headless = next((m for m in members if _headless(m)), members[0])
            lines = [parse_line(line) for line in headless.lines]
        found, always = _features(lines)
        for item in found:
            holders.setdefault(item, []).append(number)
        sizes.append(always)
        texts.append(_blob(members, lines, functions, prior))
    return compiled(MAGIC, holders, [sizes], texts)


def _features(lines: list[Line]) -> tuple[set[int], int]:
    found: set[int] = set()
    always = 0
    for key, line in expand(lines):
        if line.dtype != "float":
            continue
        found.add(tensor_feature(key))
        if not any(isinstance(size, Size) for size in line.shape):
            found.add(tensor_feature(key, line.shape))
            found.add(tensor_feature("", line.shape))
            always += not line.condition
    return found, always


def _headless(text: Text) -> bool:
    return any(line.endswith(" if num_classes") for line in text.lines)


def _blob(
    members: list[Text], lines: list[Line], functions: dict[str, tuple[int, str]], prior: list[str]
) -> str:
    """The group's text: a head a member, the likeliest first, then the lines."""

    def order(text: Text) -> tuple[object, ...]:
        provider, _, name = text.id.partition("/")
        plain = prior.index(text.id) if text.id in prior else len(prior)
        return plain, functions.get(text.id, (0, ""))[0], provider != "torchvision", len(name), name

    members = sorted(members, key=order)
    chosen = functions.get(members[0].id, (0, ""))[0]
    # Aliases of the chosen function stand beside it, whatever the library.
    members.sort(key=lambda text: functions.get(text.id, (0, ""))[0] != chosen)
    heads = [head_line(text, functions, prior) for text in members]
    return "\n".join([*heads, "", *map(str, lines)])


def head_line(text: Text, functions: dict[str, tuple[int, str]], prior: list[str]) -> str:
    """An entry in one line, as `database.Member` reads it."""
    function, differs = functions.get(text.id, (0, ""))
    marks = f"{function} {int(text.id in prior)} {int(_headless(text))}"
    return "\t".join([text.id, text.cls, text.build, text.version, marks, text.fields, differs])


def read_twins(path: Path) -> dict[str, tuple[int, str]]:
    """Entry id -> the number of its function within its group, and what differs from the first."""
    found: dict[str, tuple[int, str]] = {}
    if not path.exists():
        return found
    for block in path.read_text().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith("#")]
        for number, line in enumerate(lines):
            ids, _, differs = line.partition("  | ")
            for entry in ids.split():
                found[entry] = number, differs
    return found


def read_prior(path: Path) -> list[str]:
    """The entries that stand for their group when nothing else decides."""
    if not path.exists():
        return []
    lines = (line.partition("#")[0].strip() for line in path.read_text().split("\n"))
    return [line for line in lines if line]
