"""Keys and shapes as a tree of modules."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Shape = tuple[int, ...]


class KeyNode:
    """A module of a state dict, or a tensor: what is below it by name, the shape of a tensor, and
    the number of tensors in all."""

    __slots__ = ("children", "shape", "size")

    def __init__(self) -> None:
        self.children: dict[str, KeyNode] = {}
        self.shape: Shape | None = None
        self.size = 0

    def tensors(self) -> dict[str, Shape]:
        """Every tensor below, by its path."""
        return dict(self._tensors(""))

    def _tensors(self, path: str) -> Iterator[tuple[str, Shape]]:
        if self.shape is not None:
            yield path.removesuffix("."), self.shape
        for name, child in self.children.items():
            yield from child._tensors(f"{path}{name}.")


def key_tree(shapes: Mapping[str, Shape]) -> KeyNode:
    """The tree of a state dict's keys."""
    root = KeyNode()
    for key, shape in shapes.items():
        node = root
        node.size += 1
        for word in key.split("."):
            node = node.children.setdefault(word, KeyNode())
            node.size += 1
        node.shape = shape
    return root


def modules(root: KeyNode, least: float) -> Iterator[tuple[str, KeyNode]]:
    """The whole tree, and every module that has at least this share of its tensors."""
    waiting = [("", root)]
    while waiting:
        prefix, node = waiting.pop()
        yield prefix, node
        for name, child in node.children.items():
            if child.children and child.size >= least * root.size:
                waiting.append((f"{prefix}{name}.", child))
