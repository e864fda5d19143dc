"""What a layer or a tensor of the code accounts for, against what a state dict has in its place."""

from __future__ import annotations

import ast

from archfind.codebase.layers import arguments_shown_by
from archfind.codebase.sizes import Contradiction, told_by_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.codebase.key_tree import KeyNode
    from archfind.codebase.parts import DeclaredLayer, DeclaredWeight
    from archfind.codebase.sizes import Told


_MODULE = 0.6  # what a tensor counts in a module without others that the code alone doesn't say
_MODULES = 0.3  # ... and in one with others


class Account:
    """The tensors that are accounted for, those in modules that are open with what they count, the
    modules that the keys lack, and what the sizes tell."""

    __slots__ = ("counted", "known", "lacking", "told", "unsaid")

    def __init__(self, known: int = 0) -> None:
        self.known = known
        self.unsaid, self.counted, self.lacking = 0, 0.0, 0
        self.told: list[Told] = []

    @property
    def worth(self) -> float:
        """Tensors, open ones in part, less what is lacking."""
        return self.known + self.counted - self.lacking

    def add(self, other: Account) -> None:
        """Take in another part's account."""
        self.known += other.known
        self.unsaid += other.unsaid
        self.counted += other.counted
        self.lacking += other.lacking
        self.told += other.told

    def untold(self) -> Account:
        """The account without what the sizes tell."""
        account = Account()
        account.add(self)
        account.told = []
        return account


def open_account(node: KeyNode) -> Account:
    """That of a module which the code alone doesn't say."""
    account = Account()
    account.unsaid = node.size if node.children else 1
    has_modules = any(child.children for child in node.children.values())
    account.counted = account.unsaid * (_MODULES if has_modules else _MODULE)
    return account


def layer_account(part: DeclaredLayer, node: KeyNode) -> Account:
    tensors = node.tensors()
    sizes = arguments_shown_by(part.kind, tensors)
    if sizes is None or "" in tensors:
        return Account()
    groups = part.arguments.get("groups")
    account = Account(len(tensors))
    for name, size in sizes.items():
        is_grouped = name == "in_channels" and groups is not None
        if name in part.arguments and not is_grouped:
            account.told.append((part.arguments[name], part.frame, size))
    bias = part.arguments.get("bias")
    if isinstance(bias, ast.Constant) and bias.value is False and "bias" in tensors:
        return Account()
    return agreed(account)


def weight_account(part: DeclaredWeight, node: KeyNode) -> Account:
    if node.shape is None or node.children:
        return Account()
    account = Account(1)
    if part.sizes is not None:
        if len(part.sizes) != len(node.shape):
            return Account()
        account.told += [(s, part.frame, n) for s, n in zip(part.sizes, node.shape, strict=True)]
    return agreed(account)


def agreed(account: Account) -> Account:
    """The account; one of nothing where the code writes other sizes."""
    try:
        for expression, frame, value in account.told:
            told_by_value(expression, frame, value, {})
    except Contradiction:
        return Account()
    return account
