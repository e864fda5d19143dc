"""Checkpoints inside a zip or tar that is none itself: stable-baselines3's zips, model archives
(.mar), DDUF, NeMo's tars, a zipped folder. Each member is read by its content, like any file."""

from __future__ import annotations

from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint, NoTensors
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.archives.section import Inflated, Moved, Section
from archfind.formats.report import HINTS, Report
from archfind.formats.source import ByteSource
from archfind.types import Checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from archfind.formats.archives.zip_directory import ZipDirectory

MODELS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".onnx", ".pkl", ".tar", ".th", ".gguf")
_SETTINGS = (".json", "/data", ".yaml", ".yml", ".txt")  # the texts beside the weights
_DEPTH = 3  # a zip in a tar in a zip
_DEFLATED = 64 << 20  # what a deflated member may inflate to, in memory
_TEXT = 1 << 20
_MEMBERS = 1000


class OuterArchive:
    """Where a zip's or tar's members are. `section` opens one of them, `text` reads a short one."""

    def __init__(self, source: ByteSource, kind: str, names: list[str]) -> None:
        self.source, self.kind, self.names = source, kind, names

    def section(self, name: str) -> tuple[ByteSource, Moved]:
        raise NotImplementedError

    def text(self, name: str) -> bytes:
        section, _ = self.section(name)
        return section.head(_TEXT)


class ZipContainer(OuterArchive):
    def __init__(self, source: ByteSource, directory: ZipDirectory) -> None:
        super().__init__(source, "zip", list(directory.members))
        self.directory = directory

    def section(self, name: str) -> tuple[ByteSource, Moved]:
        member = self.directory.members[name]
        if member.method == 0:
            start = self.directory.data_start(member)
            return Section(self.source, start, member.size), Moved(start)
        if member.size > _DEFLATED:
            raise NotACheckpoint(
                f"a zip that contains {escape(name)}, compressed; unpack it first", self.source.path
            )
        data = self.directory.read(member, _DEFLATED)
        return Inflated(self.source.path, data), Moved(0, name)


