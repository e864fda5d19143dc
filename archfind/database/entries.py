"""The compiled signatures of registered networks; compile.py writes them."""

from __future__ import annotations

import os
from _thread import _local as local  # pyright: ignore[reportPrivateUsage]
from types import MappingProxyType

from archfind.database.notation import Line, Size, expand, parse_line, usual_args
from archfind.database.table import Table, hashed
from archfind.database.user_folder import VARIABLE, listed, texts, user_signatures_folder
from archfind.errors import SignatureError
from archfind.types import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.database.classes import Families
    from archfind.database.user_database import JoinedDatabase
    from archfind.database.user_text import UserText

MAGIC = b"archfnd5"
_PARTS = 24  # of a key below any prefix: no library's network has more than 18
_KEPT = 1 << 16  # tensors whose holders are remembered


def start_of_tail(key: str) -> int:
    """Where the longest tail of a key begins that a library's network may have as a key."""
    over = key.count(".") + 1 - _PARTS
    return len(key) - len(key.split(".", over)[-1]) if over > 0 else 0


def tensor_feature(key: str, shape: Iterable[object] | None = None) -> int:
    """A hash of a key with its shape, of a key alone, or ("" with a shape) of a shape alone."""
    return hashed(key if shape is None else f"{key} {' '.join(map(str, shape))}")


class SignatureMember:
    """One entry of a signature: `function` numbers what it computes among the entries with the same
    tensors, `plain` says that the prior names it, `headless` that num_classes=0 drops its head."""

    __slots__ = ("differs", "entry", "function", "headless", "plain")

    def __init__(self, line: str) -> None:
        name, cls, build, version, marks, fields, self.differs = line.split("\t")
        provider, _, architecture = name.partition("/")
        function, plain, headless = marks.split()
        self.function, self.plain, self.headless = int(function), plain == "1", headless == "1"
        callable, *words = build.split(" ")
        given = [word for word in words if "=" not in word]
        fixed = " ".join(word for word in words if "=" in word)
        self.entry = Entry(
            provider,
            architecture,
            cls,
            callable,
            _values(fixed),
            _values(fields),
            version,
            tuple(map(_value, [word for word in given if word != "()"]))
            if given
            else tuple(usual_args(callable, architecture)),
        )


_WORDS: dict[str, object] = {"None": None, "True": True, "False": False}


def _value(text: str) -> object:
    """An argument, as its text has it: a word in quotes, a number, or a list without spaces."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] == "[":
        return [_value(item) for item in text[1:-1].split(",")]
    if text[:1] == "'":
        return text[1:-1]
    return float(text) if "." in text else int(text)


def _values(text: str) -> dict[str, object]:
    """`num_classes=1000 aux_logits=True weights=None` as values."""
    pairs = (word.split("=", 1) for word in text.split())
    return {name: _value(value) for name, value in pairs}


class Signature:
    """The tensors that a group of entries shares: `fixed` keys have one shape, always; `free` lines
    carry sizes that a field gives, a condition, or a dtype that isn't a float's. `written` has all
    keys in the order of the text; signature.ordered makes the modules' order of it."""

    __slots__ = ("fixed", "free", "members", "number", "written")

    def __init__(self, number: int, text: str) -> None:
        heads, _, body = text.partition("\n\n")
        self.number = number
        self.members = [SignatureMember(line) for line in heads.split("\n")]
        self.fixed: dict[str, tuple[int, ...]] = {}
        self.free: dict[str, Line] = {}
        self.written: list[str] = []
        for key, line in expand([parse_line(line) for line in body.split("\n")]):
            self.written.append(key)
            if (
                line.condition
                or line.dtype != "float"
                or any(isinstance(n, Size) for n in line.shape)
            ):
                self.free[key] = line
            else:
                self.fixed[key] = line.shape  # pyright: ignore[reportArgumentType]

    def __len__(self) -> int:
        return len(self.fixed) + len(self.free)


