"""Which network a graph was exported from, its weights led back, and the proof by its outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from archfind.building.claimed_size import refuse_larger
from archfind.building.from_config import class_with_state
from archfind.building.instantiate import matched_on_meta, matched_with_initial_weights
from archfind.database import entries as databases
from archfind.database.entries import Database, Signature
from archfind.errors import ArchfindError, BuildError, UnknownError
from archfind.escape import escape
from archfind.exporters import parity
from archfind.exporters.job import Job
from archfind.exporters.onnx import quiet_exporters, reason
from archfind.exporters.torch_onnx import newer
from archfind.formats.side_files import claimed_whole_number, like, object_in
from archfind.from_onnx import graph
from archfind.from_onnx.inputs import example_for, freed_in, inputs, run_graph
from archfind.from_onnx.names import by_constant_names, unseen
from archfind.from_onnx.size import refuse_large
from archfind.from_onnx.slots import constants, paired, slots
from archfind.from_onnx.trace import ConstantTracer, assigned, randomise_uniquely
from archfind.frozen import replace
from archfind.providers.example import Axes, Example, tensors_of_call
from archfind.state_dicts.canonical import DERIVED
from archfind.types import Built, Guess, Match, Setting, Variant
from archfind.writing import beside

_ITEMS = 1_000  # of a list in an argument
# arguments that no file decides: they lead to weights elsewhere
_HELD = frozenset(
    """pretrained pretrained_cfg pretrained_cfg_overlay checkpoint_path cache_dir weights
    weights_backbone features_only scriptable progress""".split()
)
_TRIED = 6  # networks whose shapes the graph has, each exported once or twice


def build_from_graph(guess: Guess, choose: str = "", allow_expansion: bool = False) -> Built:
    """The library's network with the graph's weights, proven on onnxruntime's outputs.

    Raises UnknownError where no network is found or none gives the graph's outputs; the graph
    itself can be had as a module from `graph_module`.
    """
    checkpoint = guess.canonical.checkpoint
    if checkpoint.danger:
        raise BuildError(f"isn't loaded: {checkpoint.danger[0]}", checkpoint.path)
    model = load_graph(checkpoint.path, () if allow_expansion else checkpoint.files)
    failures: list[str] = []
    others = ((match, dict[str, Tensor]()) for match in _candidates(guess, model, choose))
    for named, state in chain(by_constant_names(guess, model, choose), others):
        try:
            if state:
                match, module, note = _loaded(named, state, model, checkpoint.path)
                loaded = sum(key in state for key in module.state_dict())
            else:
                match = named
                module, loaded, note = _recovered(named, model, checkpoint.path)
        except ArchfindError as error:
            failures.append(f"{named.entry.id}: {error.message}")
            continue
        match = replace(match, assumed=())  # the outputs are the graph's
        answer = replace(guess, status="exact", matches=(match,), warnings=(*guess.warnings, note))
        return Built(answer, match, module, loaded, len(module.state_dict()))
    nothing = f"it isn't {choose}" if choose else "no known network has its shapes"
    why = "; ".join(failures[:3]) or nothing
    raise UnknownError(f"no network recovered from the graph: {why}", checkpoint.path, ())


def load_graph(path: str, files: tuple[str, ...]) -> onnx.ModelProto:
    """The model with its data. BuildError where onnx refuses it, or where it would take memory out
    of proportion to the `files`; with none of them, that isn't looked at."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and onnx's own, and those of missing data files
        raise BuildError(f"onnx can't load it: {escape(str(error), 160)}", path) from error
    if files:
        refuse_large(model, path, files)
    return model


def graph_module(path: str, files: tuple[str, ...]) -> nn.Module:
    """The graph as a module that trains, node by node; its outputs compared with onnxruntime's.
    BuildError names what can't be converted."""
    model = load_graph(path, files)
    module = graph.module_of_graph(model, path)
    args = inputs(model)
    if args is None:
        raise BuildError("its inputs have sizes that nothing tells", path)
    try:
        expected = run_graph(path, args)
        found = parity.case(module, tuple(args)).outputs
    except Exception as error:  # sizes that the graph doesn't take, in words of either library
        raise BuildError(
            f"doesn't run on inputs of its own sizes: {reason(error)}", path
        ) from error
    named = dict(zip((f"output {n}" for n in range(len(expected))), expected, strict=True))
    difference = parity.compare(named, list(found.values()))
    if difference.why:
        raise BuildError(f"converted, {difference.why}", path)
    return module


