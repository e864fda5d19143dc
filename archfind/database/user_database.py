"""The shipped database and a user's own as one: what is asked of the one is asked of both, and the
user's signatures are numbered after the shipped ones. On the cold path of `archfind guess`, where a
user has a database."""

from __future__ import annotations

from archfind.database.classes import Families, KnownFamily
from archfind.database.compile import Text, groups, index_of
from archfind.database.compile_classes import families_of
from archfind.database.entries import Database, Signature
from archfind.types import USERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archfind.database.table import Table
    from archfind.database.user_text import UserText
    from archfind.errors import SignatureError


def _text(one: UserText) -> Text:
    fields = " ".join(f"{name}={value}" for name, value in one.fields.items())
    return Text(one.name, one.cls or "-", f"{one.cls or '-'} ()", fields, USERS, one.lines)


class _Pair:
    """Two tables as one: the second one's rows are numbered after the first one's, and a list of
    rows is a pair of lists."""

    def __init__(self, first: Table, second: Table) -> None:
        self.first, self.second = first, second
        self.rows = len(first)
        self._lists = first.lists + 1

    def holders(self, feature: int) -> int:
        one, two = self.first.holders(feature), self.second.holders(feature)
        return one + (two + 1) * self._lists

    def members(self, holders: int) -> Sequence[int]:
        two, one = divmod(holders + 1, self._lists)
        found: list[int] = [*self.first.members(one - 1)] if one else []
        return found + [self.rows + n for n in self.second.members(two - 1)] if two else found


class JoinedDatabase(Database):
    """The shipped signatures, and those of a user. `texts_by_name` has the user's, `wrong` what is
    to be said of files that are none."""

    def __init__(
        self, shipped: Database, own: Sequence[UserText], wrong: Sequence[SignatureError]
    ) -> None:
        self.shipped = shipped
        self.path = shipped.path
        self.wrong = tuple(wrong)
        self.texts_by_name = {one.name: one for one in own}
        # Records beside classes: a name alone is no rival of what is known to be computed.
        records = [_text(one) for one in own if not one.cls]
        classes = [_text(one) for one in own if one.cls]
        self._grouped = [*groups(classes), *groups(records)]
        self._pair = _Pair(shipped, Database(index_of(self._grouped, {}, [])))
        self._user = self._pair.second
        self.sizes = [*shipped.sizes, *self._user.columns[0]]  # pyright: ignore
        self._signatures = {}
        self._held = {}
        self._families: JoinedFamilies | None = None

    def __len__(self) -> int:
        return self._pair.rows + len(self._user)

    def text(self, number: int) -> str:
        rows = self._pair.rows
        return self.shipped.text(number) if number < rows else self._user.text(number - rows)

    def holders(self, feature: int) -> int:
        return self._pair.holders(feature)

    def members(self, holders: int) -> Sequence[int]:
        return self._pair.members(holders)

    def signature(self, number: int) -> Signature:
        if number < self._pair.rows:
            return self.shipped.signature(number)
        found = self._signatures.get(number)
        if found is None:
            made = Signature(number, self.text(number))
            for member in made.members:
                member.entry = self.texts_by_name[member.entry.id].entry
            found = self._signatures.setdefault(number, made)
        return found

    def families(self, shipped: Families | None) -> Families | None:
        """The shipped families, and those of the user's classes."""
        if shipped is None or not any(one.families for one in self.texts_by_name.values()):
            return shipped
        if self._families is None:
            self._families = JoinedFamilies(shipped, self, self._grouped)
        return self._families


class JoinedFamilies(Families):
    """The shipped families, and those of a user's classes."""

    def __init__(
        self, shipped: Families, database: JoinedDatabase, grouped: Iterable[list[Text]]
    ) -> None:
        blocks = [block for one in database.texts_by_name.values() for block in one.families]
        first = len(database.shipped)
        table = families_of(blocks, list(grouped), {}, [], first)
        self.shipped = shipped
        self.path = shipped.path
        self._database = database
        self._pair = _Pair(shipped, Families(table))
        kinds = max(shipped.columns[1], default=-1) + 1
        more = self._pair.second.columns
        columns = [[*one, *two] for one, two in zip(shipped.columns, more, strict=True)]
        columns[1][self._pair.rows :] = [kinds + kind for kind in more[1]]
        self.columns = columns  # pyright: ignore
        self._sizes, self._classes, self._presets = columns  # pyright: ignore
        self._known = {}

    def text(self, number: int) -> str:
        rows = self._pair.rows
        first, second = self._pair.first, self._pair.second
        return first.text(number) if number < rows else second.text(number - rows)

    def holders(self, feature: int) -> int:
        return self._pair.holders(feature)

    def members(self, holders: int) -> Sequence[int]:
        return self._pair.members(holders)

    def known(self, number: int) -> KnownFamily:
        if number < self._pair.rows:
            return self.shipped.known(number)
        found = self._known.get(number)
        if found is None:
            made = KnownFamily(self.text(number))
            for name, member in made.members.items():
                member.entry = self._database.texts_by_name[name].entry
            found = self._known.setdefault(number, made)
        return found
