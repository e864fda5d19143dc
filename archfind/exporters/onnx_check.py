"""An .onnx file beside its module: what it leaves free, and whether their outputs agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import nn

from archfind.exporters import parity
from archfind.exporters.parity import Case, Difference
from archfind.exporters.sizes import Sizes
from archfind.providers.example import Axes, Example, tensors_of_call


@dataclass(frozen=True)
class Graph:
    """`opset`, and `free`: for each input the axes whose size is left open, by name."""

    opset: str
    free: tuple[Axes, ...]

    @property
    def words(self) -> list[str]:
        """The names of what is free, each once."""
        return list(dict.fromkeys(name for axes in self.free for name in axes.values()))


def graph_of(path: Path, example: Example) -> Graph:
    """What the file says; inputs that its graph dropped have no axes."""
    model = onnx.load(path, load_external_data=False)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    every = example.axes or ({},) * len(example.names)
    free = tuple(
        {
            axis: word
            for axis, word in {0: "batch", **axes}.items()
            if name in shapes and shapes[name][axis].HasField("dim_param")
        }
        for name, axes in zip(example.names, every, strict=True)
    )
    return Graph(str(opset), free)


def cases(
    module: nn.Module, example: Example, free: tuple[Axes, ...], sizes: Sizes
) -> tuple[list[Case], Case | None]:
    """What the graph is tried on besides what was traced: batches of three, which is not the traced
    two, and of one, since people run one image at a time; other sizes where they are free. Last, if
    the network takes them, odd sizes, which a graph may refuse."""
    args = example.args
    if not any(0 in axes for axes in free):
        return [parity.case(module, parity.other(args))], None
    single = parity.case(module, parity.other(args, 1))
    open_axes = tuple({axis: word for axis, word in axes.items() if axis} for axes in free)
    if not any(open_axes):
        return [parity.case(module, parity.other(args, 3)), single], None
    odd = _odd(module, args, open_axes)
    if odd is not None and sizes.larger is not None and open_axes == tuple(map(dict, example.axes)):
        return [sizes.larger, single], odd
    larger = parity.other(parity.resized_inputs(args, open_axes), 3)
    return [parity.case(module, larger), single], odd


def _odd(module: nn.Module, args: tuple[object, ...], axes: tuple[Axes, ...]) -> Case | None:
    for step in (1, 8):
        try:
            return parity.case(module, parity.other(parity.odd(args, axes, step), 3))
        except Exception:  # anyone's code: it may take multiples of something alone
            continue
    return None


def check_graph(
    path: Path,
    names: tuple[str, ...],
    tried: list[Case],
    odd: Case | None = None,
    relative: float = parity.RELATIVE,
) -> tuple[Difference, str]:
    """The checker's opinion, then every case through onnxruntime. The second answer says which
    sizes the graph refuses, where those are `odd`'s."""
    large = path.with_name(path.name + ".data").exists()
    onnx.checker.check_model(path, full_check=not large)  # in full it needs the model in one piece
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}  # unused inputs are dropped
    largest, share, refused = 0.0, 0.0, ""
    for case in [*tried, odd] if odd is not None else tried:
        given = tensors_of_call(case.args)
        fed = {n: t.numpy() for n, t in zip(names, given, strict=True) if n in wanted}
        try:
            found = session.run(None, fed)
        except Exception:
            if case is not odd:
                raise
            refused = ", ".join(" x ".join(map(str, t.shape[1:])) for t in given)
            continue
        outputs = case.compared([torch.from_numpy(array) for array in found])
        difference = parity.compare(case.outputs, outputs, relative)
        largest, share = max(largest, difference.largest), max(share, difference.share)
        if difference.why:
            return Difference(largest, difference.why, share), ""
    return Difference(largest, share=share), refused