def _candidates(guess: Guess, model: onnx.ModelProto, choose: str) -> Iterator[Match]:
    """Networks to try: the one that is named, by the user or by the file, then those whose names
    or shapes the graph has."""
    database = databases.default()
    seen: set[str] = set()
    said = {p.key: p.value for p in model.metadata_props}
    names = [choose] if choose else [said.get("archfind.architecture", "")]
    for name in filter(None, names):
        for match in _named(database, name, said if name not in (choose,) else {}, model):
            seen.add(match.entry.id)
            yield match
    if choose:
        return
    held = _matrices(model)
    near = [n for match in guess.matches[:3] for n in database.named(match.entry.id)]
    sizes = range(len(database)) if sum(held.values()) > 2 else ()
    for number in dict.fromkeys([*near, *sizes]):
        signature = database.signature(number) if _may_be(database, number, held) else None
        name = signature.members[0].entry.id if signature else ""
        if signature and name not in seen and _has_shapes(signature, held):
            seen.add(name)
            yield from _named(database, name, {}, model)
        if len(seen) >= _TRIED:
            return


def _named(
    database: Database, name: str, said: Mapping[str, str], model: onnx.ModelProto
) -> Iterator[Match]:
    """The entry of that name, as the file says it was built, or with as many classes as the
    graph's last linear layer has."""
    for number in database.named(name):
        for member in database.signature(number).members:
            if name not in (member.entry.id, member.entry.name) or member.entry.is_users:
                continue
            settings, variant = _said(said)
            if variant is None:
                settings = {k: s for k, s in settings.items() if k in member.entry.fields}
            if not settings and "num_classes" in member.entry.fields:
                last = [s.array.shape[-1] for s in slots(model) if s.kind == "linear"]
                if last:
                    settings = {"num_classes": Setting(last[-1], "shape")}
            fields = member.entry.fields
            config = {k: Setting(v, "default") for k, v in fields.items()} | settings
            yield Match(member.entry, config, 0, 0, variant=variant)


def _said(said: Mapping[str, str]) -> tuple[dict[str, Setting], Variant | None]:
    """Settings and arguments that an export of archfind's own carries."""
    config = object_in(said.get("archfind.config", ""))
    recipe = object_in(said.get("archfind.build", ""))
    settings = {
        name: Setting(one["value"], "file")
        for name, one in config.items()
        if isinstance(one, dict) and _is_argument(name, one.get("value"))
    }
    args = recipe.get("args")
    if recipe.get("callable") != "archfind.variant" or not isinstance(args, list) or len(args) < 2:
        return settings, None
    moved = args[1] if isinstance(args[1], dict) else {}
    return settings, Variant("", {k: v for k, v in moved.items() if _is_argument(k, v)})


def _is_argument(path: str, value: object) -> bool:
    """Whether an argument may be what a file says: plain, of a size that one can have, and nothing
    that would fetch or open weights."""
    if path.partition(".")[0] in _HELD:
        return False
    if isinstance(value, list):
        return len(value) <= _ITEMS and all(_is_argument(path, item) for item in value)
    if path.endswith(".#"):
        return claimed_whole_number(value, 0, _ITEMS) is not None
    return value is None or like(value, None) is not None


def _matrices(model: onnx.ModelProto) -> Counter[tuple[int, ...]]:
    """The shapes of the graph's matrices and kernels, their axes sorted: what exporters keep,
    perhaps transposed, whatever they do to names and vectors."""
    return Counter(
        tuple(sorted(s.array.shape))
        for s in slots(model)
        if s.array.ndim > 1 and s.kind in ("linear", "Conv.1", "ConvTranspose.1")
    )


def _may_be(database: Database, number: int, held: Counter[tuple[int, ...]]) -> bool:
    total = sum(held.values())
    return total <= database.sizes[number] <= 16 * total + 64


def _has_shapes(signature: Signature, held: Counter[tuple[int, ...]]) -> bool:
    """Whether all of the graph's matrices are the network's, and nearly all of the network's are in
    the graph: tables and unused branches aren't."""
    fixed = Counter(tuple(sorted(s)) for s in signature.fixed.values() if len(s) > 1)
    free = sum(len(line.shape) > 1 for line in signature.free.values())
    lost = (fixed - held).total()
    return (held - fixed).total() <= free and lost <= max(3, 0.3 * fixed.total())


def _loaded(
    match: Match, state: dict[str, Tensor], model: onnx.ModelProto, path: str
) -> tuple[Match, nn.Module, str]:
    """The network that has the graph's names, with its weights. Of settings that no shape shows,
    those that come closest to the graph's outputs: wrong ones may be near enough to pass."""
    best: tuple[float, nn.Module, Mapping[str, object]] | None = None
    why = BuildError("none of its settings gives the graph's outputs")
    for settings in unseen(match):
        try:
            if match.pretrained is not None:
                module = class_with_state(match, state, settings, path)
            else:
                _bounded(match, model, path)
                module = matched_with_initial_weights(match)
            own = state if match.pretrained is None else dict[str, Tensor]()
            apart = _proven(module, own, example_for(match, module, model), path)
        except BuildError as error:
            why = why if settings else error
            continue
        if best is None or apart < best[0]:
            best = apart, module, settings
    if best is None:
        raise why
    _, module, settings = best
    told = [f"{name}={value}, told by its outputs" for name, value in settings.items()]
    found = {name: Setting(value, "value") for name, value in settings.items()}
    note = "; ".join(["its weights have their own names", *told])
    return replace(match, config={**match.config, **found}), module, note


