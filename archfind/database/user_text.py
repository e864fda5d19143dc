"""One signature of a user's own database as text: written, and read with every bound checked.

    # archfind signature 1

    [team/net]
    from    001.pth
    class   mypkg.nets.Net
    args    {"width": 24, "act": "relu"}
    unseen  {"act": ["gelu"]}
    fields  num_classes=10
    stem.weight  24 3 3 3
    fc.{weight}  num_classes 24 if num_classes

The lines are those of signatures/. `from` says in words what the signature was learnt from; without
`class` it is a record of keys and shapes that no code stands behind. Blocks after the first are
families of the class. A text may be a stranger's: it is data, nothing in it is ever run, and what
an honest signature doesn't need is refused. On the cold path of `archfind guess`, where a user has
a database.
"""

from __future__ import annotations

import json
import re

from archfind.database.notation import CLASSES, Line, Size, expand, ordered, parse_line
from archfind.database.plain import Unplain, decoded, encoded
from archfind.database.user_families import check_family
from archfind.errors import SignatureError
from archfind.formats.limits import DIMENSION, DIMENSIONS, KEY_DEPTH, KEY_LENGTH
from archfind.types import USERS, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FIRST = "# archfind signature 1"
BYTES = 4 << 20  # of one text; the largest shipped entry has 60 KB
_LINES = 50_000
_LINE = 20_000  # characters
_KEYS = 50_000
_WORDS = 200  # characters of what a signature was learnt from
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*")
_NAME_LENGTH = 100
_ARGS = 20_000  # characters
_FAMILIES = 8
_HEADS = ("from", "class", "args", "unseen", "fields")
# Names of libraries, whose networks are not a user's to name.
RESERVED = frozenset(
    """code demucs diffusers easyocr encodec facenet_pytorch facexlib lpips openunmix
    segment_anything smp snac spandrel timm torchaudio torchvision transformers""".split()
)


