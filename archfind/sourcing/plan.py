"""Strides, paddings and poolings that the size of a flattened map forces."""

from __future__ import annotations

from archfind.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archfind.sourcing.flow import Flow
    from archfind.sourcing.parts import ModulePart

_CONVS = ("Conv1d", "Conv2d", "Conv3d")
# Sizes of inputs that are common, the commonest first.
SIZES = (28, 32, 64, 224, 128, 84, 96, 256, 48, 100, 112, 50, 227, 160, 200, 36, 16, 80, 120)


@frozen
class ConvolutionPlan:
    """One way in which the convolutions before a Linear may run: the input's side, each one's
    stride and padding, and after which a pooling halves."""

    side: int
    steps: tuple[tuple[int, int], ...]
    pools: tuple[bool, ...]


def planned_convolutions(top: ModulePart, flow: Flow) -> None:
    """Plan the convolutions before the first Linear that reads a flattened map, or before none: a
    network that averages what its last convolution gives."""
    from archfind.sourcing.residual import plain_structures

    flow.plain = plain_structures(top)
    if flow.listed and any("Pool" in part.kind for part in top.walk()):
        return
    if not flow.listed:
        _adversarial(top, flow)
    convs, linear = _leading(top)
    if not convs or linear is None or linear.ins % convs[-1].outs:
        return
    steps = [_told(part) for part in convs]
    if None in steps and flow.listed:
        return
    if None not in steps:
        for part, step in zip(convs, steps, strict=True):
            part.usual = step
    _special(convs, top, flow)
    cells = linear.ins // convs[-1].outs
    if any(len(set(part.arguments["kernel_size"])) > 1 for part in convs):
        return
    parents = {part.path.rpartition(".")[0] for part in convs}
    rows = [_gap(top, part) for part in convs]
    direct = all(not parent or _is_sequential(top, parent) for parent in parents)
    if not direct:
        return
    if cells == 1:
        if not any(parent for parent in parents):
            flow.pools.update(part.path for part in convs[:-1])
        return
    side = round(cells ** (1 / convs[0].dims))
    if side ** convs[0].dims != cells:
        return
    plans = list(_plans(convs, rows, side))
    if plans:
        _apply(plans[0], convs, rows, flow, len(plans))


def _adversarial(top: ModulePart, flow: Flow) -> None:
    """Generators of transposed convolutions alone, and discriminators of kernels of 4."""
    layers = [part for part in top.walk() if part.ins or part.outs]
    if len(layers) < 3 or not all(part.is_conv for part in layers):
        return
    oblong = [part for part in layers if part.ins != part.outs]
    if oblong and all(part.kind.startswith("ConvTranspose") for part in oblong):
        for part in layers:  # a square one is what those beside it are
            if part.arguments["kernel_size"][0] % 2 == 0 and "groups" not in part.arguments:
                part.kind = f"ConvTranspose{part.dims}d"
    kernels = {part.arguments["kernel_size"][0] for part in layers}
    if all(part.kind.startswith("ConvTranspose") for part in layers):
        flow.tags.append("generator")
        layers[0].usual, layers[0].reason = (1, 0), "a generator spreads a vector first"
    elif kernels == {4} and layers[-1].outs == 1 and all(p.kind in _CONVS for p in layers):
        flow.usual_activation = "leaky_relu_0.2"
        layers[-1].usual = (1, 0)
        layers[-1].reason = "a discriminator's last kernel covers all that is left"


def _leading(top: ModulePart) -> tuple[list[ModulePart], ModulePart | None]:
    """The convolutions that chain from the start, and the Linear after them."""
    convs: list[ModulePart] = []
    for part in top.walk():
        if part.kind.startswith("ConvTranspose"):
            return [], None
        if part.is_conv:
            if convs and part.ins not in (convs[-1].outs, 1):
                return [], None
            convs.append(part)
        elif part.kind == "Linear":
            return convs, part
        elif part.ins or part.kind == "Embedding":
            return [], None
    return [], None


def _is_sequential(top: ModulePart, path: str) -> bool:
    part = top
    for name in path.split("."):
        part = part.children[name]
    return part.kind == "Sequential"


