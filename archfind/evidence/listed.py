"""What a whole pickled network says of its layers: their classes, and the attributes that no tensor
shows. On the cold path of `archfind guess`, for few files."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import Canonical


def root_class(canonical: Canonical) -> str:
    """The class of the pickled module whose tensors these are; "" where there is none."""
    return canonical.checkpoint.objects.get(_place(canonical), "")


def is_listed(canonical: Canonical) -> bool:
    """Whether the file names the class of every layer that has tensors."""
    objects = canonical.checkpoint.objects
    return bool(root_class(canonical)) and all(
        pointer.rpartition(".")[0] in objects for pointer in canonical.origin.values()
    )


def listing(canonical: Canonical) -> dict[str, tuple[str, Mapping[str, object]]]:
    """The class and the attributes of each module, by its path in the network; empty where the
    file lists none."""
    if not root_class(canonical):
        return {}
    place, checkpoint = _place(canonical), canonical.checkpoint
    start = f"{place}/" if place else ""
    attributes: dict[str, dict[str, object]] = {}
    for pointer, value in checkpoint.metadata.items():
        path, at, name = pointer.partition("@")
        if at:
            attributes.setdefault(path, {})[name] = value
    found: dict[str, tuple[str, Mapping[str, object]]] = {
        path.removeprefix(start): (cls, attributes.get(path, {}))
        for path, cls in checkpoint.objects.items()
        if path.startswith(start) and path != place
    }
    # Layers whose names were read as others': under the network's own.
    own = {
        key.rpartition(".")[0]: at.removeprefix(start).rpartition(".")[0]
        for key, at in canonical.origin.items()
    }
    return found | {path: found[at] for path, at in own.items() if at in found}


def _place(canonical: Canonical) -> str:
    """Where in the file the state dict's module stands."""
    first = next(iter(canonical.origin.values()), "")
    return first.rpartition("/")[0]