class UserText:
    """A signature of a user's own: what its text says. `source` says what it was learnt from, `cls`
    is the class's dotted path, "" for a record without code, `arguments` what the class is called
    with, `fields` the sizes that may change, and `families` are texts of rules for other arguments.
    `unseen` are the arguments that no tensor shows and that change the outputs, each with other
    values, None where that wasn't asked. `path` is the file that it came from."""

    __slots__ = (
        "arguments",
        "cls",
        "families",
        "fields",
        "lines",
        "name",
        "path",
        "source",
        "unseen",
    )

    def __init__(
        self,
        name: str,
        lines: tuple[str, ...],
        source: str = "",
        cls: str = "",
        arguments: Mapping[str, Any] | None = None,
        fields: Mapping[str, int] | None = None,
        families: tuple[str, ...] = (),
        path: str = "",
        unseen: Mapping[str, list[Any]] | None = None,
    ) -> None:
        self.name = name
        self.lines = lines
        self.source = source
        self.cls = cls
        self.arguments = dict(arguments or {})
        self.fields = dict(fields or {})
        self.families = families
        self.path = path
        self.unseen = unseen

    @property
    def entry(self) -> Entry:
        """The network as an entry of a database."""
        provider, _, name = self.name.partition("/")
        return Entry(provider, name, self.cls, self.cls, self.arguments, self.fields, USERS)

    @property
    def stamp(self) -> str:
        """What tells all that is said of the network from whatever else might be said."""
        from hashlib import sha256  # late: of few files

        said = self.cls, encoded(self.arguments), self.fields, self.lines, self.families
        return sha256(json.dumps(said, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()

    def tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Every key with its shape and dtype, the fields at their defaults."""
        found: dict[str, tuple[tuple[int, ...], str]] = {}
        for key, line in expand([parse_line(text) for text in self.lines]):
            shape = (n.value(self.fields) if isinstance(n, Size) else n for n in line.shape)
            found[key] = tuple(shape), line.dtype
        return {key: found[key] for key in ordered(list(found))}

    def written(self) -> str:
        """The text of it."""
        heads = [FIRST, "", f"[{self.name}]"]
        heads += [f"from    {self.source}"] if self.source else []
        heads += [f"class   {self.cls}"] if self.cls else []
        if self.cls:
            given = {name: encoded(value) for name, value in self.arguments.items()}
            heads.append(f"args    {json.dumps(given)}")
            others = {name: encoded(some) for name, some in (self.unseen or {}).items()}
            heads += [f"unseen  {json.dumps(others)}"] * (self.unseen is not None)
        said = " ".join(f"{name}={value}" for name, value in self.fields.items())
        heads += [f"fields  {said}"] if said else []
        blocks = ["\n".join([*heads, *self.lines]), *(one.strip("\n") for one in self.families)]
        return "\n\n".join(blocks) + "\n"


def check_name(name: str) -> None:
    """SignatureError where a name isn't one that a user may give a network: "team/net"."""
    provider, slash, rest = name.partition("/")
    if not (slash and _NAME.fullmatch(provider) and _NAME.fullmatch(rest)):
        raise SignatureError(f"{name[:80]!r} is no name like team/net")
    if len(name) > _NAME_LENGTH:
        raise SignatureError(f"a name of {len(name)} characters; {_NAME_LENGTH} are enough")
    if provider in RESERVED:
        raise SignatureError(f"{provider}/ names that library's networks; take another word")


def parsed_signature(data: bytes, path: str = "") -> UserText:
    """The signature that a text holds. SignatureError, with its path, for whatever isn't one."""
    try:
        return _parsed(data, path)
    except SignatureError as error:
        raise SignatureError(error.message, path) from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise SignatureError("not a signature that can be read", path) from error
    except (RecursionError, Unplain, AssertionError) as error:
        raise SignatureError("not a signature that can be read", path) from error


def _parsed(data: bytes, path: str) -> UserText:
    if len(data) > BYTES:
        raise SignatureError(f"{len(data):,} bytes; a signature has at most {BYTES:,}")
    try:
        text = data.decode("ascii" if data.isascii() else "utf-8")
    except UnicodeDecodeError:
        raise SignatureError("not UTF-8 text") from None
    rows = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if rows[0] != FIRST:
        raise SignatureError(f"its first line isn't {FIRST!r}")
    if len(rows) > _LINES or any(len(row) > _LINE or not _is_plain(row) for row in rows):
        raise SignatureError("too many lines, lines that are too long, or control characters")
    blocks: list[list[str]] = []
    for row in rows[1:]:
        if row.startswith("["):
            blocks.append([row])
        elif row and blocks:
            blocks[-1].append(row)
        elif row:
            raise SignatureError(f"a line before the first [name]: {row[:80]!r}")
    if not blocks:
        raise SignatureError("it has no [name]")
    if len(blocks) > 1 + _FAMILIES:
        raise SignatureError(f"{len(blocks)} blocks; a file has one signature and its families")
    found = _entry(blocks[0], path)
    families = tuple("\n".join(block) + "\n" for block in blocks[1:])
    for family in families:
        check_family(found, family, _KEYS)
    found.families = families
    return found


def _entry(block: list[str], path: str) -> UserText:
    name = block[0].removeprefix("[").removesuffix("]")
    check_name(name)
    heads: dict[str, str] = {}
    lines: list[str] = []
    for row in block[1:]:
        word, _, rest = row.partition(" ")
        if word in _HEADS and not lines and word not in heads:
            heads[word] = rest.strip()
        else:
            lines.append(row)
    cls = heads.get("class", "")
    if cls and not (cls.count(".") and all(map(_is_word, cls.split(".")))):
        raise SignatureError(f"not a class's dotted path: {cls[:80]!r}")
    found = UserText(
        name, tuple(lines), heads.get("from", "")[:_WORDS], cls,
        _arguments(heads.get("args", "{}")), _fields(heads.get("fields", "")), path=path,
        unseen=_arguments(heads["unseen"]) if "unseen" in heads else None,
    )  # fmt: skip
    if not all(isinstance(others, list) for others in (found.unseen or {}).values()):
        raise SignatureError("unseen arguments whose other values are no lists")
    _check_lines(found)
    return found


def _arguments(text: str) -> dict[str, Any]:
    if len(text) > _ARGS:
        raise SignatureError("arguments of too many characters")
    given = json.loads(text)
    if type(given) is not dict or not all(map(_is_word, given)):
        raise SignatureError(f"args aren't an object of names: {text[:80]!r}")
    return {name: decoded(value) for name, value in given.items()}


def _fields(text: str) -> dict[str, int]:
    if not text:
        return {}
    name, _, value = text.partition("=")
    if name != CLASSES or not (value.isascii() and value.isdigit() and len(value) < 10):
        raise SignatureError(f"the only field is {CLASSES}, a number, not {text[:80]!r}")
    return {name: int(value)}


def _check_lines(found: UserText) -> None:
    lines: list[Line] = []
    count = 0
    for row in found.lines:
        pattern = row.partition("  ")[0]
        count += _count(pattern)
        if count > _KEYS:
            raise SignatureError(f"more than {_KEYS:,} keys")
        if not row[len(pattern) :].isascii():
            raise SignatureError(f"not a shape: {row[:80]!r}")
        line = parse_line(row)
        sizes = [size for size in line.shape if isinstance(size, Size)]
        named = {name for size in sizes for name in size.fields} | ({line.condition} - {""})
        if not named <= found.fields.keys():
            raise SignatureError(f"sizes or conditions of no field: {row[:80]!r}")
        numbers = [size for size in line.shape if not isinstance(size, Size)]
        numbers += [factor for size in sizes for factor in size.terms.values()]
        if len(line.shape) > DIMENSIONS or any(number >= DIMENSION for number in numbers):
            raise SignatureError(f"a shape that no tensor has: {row[:80]!r}")
        lines.append(line)
    keys = [key for key, _ in expand(lines)]
    if any(len(key) > KEY_LENGTH or key.count(".") > KEY_DEPTH or not key for key in keys):
        raise SignatureError("keys that are longer or deeper than any state dict's")
    if len({*keys}) < len(keys):
        twice = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise SignatureError(f"the key {twice[:80]!r} stands there twice")
    if not any(line.dtype == "float" for line in lines):
        raise SignatureError("it has no tensor of floats")


def _count(pattern: str) -> int:
    """How many keys a pattern has, without making them."""
    count = 1
    for part in pattern.split("{")[1:]:
        choice, close, _ = part.partition("}")
        if not close:
            raise SignatureError(f"a brace stays open: {pattern[:80]!r}")
        first, dots, last = choice.partition("..")
        if dots and first.isdigit() and last.isdigit():
            if len(last) > 9 or not choice.isascii():
                raise SignatureError(f"more than {_KEYS:,} keys")
            count *= max(int(last) - int(first) + 1, 0)
        else:
            count *= choice.count("|") + 1
        if count > _KEYS:
            raise SignatureError(f"more than {_KEYS:,} keys")
    return count


def _is_word(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isidentifier()


def _is_plain(row: str) -> bool:
    return row.isprintable() or (row.replace("\t", " ").isprintable())