class Database(Table):
    """The compiled signatures, a row and a text each. `texts_by_name` has those of a user's own
    among them, `wrong` what is to be said of files that hold none."""

    texts_by_name: Mapping[str, UserText] = MappingProxyType({})
    wrong: tuple[SignatureError, ...] = ()

    def __init__(self, source: str | bytes) -> None:
        super().__init__(source, MAGIC, 1)
        self.sizes = self.columns[0]  # tensors of fixed sizes that a signature always has
        self._signatures: dict[int, Signature] = {}
        self._held: dict[tuple[str, tuple[int, ...] | None], int] = {}

    def families(self, shipped: Families | None) -> Families | None:
        """The families of classes that belong to it, given those that are shipped."""
        return shipped

    def holding(self, key: str, shape: tuple[int, ...] | None = None) -> int:
        """The class of signatures that hold a tensor, by key and shape, key alone, or ("" with a
        shape) shape alone, or -1. A file's parts ask for the same tensors again."""
        wanted = key, shape
        found = self._held.get(wanted)
        if found is None:
            if len(self._held) >= _KEPT:
                self._held = {}
            found = self._held[wanted] = self.holders(tensor_feature(key, shape))
        return found

    def named(self, name: str) -> list[int]:
        """The signatures that have an entry of this name, with its library ("timm/resnet18") or
        without. Slow: the names are in no index, as only a user asks for one."""
        found: list[int] = []
        for number in range(len(self)):
            heads = self.text(number).partition("\n\n")[0]
            if name in heads and any(
                name in (m.entry.id, m.entry.name) for m in map(SignatureMember, heads.split("\n"))
            ):
                found.append(number)
        return found

    def beginning(self, name: str) -> list[Entry]:
        """The entries called so, or so and more ("vit_small": "vit_small_patch16_224"), or so but
        for underscores. As slow."""
        found: list[Entry] = []
        whole = name.replace("_", "")
        for number in range(len(self)):
            heads = self.text(number).partition("\n\n")[0]
            if name in heads or whole in heads:
                entries = (SignatureMember(line).entry for line in heads.split("\n"))
                found += [
                    one
                    for one in entries
                    if f"{one.name}_".startswith(f"{name}_") or one.name.replace("_", "") == whole
                ]
        return found

    def signature(self, number: int) -> Signature:
        """A signature, expanded; kept, since guessing again is common."""
        found = self._signatures.get(number)
        if found is None:
            made = Signature(number, self.text(number))
            found = self._signatures.setdefault(number, made)  # another thread may have been faster
        return found

    def entry_text(self, number: int, name: str) -> list[str]:
        """An entry of a signature in the notation of signatures/: its head, then the lines of all
        tensors that it may have. Of twins the lines of the first, less a head that may be left out
        where this one can't."""
        heads, _, body = self.text(number).partition("\n\n")
        head = next(line for line in heads.split("\n") if line.startswith(f"{name}\t"))
        _, cls, build, _, marks, fields, _ = head.split("\t")
        lines = [f"[{name}]", f"class   {cls}", f"build   {build}"]
        lines += [f"fields  {fields}"] if fields else []
        is_headless = marks.endswith("1")
        return lines + [
            line if is_headless else line.removesuffix(" if num_classes")
            for line in body.split("\n")
        ]


_default: list[Database] = []


def signatures_folder() -> str:
    """Where signatures/ is: inside an installed package, beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for place in (package, os.path.dirname(package)):
        found = os.path.join(place, "signatures")
        if os.path.isdir(found):
            return found
    raise SignatureError("signatures/ is missing; reinstall archfind")


def shipped() -> Database:
    """The database that ships with archfind, loaded once."""
    if not _default:
        _default.append(Database(os.path.join(signatures_folder(), "index.bin")))
    return _default[0]


_joined: dict[str, tuple[list[tuple[str, int, int]], JoinedDatabase]] = {}


_told = local()


class with_signatures:
    """As long as this lasts, `default` has the user's signatures of this folder; of the usual one
    where it's "". SignatureError where there is no such folder."""

    def __init__(self, signatures: str) -> None:
        if signatures and not os.path.isdir(os.path.expanduser(signatures)):
            raise SignatureError("no folder of signatures", signatures)
        self._place = signatures

    def __enter__(self) -> None:
        self._before = told_folder()
        _told.place = self._place or self._before

    def __exit__(self, *_: object) -> None:
        _told.place = self._before


def told_folder() -> str:
    """The folder that `with_signatures` has told, "" where none is."""
    return getattr(_told, "place", "")


def stamp() -> str:
    """What tells whether answers may have changed: the state of every file of the database."""
    database = default()
    status = os.stat(database.path)
    rows = (
        _joined[user_signatures_folder(told_folder())][0]
        if database.texts_by_name or database.wrong
        else []
    )
    return f"{status.st_size} {status.st_mtime_ns} {hashed(repr(rows)) if rows else ''}".strip()


def default() -> Database:
    """The database that ships with archfind, with a user's own signatures beside them where there
    are any: read again once their files have changed."""
    place = user_signatures_folder(told_folder())
    if not os.path.isdir(place):
        if os.environ.get(VARIABLE) and not told_folder():
            raise SignatureError(f"no folder of signatures, though {VARIABLE} says so", place)
        return shipped()
    rows = listed(place)
    known = _joined.get(place)
    if known is None or known[0] != rows:
        from archfind.database.user_database import JoinedDatabase

        own, wrong = texts(rows)
        known = _joined[place] = rows, JoinedDatabase(shipped(), own, wrong)
    joined = known[1]
    return joined if joined.texts_by_name or joined.wrong else shipped()
