"""How much of a state dict a class accounts for: each of its attributes against what the keys have
below that name, its own classes' alike."""

from __future__ import annotations

import ast
import re

from archfind.codebase.accounts import Account, agreed, layer_account, open_account, weight_account
from archfind.codebase.declared import dotted
from archfind.codebase.described import attribute_parts, container_of, parts_of
from archfind.codebase.layers import LAYERS
from archfind.codebase.parts import (
    Anything,
    Bare,
    DeclaredContainer,
    DeclaredLayer,
    DeclaredWeight,
    Frame,
    Instance,
    Part,
)
from archfind.codebase.sizes import arguments_by_sizes
from archfind.codebase.statements import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.codebase.declared import Class
    from archfind.codebase.key_tree import KeyNode
    from archfind.codebase.scanned import Codebase

_NEARLY = 0.7  # of a module's tensors, for a class that the code doesn't name there
_DEEPEST = 24
_BUILDING = ("__init__", "setup", "build", "configure_model")
_PASSED = frozenset(("forward", "__call__", "__repr__", "__str__", "extra_repr", "training_step"))


class _Attribute:
    """An attribute of a class: its name or pattern, the parts that it may be, how many there are of
    a pattern, and whether every instance has it."""

    __slots__ = ("count", "frame", "is_certain", "name", "parts", "pattern")

    def __init__(
        self, name: str, parts: list[Part], count: ast.expr | None, frame: Frame, certain: bool
    ) -> None:
        self.name, self.parts, self.count, self.frame = name, parts, count, frame
        self.is_certain = certain
        self.pattern = _compiled(name) if "#" in name else None