def _gap(top: ModulePart, conv: ModulePart) -> int:
    """How many layers without tensors stand after a convolution and its norm in its Sequential; -1
    where nothing tells."""
    parent, _, name = conv.path.rpartition(".")
    if not name.isdecimal() or not ((parent and _is_sequential(top, parent)) or not parent):
        return -1
    part = top
    for word in parent.split(".") if parent else ():
        part = part.children[word]
    numbers = sorted(int(n) for n in part.children if n.isdecimal())
    norms = {int(n) for n, c in part.children.items() if n.isdecimal() and c.is_norm}
    at = int(name)
    while at + 1 in norms:
        at += 1
    later = [number for number in numbers if number > at]
    return later[0] - at - 1 if later else -1


def _told(part: ModulePart) -> tuple[int, int] | None:
    """A convolution's stride and padding where a whole pickle says both, and they are square."""
    held: list[int] = []
    for name in ("stride", "padding"):
        told = part.said.get(name)
        sizes = set(told) if isinstance(told, list | tuple) else {told}
        if len(sizes) != 1 or type(next(iter(sizes))) is not int:
            return None
        held.append(next(iter(sizes)))  # pyright: ignore
    return held[0], held[1]


def _special(convs: Sequence[ModulePart], top: ModulePart, flow: Flow) -> None:
    """Kernels of 8, 4 and 3 are those that read frames of games, at strides of 4, 2 and 1."""
    kernels = [part.arguments["kernel_size"][0] for part in convs]
    if kernels in ([8, 4, 3], [8, 4]) and not all(part.usual for part in convs):
        for part, step in zip(convs, (4, 2, 1), strict=False):
            part.usual, part.reason = (step, 0), "kernels of 8, 4 and 3 read frames of games"


def _plans(
    convs: Sequence[ModulePart], gaps: Sequence[int], side: int
) -> Iterator[ConvolutionPlan]:
    kernels = [part.arguments["kernel_size"][0] for part in convs]
    if all(part.usual for part in convs):
        steps = tuple(part.usual or (1, 0) for part in convs)
        none, every = tuple(False for _ in convs), tuple(True for _ in convs)
        ways = (none, every) if all(_told(part) for part in convs) else (none,)
        for pools in ways:
            for s in SIZES:
                if _after(s, kernels, steps, pools) == side:
                    yield ConvolutionPlan(s, steps, pools)
        return
    count = len(convs)
    known = tuple(gap >= 2 for gap in gaps)
    unknown = [n for n, gap in enumerate(gaps) if gap < 0]
    every = tuple(k or n in unknown for n, k in enumerate(known))
    some = [every, known]
    if count > 1:
        some += [tuple(k or (n in unknown and n % 2 == 1) for n, k in enumerate(known))]
        some += [tuple(k or (n in unknown and n == count - 1) for n, k in enumerate(known))]
    same = tuple((1, kernel // 2) for kernel in kernels)
    bare = tuple((1, 0) for _ in kernels)
    halved = tuple((2, (kernel - 1) // 2) for kernel in kernels)
    ways = [(same, pools) for pools in some] + [(bare, pools) for pools in some]
    if not any(known):
        ways.insert(1 if any(every) else 0, (halved, tuple(False for _ in kernels)))
    for usual in (SIZES[:3], SIZES[3:]):
        for steps, pools in ways:
            for size in usual:
                if _after(size, kernels, steps, pools) == side:
                    yield ConvolutionPlan(size, steps, pools)


def _after(
    size: int,
    kernels: Sequence[int],
    steps: Sequence[tuple[int, int]],
    pools: Sequence[bool],
) -> int:
    """The side of what the last convolution gives for an input of a side of `size`."""
    for kernel, (step, around), halves in zip(kernels, steps, pools, strict=True):
        size = (size + 2 * around - kernel) // step + 1
        size = size // 2 if halves else size
    return size


def _apply(
    plan: ConvolutionPlan, convs: Sequence[ModulePart], gaps: Sequence[int], flow: Flow, many: int
) -> None:
    others = "" if many == 1 else f"; {many - 1} other ways fit, too"
    reason = f"an input of {plan.side} gives the size that is flattened{others}"
    for part, step, pools, gap in zip(convs, plan.steps, plan.pools, gaps, strict=True):
        part.usual, part.reason = step, reason
        if pools and gap < 2:
            flow.pools.add(part.path)
    flow.input_side = plan.side
