"""U-Nets: maps are kept on the way down, and put beside those of the way up."""

from __future__ import annotations

from archfind.frozen import frozen
from archfind.sourcing.flow import Body, Flow, entry
from archfind.sourcing.names import attribute
from archfind.sourcing.parts import ModulePart
from archfind.sourcing.values import MAP, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST = 2  # levels that are put beside one another


@frozen
class Stage:
    """A module of the way down or up, how the forward calls it, and its widths."""

    part: ModulePart
    call: str
    ins: int
    outs: int

    @property
    def is_up(self) -> bool:
        return self.part.kind.startswith("ConvTranspose")


def unet(part: ModulePart, value: Value, flow: Flow, last: bool) -> Value | None:
    """Stages that chain down, and stages on the way up that read their own width and that of a
    stage of the way down together."""
    if not part.is_block or part.tensors or value.kind not in ("input", MAP):
        return None
    stages = _stages(part)
    if stages is None or len(stages) < 2 * _FEWEST + 1:
        return None
    first = stages[0].part
    if first.is_conv and set(first.arguments["kernel_size"]) == {1}:
        stages = [*stages[1:], stages[0]]  # an output that was registered first
    order = _order(stages)
    if order is None:
        return None
    return _write(part, order, value, flow)


def _stages(part: ModulePart) -> list[Stage] | None:
    """The modules in the order of registration; those in a list are stages each."""
    held: list[Stage] = []
    for child in part.children.values():
        numbered = bool(child.children) and all(name.isdecimal() for name in child.children)
        members = list(child.children.values())
        listed = numbered and (
            all(member.children for member in members)
            or all(member.kind.startswith("ConvTranspose") for member in members)
            or (any(m.children for m in members) and all(m.children or m.is_conv for m in members))
        )
        rows = (
            [(m, f"{attribute(child.name)}[{m.name}]") for m in members]
            if listed
            else [(child, attribute(child.name))]
        )
        if listed and [m.name for m in members] != [str(n) for n in range(len(members))]:
            return None
        for member, call in rows:
            first = entry(member)
            if first is None:
                continue
            if not first.is_conv:
                return None
            held.append(Stage(member, call, first.ins, _out(member)))
    return held


def _out(part: ModulePart) -> int:
    convs = [child for child in part.walk() if child.is_conv]
    return convs[-1].outs if convs else 0


def _order(stages: Sequence[Stage]) -> list[tuple[str, Stage, Stage | None]] | None:
    """What is done in which order: (down | up | join | plain, a stage, and whose map is put
    beside). Of those that fit, the first that was registered comes first."""
    left = list(stages)
    done: list[tuple[str, Stage, Stage | None]] = []
    kept: list[Stage] = []
    width = stages[0].ins
    while left:
        if not any(kind in ("up", "join") for kind, _, _ in done):
            stage = next((s for s in left if s.ins == width and not s.is_up and s.outs > 1), None)
            joins = any(s.ins != width for s in left)
            wider = stage is not None and (stage.outs >= width or not kept)
            if stage is not None and wider and joins:
                done.append(("down", stage, None))
                kept.append(stage)
                left.remove(stage)
                width = stage.outs
                continue
            if len(kept) < _FEWEST + 1:
                return None
            kept.pop()  # the deepest is no map to put beside
        stage = next((s for s in left if s.is_up and s.ins == width), None)
        if stage is not None and kept and done[-1][0] != "up":
            done.append(("up", stage, None))
            left.remove(stage)
            width = stage.outs
        elif kept:
            beside = kept.pop()
            stage = next((s for s in left if not s.is_up and s.ins == width + beside.outs), None)
            if stage is None:
                return None
            done.append(("join", stage, beside))
            left.remove(stage)
            width = stage.outs
        else:
            stage = next((s for s in left if s.ins == width and not s.is_up), None)
            if stage is None:
                return None
            done.append(("plain", stage, None))
            left.remove(stage)
            width = stage.outs
    joins = sum(kind == "join" for kind, _, _ in done)
    return done if joins >= _FEWEST and not kept else None


def _write(
    part: ModulePart,
    order: list[tuple[str, Stage, Stage | None]],
    value: Value,
    flow: Flow,
) -> Value | None:
    body = Body()
    downs = [stage for kind, stage, _ in order if kind == "down"]
    names = {id(stage): f"skip{number}" for number, stage in enumerate(downs[:-1], 1)}
    up_before = False
    first = order[0][1].part
    dims = entry(first).dims if entry(first) is not None else 2  # pyright: ignore
    how = flow.asked.value(
        "skip_order", "up_first", "the commoner order", ("up_first", "skip_first")
    )
    pool = flow.pool(part, Value(MAP, 1, dims))
    for kind, stage, beside in order:
        if kind == "up" and entry(stage.part) is not None:
            stage.part.usual = stage.part.usual or _doubles(stage.part)
        if kind == "join" and beside is not None:
            if not up_before:
                word = flow.asked.value(
                    "upsample", "nearest", "no layer of its own", ("nearest", "bilinear")
                )
                more = ", align_corners=False" if word != "nearest" else ""
                body.step(f'x = F.interpolate(x, scale_factor=2, mode="{word}"{more})')
            pair = [body.x, names[id(beside)]]
            body.flush()
            pair = ["x", names[id(beside)]]
            pair = pair if how == "up_first" else pair[::-1]
            body.step(f"x = torch.cat([{', '.join(pair)}], dim=1)")
            value = Value(MAP, stage.ins, value.dims)
        given = flow.explain(stage.part, value, kind == "plain" and stage is order[-1][1])
        if given is None or given.width != stage.outs:
            return None
        value = given
        up_before = kind == "up"
        if id(stage) in names:
            body.call(stage.call)
            body.lines.append(f"{names[id(stage)]} = {body.x}")
            body.x = f"{pool}({names[id(stage)]})"
        else:
            body.call(stage.call)
    for child in part.children.values():
        if any(f"{attribute(child.name)}[" in stage.call for _, stage, _ in order):
            child.kind = "ModuleList"
    _finish(part, order[-1][1], body, flow)
    flow.tags.append("unet")
    flow.levels = len(downs), downs[0].outs
    part.about = ""
    return value


def _doubles(part: ModulePart) -> tuple[int, int] | None:
    kernel = part.arguments["kernel_size"][0]
    return {2: (2, 0), 3: (2, 1), 4: (2, 1)}.get(kernel)


def _finish(part: ModulePart, ending: Stage, body: Body, flow: Flow) -> None:
    from archfind.sourcing.chain import final_word
    from archfind.sourcing.unseen import ACTIVATIONS

    if part.path or not ending.part.is_conv:
        part.forward = body.done()
        return
    word = final_word(ending.part, flow)
    if word != "none":
        flow.symbols["final"] = ACTIVATIONS[word]
        part.extras["final"] = ("final", {})
        body.call("self.final")
    part.forward = body.done()