class Accounts:
    """The classes of a codebase against the modules of one state dict; each pair once."""

    def __init__(self, codebase: Codebase) -> None:
        self._codebase = codebase
        self._attributes: dict[Class, list[_Attribute]] = {}
        self._names: dict[Class, list[str]] = {}
        self._done: dict[tuple[Class, KeyNode], tuple[Account, dict[str, object]]] = {}

    def of_class(
        self, cls: Class, node: KeyNode, depth: int = 0
    ) -> tuple[Account, dict[str, object]]:
        """What a class accounts for of a module, and the arguments that the sizes tell."""
        place = cls, node
        if place not in self._done:
            self._done[place] = Account(), {}  # for one within itself
            account = self._of_class(cls, node, depth)
            self._done[place] = account, arguments_by_sizes(account.told, self.parameters(cls))
        return self._done[place]

    def parameters(self, cls: Class) -> dict[str, ast.expr | None]:
        """The arguments of the constructor that a class has or inherits."""
        for one in self._codebase.lineage(cls):
            if "__init__" in one.methods:
                return one.parameters
        return {}

    def names(self, cls: Class) -> list[str]:
        """The names that a class sets as attributes when it's built, with `#` for what is filled
        in."""
        if cls not in self._names:
            found: dict[str, None] = {}
            for owner in self._codebase.lineage(cls):
                waiting = [*_BUILDING]
                for method in waiting:
                    if method in owner.methods:
                        walked = walk(owner.methods[method].body, Frame(owner.module, cls))
                        found.update(dict.fromkeys(one.name for one in walked.attributes))
                        waiting += [name for name in walked.methods if name not in waiting]
            self._names[cls] = list(found)
        return self._names[cls]

    def _of_class(self, cls: Class, node: KeyNode, depth: int) -> Account:
        account = Account()
        if depth > _DEEPEST:
            return account
        attributes = self._of(cls)
        for name, child in node.children.items():
            options = [one for one in attributes if one.name == name]
            options = options or [
                one for one in attributes if one.pattern and one.pattern.fullmatch(name)
            ]
            account.add(self._best([p for one in options for p in one.parts], child, depth))
        for one in attributes:
            if one.pattern and one.count is not None:
                number = sum(one.pattern.fullmatch(name) is not None for name in node.children)
                account.told += [(one.count, one.frame, number)] * bool(number)
            is_there = one.name in node.children or one.pattern is not None
            if one.is_certain and not is_there and one.parts:
                account.lacking += all(self._has_tensors(part) for part in one.parts)
        for base in self._codebase.lineage(cls):
            for name in base.bases:
                kind = name.rpartition(".")[2]
                if kind in LAYERS:
                    own = self._of_part(
                        DeclaredLayer(kind, {}, Frame(base.module, base)), node, depth
                    )
                    account = own if own.worth > account.worth else account
        return account

    def _best(self, parts: list[Part], node: KeyNode, depth: int) -> Account:
        best = Account()
        for part in parts:
            account = self._of_part(part, node, depth + 1)
            if account.worth > best.worth:
                best = account
        return best

    def _of_part(self, part: Part, node: KeyNode, depth: int) -> Account:
        if isinstance(part, DeclaredLayer):
            return layer_account(part, node)
        if isinstance(part, DeclaredWeight):
            return weight_account(part, node)
        if isinstance(part, Instance):
            return self._of_instance(part, node, depth)
        if isinstance(part, DeclaredContainer):
            return self._of_container(part, node, depth)
        return self._of_anything(part, node, depth) if isinstance(part, Anything) else Account()

    def _of_anything(self, part: Anything, node: KeyNode, depth: int) -> Account:
        """The module's class that accounts for most, where one does for nearly all."""
        best = open_account(node)
        if any(child.children for child in node.children.values()):
            for cls in self._codebase.visible(part.module):
                account, _ = self.of_class(cls, node, depth + 1)
                if account.worth > max(best.worth, _NEARLY * node.size):
                    best = account.untold()
        return best

    def _of_instance(self, part: Instance, node: KeyNode, depth: int) -> Account:
        inner, values = self.of_class(part.cls, node, depth + 1)
        account = inner.untold()
        for name, expression in part.arguments.items():
            if name in values:
                account.told.append((expression, part.frame, values[name]))
        return agreed(account)

    def _of_container(self, part: DeclaredContainer, node: KeyNode, depth: int) -> Account:
        account = Account()
        patterns = [(_compiled(n), parts) for n, parts in part.named.items() if "#" in n]
        repeated = [one.part for one in part.repeated]
        for name, child in node.children.items():
            parts = list(part.named.get(name, ()))
            parts += [p for pattern, some in patterns if pattern.fullmatch(name) for p in some]
            account.add(self._best(parts or repeated, child, depth))
        numbered = sum(name.isdigit() and name not in part.named for name in node.children)
        if len(part.repeated) == 1 and part.repeated[0].count is not None and numbered:
            account.told.append((part.repeated[0].count, part.repeated[0].frame, numbered))
        return account

    def _has_tensors(self, part: Part) -> bool:
        """Whether a part has tensors for sure."""
        if isinstance(part, DeclaredLayer):
            return not {"affine", "elementwise_affine"} & part.arguments.keys() and (
                not part.kind.startswith("InstanceNorm")
            )
        if isinstance(part, DeclaredWeight):
            return True
        if isinstance(part, Instance):
            names = self._of(part.cls)
            return any(
                one.is_certain
                and any(isinstance(p, DeclaredLayer | DeclaredWeight) for p in one.parts)
                for one in names
            )
        return False

    def _of(self, cls: Class) -> list[_Attribute]:
        if cls not in self._attributes:
            self._attributes[cls] = []  # for one that inherits from itself
            self._attributes[cls] = self._described(cls)
        return self._attributes[cls]

    def _described(self, cls: Class) -> list[_Attribute]:
        found: list[_Attribute] = []
        seen: set[str] = set()
        for owner in self._codebase.lineage(cls):
            frame = Frame(owner.module, cls, list(owner.parameters))
            order = sorted(owner.methods, key=lambda name: name != "__init__")
            for name in order:
                if name in _PASSED or name in seen:
                    continue
                seen |= {name} - {"__init__"}
                walked = walk(owner.methods[name].body, frame)
                for one in walked.attributes:
                    parts = attribute_parts(one.name, one.value, frame, self._codebase)
                    certain = one.is_certain and name == "__init__"
                    if parts and not all(isinstance(part, Bare) for part in parts):
                        found.append(_Attribute(one.name, parts, one.count, frame, certain))
                found += self._of_super(owner, name, frame)
            for name, listed in frame.items.items():
                if name == "self":
                    for key, value in listed:
                        parts = parts_of(value, frame, self._codebase)
                        found.append(_Attribute(dotted(key) or "#", parts, None, frame, False))
        return found

    def _of_super(self, owner: Class, name: str, frame: Frame) -> list[_Attribute]:
        """The children that a kind of Sequential hands to its base's constructor."""
        bases = {base.rpartition(".")[2] for base in owner.bases}
        if name != "__init__" or not bases & {"Sequential", "ModuleList", "ModuleDict"}:
            return []
        found: list[_Attribute] = []
        for node in ast.walk(owner.methods[name]):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            is_super = isinstance(node.func.value, ast.Call) and (
                dotted(node.func.value.func) == "super"
            )
            if is_super and node.func.attr == "__init__" and node.args:
                container = container_of(node.args, frame, self._codebase)
                found += [
                    _Attribute(child, parts, None, frame, False)
                    for child, parts in container.named.items()
                ]
                found += [
                    _Attribute("#", [one.part], one.count, frame, False)
                    for one in container.repeated
                ]
        return found


def _compiled(name: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, name.split("#"))))