class TarContainer(OuterArchive):
    def __init__(self, source: ByteSource, spans: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(source, "tar", list(spans))
        self.spans = spans

    def section(self, name: str) -> tuple[ByteSource, Moved]:
        start, end = self.spans[name]
        return Section(self.source, start, end - start), Moved(start)


def models(names: list[str]) -> list[str]:
    """The members that promise weights by their suffix."""
    return [name for name in names if name.lower().endswith(MODELS) and not _hidden(name)]


def _hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def read(
    container: OuterArchive,
    report: Report,
    open_section: Callable[[ByteSource, Report], Checkpoint],
) -> Checkpoint:
    """All the checkpoints inside as one, each below a name made from its member's."""
    source = container.source
    held = models(container.names)[:_MEMBERS]
    depth, outer = 0, source
    while isinstance(outer, Section):
        depth, outer = depth + 1, outer.outer
    if depth >= _DEPTH or isinstance(outer, Inflated):
        raise NotACheckpoint(
            f"a {container.kind} that contains {escape(held[0])}; unpack it first", source.path
        )
    places = _places(held)
    parts: dict[str, tuple[str, Checkpoint]] = {}
    error: CheckpointError | None = None
    danger: list[str] = []
    for name in held:
        own = Report(report)
        try:
            section, moved = container.section(name)
            parts[name] = (places[name], moved.checkpoint(open_section(section, own)))
            lines = list(parts[name][1].danger)
        except NoTensors:
            lines = own.danger()  # an empty pickle beside the weights says nothing
        except CheckpointError as problem:
            lines = own.danger()
            if isinstance(problem, LimitExceeded):
                report.doubts = [*report.doubts, *danger, *lines]
                raise  # what one member may take is what all may take
            error = error or problem
            if len(report.warnings) < limits.DANGER_LINES:
                report.warnings.append(f"{escape(name)}: {problem.message}")
        danger += [f"{escape(name)}: {line}" for line in lines]
    report.doubts = [*report.doubts, *danger]
    if not parts:
        if error is not None:
            raise NotACheckpoint(
                f"a {container.kind} that contains {escape(held[0])}; unpack it first "
                f"({error.message})",
                source.path,
            )
        raise NoTensors(f"no tensors in any of its {len(held)} members", source.path)
    return _merged(container, report, parts)


def _merged(
    container: OuterArchive, report: Report, parts: dict[str, tuple[str, Checkpoint]]
) -> Checkpoint:
    single = len(parts) == 1
    index, metadata, hints, objects, sources = {}, {}, {}, {}, {}
    foreign: dict[str, None] = {}
    for name, (place, found) in parts.items():
        head = f"{place}/" if place and not single else ""
        index.update((head + key, spec) for key, spec in found.index.items())
        metadata.update((head + key, value) for key, value in found.metadata.items())
        hints.update((head + key, value) for key, value in found.hints.items())
        objects.update((head + key, value) for key, value in found.objects.items())
        sources.update((head + key, value) for key, value in found.sources.items())
        foreign.update(dict.fromkeys(found.foreign))
        mark = "" if single else f"{escape(name)}: "
        report.warnings.extend(mark + line for line in found.warnings)
    for name, value in _settings(container).items():
        metadata.setdefault(name, value)
        if not HINTS.isdisjoint(name.replace(".", "/").split("/")):
            hints.setdefault(name, value)
    kinds = dict.fromkeys(found.format for _, found in parts.values())
    return Checkpoint(
        path=container.source.path,
        format=f"{container.kind} of {', '.join(kinds)}",
        index=index,
        metadata=metadata,
        hints=hints,
        objects=objects,
        foreign=tuple(foreign),
        danger=tuple(report.doubts),
        warnings=tuple(report.warnings),
        files=(container.source.path,),
        nbytes=container.source.size,
        container={"members": len(container.names), "read": list(parts)},
        sources=sources,
    )


def _places(names: list[str]) -> dict[str, str]:
    """A name for each member: its folder where it is alone there, else its own without suffix."""
    stems = {name: _stem(name) for name in names}
    alone: dict[str, set[str]] = {}
    for stem in stems.values():
        alone.setdefault(stem.rpartition("/")[0], set()).add(stem)
    named: dict[str, str] = {}
    top = _top([*stems.values()])
    for name, stem in stems.items():
        folder = stem.rpartition("/")[0]
        place = folder if folder and len(alone[folder]) == 1 and folder + "/" != top else stem
        named[name] = place.removeprefix(top).replace("~", "~0").replace("/", ".")
    return named


def _top(stems: list[str]) -> str:
    """The one folder around everything, with its slash."""
    first = stems[0].partition("/")[0] + "/"
    return first if all(stem.startswith(first) for stem in stems) else ""


def _stem(name: str) -> str:
    """A member's name without suffix and shard number."""
    low = name.lower()
    stem = next((name[: -len(end)] for end in MODELS if low.endswith(end)), name)
    head, _, tail = stem.rpartition("-of-")
    if tail.isdigit() and head:
        stem = head.rpartition("-")[0] or stem
    return stem


def _settings(container: OuterArchive) -> dict[str, object]:
    """The scalars of small JSON and text members: a config, SB3's `data`."""
    from archfind.formats.safetensors import parse_json

    found: dict[str, object] = {}
    for name in container.names[:_MEMBERS]:
        if not f"/{name}".endswith(_SETTINGS) or len(found) > 1000:
            continue
        try:
            text = container.text(name)
        except CheckpointError:
            continue
        stem = name.rpartition(".")[0] if name.endswith(".json") else name
        stem = stem.removeprefix("./").replace("~", "~0").replace("/", ".")
        if not name.endswith((".json", "data")) or len(text) >= _TEXT:
            plain = text[: limits.METADATA_TEXT].decode("utf-8", "replace")
            found[stem] = plain.strip()
            continue
        try:
            value = parse_json(text, escape(name), container.source.path)
        except CheckpointError:
            continue
        if type(value) is dict:
            _scalars(stem, value, found)
    return found


def _scalars(stem: str, values: dict[object, object], found: dict[str, object]) -> None:
    for key, value in values.items():
        name = f"{stem}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if type(value) is str:
            found[name] = value[: limits.METADATA_TEXT]
        elif type(value) in (int, float, bool):
            found[name] = value
        elif type(value) is list and len(value) <= limits.SHORT_LIST:
            if all(type(one) in (int, float, bool, str) for one in value):
                found[name] = value
        elif type(value) is dict:
            for inner, one in value.items():
                if type(one) in (int, float, bool) or (type(one) is str and len(one) < 500):
                    found[f"{name}/{str(inner)[:200]}"] = one  # SB3's spaces and classes
