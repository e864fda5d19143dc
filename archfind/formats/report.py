"""What a reader has found so far, kept apart so that a later failure can't hide it."""

from __future__ import annotations

from archfind.errors import LimitExceeded, NoTensors
from archfind.formats import limits
from archfind.types import Checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.pickles.machine import Machine
    from archfind.formats.source import ByteSource
    from archfind.formats.torch_files.flatten import Flat
    from archfind.formats.torch_files.torch_objects import Reader

# What archfind writes into the files that it exports, and reads.
EXPORTED = frozenset(
    "archfind.architecture archfind.build archfind.config archfind.assumed archfind.source".split()
)
HINTS = EXPORTED | frozenset(
    """arch architecture args hyper_parameters hparams config cfg model_args model_config dims opt
    meta model_name model_family backbone num_classes classes task size variant kwargs model_kwargs
    train_args model_arch model_type model_class encoder_name policy_class policy_kwargs""".split()
)


class PickleWork:
    """What the pickles of one file cost together: a file can hold ten thousand of them, each of
    which stays below its own limits."""

    __slots__ = ("inner", "objects", "pickled", "visits")

    def __init__(self) -> None:
        self.objects = self.pickled = self.visits = 0
        self.inner = 0  # pickles within the bytes that others hold

    def check(self, path: str) -> None:
        """Refuses to begin another one when those before it took all that a file may take."""
        if (
            self.objects > limits.PICKLE_OBJECTS
            or self.pickled > limits.PICKLE_BYTES
            or self.visits > limits.WALK_VISITS
        ):
            raise LimitExceeded("refused: its pickles are too much together", path)


class Report:
    """Collects the pickles read and what there is to say about them. `parent` is the report of the
    file that this one is a part of."""

    def __init__(self, parent: Report | None = None) -> None:
        self.work = parent.work if parent else PickleWork()
        self.machines: list[Machine] = []
        self.doubts: list[str] = []  # tensors that claim what their storage can't hold
        self.warnings: list[str] = []
        self.container: dict[str, object] = {}
        self.sources: dict[str, str] = {}  # Python source that the file carries
        self.needs_tensors = True  # a file without any is refused
        self._inner_names: set[str] = set()

    def begin(self, machine: Machine, reader: Reader | None = None, base: int = -1) -> None:
        """Adds a pickle that is to be read next, from `base` of its file on, or -1 where it doesn't
        lie there as it is. `reader` reads its calls."""
        self.work.check(machine.path)
        machine.work = self.work
        self.machines.append(machine)
        if reader is not None:
            reader.machine, reader.report, reader.base = machine, self, base

    def forget_plain(self, first: int) -> None:
        """Drops the pickles from `first` on that name nothing new and nothing dangerous: there can
        be one for each tensor."""
        from archfind.formats.pickles.danger import danger_lines

        kept = self.machines[:first]
        for one in self.machines[first:]:
            new = one.globals.keys() - self._inner_names
            if new or one.attributes or danger_lines(one.globals, one.where):
                self._inner_names.update(new)
                kept.append(one)
        self.machines = kept

    def danger(self) -> list[str]:
        """One line for each dangerous call in the pickles read so far, finished or not."""
        if not self.machines:
            return self.doubts
        from archfind.formats.pickles.danger import danger_lines  # only pickles call anything

        calls = [line for one in self.machines for line in danger_lines(one.globals, one.where)]
        return calls + self.doubts

    def foreign(self) -> tuple[str, ...]:
        """Every global named, in order of first appearance."""
        return tuple(dict.fromkeys(name for one in self.machines for name in one.globals))

    def checkpoint(self, source: ByteSource, kind: str, flat: Flat, root: object) -> Checkpoint:
        """The finished Checkpoint, or NoTensors."""
        self.doubts = [*self.doubts, *flat.specs.danger]
        self.work.visits += flat.visits
        add_zero_shapes(flat)
        flat.metadata.update(self._exported())
        if not flat.index and self.needs_tensors:
            raise NoTensors(f"no tensors: the pickle holds {describe_value(root)}", source.path)
        return Checkpoint(
            path=source.path,
            format=kind,
            index=flat.index,
            metadata=flat.metadata,
            hints=hints(flat.metadata),
            objects=flat.objects,
            foreign=self.foreign(),
            danger=tuple(self.danger()),
            warnings=(*self.warnings, *flat.warnings),
            files=(source.path,),
            nbytes=source.size,
            container=self.container,
            sources={**self.sources, **flat.sources},
            versions=self._versions(),
        )

    def _beside(self) -> dict[object, object]:
        """The `_metadata` that torch gives a state dict; {} where there are several of those."""
        said = [
            one["_metadata"] for m in self.machines for one in m.attributes if "_metadata" in one
        ]
        return said[0] if len(said) == 1 and type(said[0]) is dict else {}

    def _exported(self) -> dict[str, object]:
        """What an export of archfind's own notes in `_metadata`; no module has its name."""
        own = self._beside().get("archfind")
        if type(own) is not dict:
            return {}
        return {
            name: text[: limits.METADATA_TEXT]
            for name, text in own.items()
            if type(name) is str and type(text) is str and name in EXPORTED
        }

    def _versions(self) -> dict[str, int]:
        """Layers' versions in `_metadata`, those of 1, which most have, left out."""
        found: dict[str, int] = {}
        for layer, one in self._beside().items():
            version = one.get("version") if type(one) is dict else None  # pyright: ignore
            if type(layer) is str and type(version) is int and version != 1:
                found[layer] = version
        return found


def add_zero_shapes(flat: Flat) -> None:
    """DeepSpeed's ZeRO keeps the shapes of the whole network beside a part of its weights."""
    named = [key for key in flat.metadata if key.startswith("param_shapes/")]
    if not named:
        return
    from archfind.formats.many_files.deepspeed import add_shapes

    add_shapes(flat.index, flat.metadata, flat.path, flat.warnings)


def hints(metadata: dict[str, object]) -> dict[str, object]:
    """The part of a pickle's metadata that reads like arguments of a constructor."""
    return {
        pointer: value
        for pointer, value in metadata.items()
        if not HINTS.isdisjoint(pointer.split("/"))
    }


def describe_value(value: object) -> str:
    """A value in words, for an error: "a list of 12 str"."""
    from archfind.escape import escape
    from archfind.formats.pickles.nodes import Bytes, Global, Group, PickledCall, Tensor

    kind = type(value)
    if kind is dict:
        keys = [escape(key, 40) for key in list(value)[:3] if type(key) is str]  # pyright: ignore
        count = len(value)  # pyright: ignore
        named = f" ({', '.join(keys)}{' ...' if count > len(keys) else ''})" if keys else ""
        return f"a dict of {count} {'entry' if count == 1 else 'entries'}{named}"
    if kind is Group:
        value, name = value.members, "set"  # pyright: ignore
    else:
        name = kind.__name__
    if kind in (list, tuple, Group):
        kinds = set(map(type, value))  # pyright: ignore
        what = kinds.pop().__name__ if len(kinds) == 1 else "values"
        return f"a {name} of {len(value)} {what}"  # pyright: ignore
    if kind is PickledCall:
        return f"an object of class {escape(value.name)}"  # pyright: ignore
    if kind is Global:
        return f"the name {escape(value.name)}"  # pyright: ignore
    if kind is Bytes:
        return "bytes"
    if kind is Tensor:
        return "a tensor without a shape"
    if value is None:
        return "None"
    if type(value) is int and 0 <= value < 10**9:
        return f"an int ({value})"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
