"""`archfind signatures`: what the database knows, and how it is made and proven."""

from __future__ import annotations

from pathlib import Path

from archfind.database.entries import Database, Signature, default, shipped, signatures_folder
from archfind.errors import SignatureError
from archfind.writing import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import SignatureMember


def list_lines(wanted: list[str]) -> list[str]:
    """Every entry by name; of the wanted words, those that are providers choose theirs, and all
    others must be in the name or in its class. The last line counts them. SignatureError where
    there is none."""
    members = sorted((m.entry.id, m.entry.cls) for m in _members(default()))
    known = {name.partition("/")[0] for name, _ in members}
    words = [word.lower() for word in wanted]
    providers = known.intersection(words) or known
    ids = [
        name
        for name, cls in members
        if name.partition("/")[0] in providers
        and all(word in f"{name} {cls}".lower() for word in words if word not in known)
    ]
    if not ids:
        text = f"no name has {' and '.join(wanted)} in it"
        raise SignatureError(f"{text}; libraries are: {', '.join(sorted(known))}")
    counts: dict[str, int] = {}
    for name in ids:
        provider = name.partition("/")[0]
        counts[provider] = counts.get(provider, 0) + 1
    summary = ", ".join(f"{count} {provider}" for provider, count in counts.items())
    return [*ids, f"{len(ids)} names: {summary}; {len(default())} distinct sets of tensors"]


def _members(database: Database) -> list[SignatureMember]:
    return [m for number in range(len(database)) for m in database.signature(number).members]


def _find(database: Database, name: str) -> tuple[Signature, SignatureMember]:
    for number in database.named(name):
        for member in database.signature(number).members:
            if name in (member.entry.id, member.entry.name):
                return database.signature(number), member
    raise SignatureError(f"no entry {name!r}; `archfind signatures list` has them all")


def show_lines(names: list[str]) -> list[str]:
    """Each entry in the notation of signatures/, as the compiled index has it, and its twins."""
    if not names:
        raise SignatureError("show wants the name of an entry, such as timm/resnet50")
    lines: list[str] = []
    for name in names:
        text = default().texts_by_name.get(name)
        if text is not None:
            lines += Path(text.path).read_text().rstrip("\n").split("\n")
            continue
        signature, member = _find(default(), name)
        lines += default().entry_text(signature.number, member.entry.id)
        for twin in signature.members:
            if twin is not member:
                same = "the same function" if twin.function == member.function else twin.differs
                lines.append(f"# same tensors: {twin.entry.id}, {same or 'another function'}")
    return lines


def _texts() -> Path:
    """signatures/ with the texts that everything else in it is made of."""
    place = Path(signatures_folder())
    if not any(place.glob("*/*.txt")):
        raise SignatureError(
            f"{place} has compiled tables alone, as every installed package; the texts that they "
            "are made of are in archfind's repository: run this from a clone of it"
        )
    return place


def compile_lines() -> list[str]:
    """Write signatures/index.bin from the text beside it."""
    from archfind.database.classes import Families
    from archfind.database.compile import compile_index
    from archfind.database.compile_classes import compile_families
    from archfind.database.compile_model_types import compile_types
    from archfind.database.model_types import ModelTypes

    place = _texts()
    data = compile_index(place)
    beside.write_small_file(place / "index.bin", data)
    lines = [f"{place / 'index.bin'}: {len(Database(data))} signatures, {len(data):,} bytes"]
    data = compile_families(place)
    beside.write_small_file(place / "families.bin", data)
    lines.append(f"{place / 'families.bin'}: {len(Families(data))} families, {len(data):,} bytes")
    data = compile_types(place)
    beside.write_small_file(place / "configured.bin", data)
    types = ModelTypes(data)
    words = f"{types.texts} model types, {len(types)} classes and dialects, {len(data):,} bytes"
    return [*lines, f"{place / 'configured.bin'}: {words}"]


def build_lines(names: list[str], only: str = "", again: bool = False) -> tuple[list[str], bool]:
    """Harvest each provider anew, compare its twins, and compile. Of transformers those types that
    have no file, `only` some of them ("bert,roberta"); `again` learns those anew, and keeps the
    better of what was known and what is learned."""
    place = _texts()
    from archfind.learning.entries import build_signatures
    from archfind.learning.twins import write_twins
    from archfind.providers import CONFIGURED, PROVIDERS

    lines: list[str] = []
    failed: list[str] = []
    known = (*PROVIDERS, CONFIGURED)
    if any(name not in known for name in names) or not names:
        raise SignatureError(f"build wants a provider: {' or '.join(known)}")
    if CONFIGURED in names:
        from archfind.learning.configs.build import build_again, build_types

        some = only.split(",") if only else ()
        if again:
            lines += build_again(place, some)
        else:
            failed += build_types(place, some)
        names = [name for name in names if name != CONFIGURED]
    for name in names:
        count, missed = build_signatures(name, place)
        lines.append(f"{name}: {count} entries")
        failed += missed
    lines += write_twins(place) if names else []
    return [*lines, *failed, *compile_lines()], bool(failed)


def families_lines(names: list[str], only: str = "", again: bool = False) -> list[str]:
    """Learn the families of each provider's classes, those that have a file excepted, and compile.
    It takes a minute a class; stopped work goes on where it stopped. `again` learns those with
    `only` in their path anew, and keeps the best of what was known and what is learned."""
    place = _texts()
    from archfind.learning.families import build_families
    from archfind.providers import PROVIDERS

    if any(name not in PROVIDERS for name in names) or not names:
        raise SignatureError(f"families wants a provider: {' or '.join(PROVIDERS)}")
    lines = [line for one in names for line in build_families(one, place, only, again)]
    return [*lines, *compile_lines()]


def check_lines(names: list[str], sample: int, seed: int) -> tuple[list[str], bool]:
    """Prove entries against the installed libraries: built for real with another class count,
    guessed back as themselves or a twin, and loaded strictly. `sample` 0 takes them all."""
    from archfind.learning.check import check_entries

    ids = sorted(m.entry.id for m in _members(shipped()))
    chosen = [i for i in ids if i in names or i.partition("/")[2] in names] if names else ids
    if not chosen:
        raise SignatureError(f"no entry {names[0]!r}; `archfind signatures list` has them all")
    failures, proven = check_entries(chosen, 0 if names else sample, seed)
    total = (
        f"{proven} of {proven + len(failures)} proven: built, guessed back, same keys and shapes"
    )
    return [*failures, total], bool(failures)