def _recovered(match: Match, model: onnx.ModelProto, path: str) -> tuple[nn.Module, int, str]:
    """The candidate with the graph's weights: through its own names where they're all there, else
    through an export of its own, constant by constant."""
    held = constants(model)
    _bounded(match, model, path)
    module = matched_with_initial_weights(match)
    example = example_for(match, module, model)
    own = module.state_dict()
    needed = [k for k, v in own.items() if isinstance(v, Tensor) and not _is_made(k, v)]
    named = {k: held[k] for k in needed if k in held and held[k].shape == tuple(own[k].shape)}
    if len(named) == len(needed):
        state = {k: torch.from_numpy(np.array(v)) for k, v in named.items()}
        _proven(module, state, example, path)
        return module, len(state), "its weights have their own names"
    why = "its graph and the network's own export don't correspond"
    freed = freed_in(model, example)
    for exporter in (*(["free"] if freed else []), "torchscript", "dynamo", "unfolded"):
        reference = matched_with_initial_weights(match)
        randomise_uniquely(reference)
        try:
            exported = _exported(reference, example, exporter, freed)
        except Exception:  # exporters raise anything
            continue
        pairs = paired(model, exported)
        if pairs is None:
            continue
        state, folded = assigned(pairs, ConstantTracer(reference), module)
        state |= {k: torch.from_numpy(np.array(v)) for k, v in named.items()}
        lost = [k for k in needed if k not in state]
        try:
            _proven(module, state, example, path)
        except BuildError as error:
            why = error.message + (f" ({len(lost)} tensors, as {lost[0]})" if lost else "")
            continue
        note = f"weights led back through the graph ({exporter})"
        note += f"; {folded} BatchNorms unfolded" if folded else ""
        note += f"; {len(lost)} tensors that its outputs don't need are new" if lost else ""
        return module, len(state), note
    raise BuildError(why)


def _bounded(match: Match, model: onnx.ModelProto, path: str) -> None:
    """BuildError where the file's own words make a network that its graph is none of."""
    if any(setting.source == "file" for setting in match.config.values()) or match.variant:
        refuse_larger(lambda: matched_on_meta(match), sum(s.array.size for s in slots(model)), path)


def _is_made(key: str, value: Tensor) -> bool:
    return not value.is_floating_point() or key.rpartition(".")[2] in DERIVED


def _proven(module: nn.Module, state: Mapping[str, Tensor], example: Example, path: str) -> float:
    """Load, run beside onnxruntime, compare. BuildError where they differ."""
    whole = module.state_dict()  # itself, since it carries the versions of its layers
    whole.update(state)
    try:
        module.load_state_dict(whole, strict=True)
    except RuntimeError as error:
        raise BuildError(f"doesn't load: {escape(str(error), 160)}") from error
    module.eval()
    largest = 0.0
    for args in (example.args, parity.other(example.args)):
        with quiet_exporters():
            case = parity.case(module, args)
        try:
            found = run_graph(path, tensors_of_call(args), example.names)
        except Exception as error:  # onnxruntime's own
            raise BuildError(f"onnxruntime: {escape(str(error), 160)}") from error
        if len(found) < len(case.outputs):  # the graph may give fewer of them
            case = parity.Case(args, dict(list(case.outputs.items())[: len(found)]))
        difference = parity.compare(case.outputs, found)
        if difference.why:
            raise BuildError(f"the graph's {difference.why}")
        largest = max(largest, difference.largest)
    return largest


def _exported(
    module: nn.Module, example: Example, exporter: str, freed: tuple[Axes, ...]
) -> onnx.ModelProto:
    """The module as torch exports it: the newer way, with open sizes or without, the older way, or
    that with nothing folded."""
    args = example.args
    with quiet_exporters(), beside.scratch() as folder:
        path = folder / "reference.onnx"
        if exporter == "free":
            newer(module, path, Job(path, {}, example), [], freed)
        elif exporter == "dynamo":
            program = torch.onnx.export(module, args, dynamo=True, verbose=False, optimize=True)
            assert program is not None
            program.save(path)
        else:
            options: dict[str, Any] = {}
            if exporter == "unfolded":
                preserve = torch.onnx.TrainingMode.PRESERVE
                options = {"training": preserve, "do_constant_folding": False}
            with torch.no_grad():
                torch.onnx.export(module, args, path, dynamo=False, verbose=False, **options)
        return onnx.load(path)
