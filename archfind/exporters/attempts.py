"""The ways in which a network may become a graph of ONNX, the surest of the freest first.

torch.export follows the network once with a free batch: that program is what every network needs,
it is translated where nothing freer works, and the time that it took is the measure for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from archfind.errors import ExportError
from archfind.exporters.apart import can_run_apart, run_apart
from archfind.exporters.job import Job
from archfind.exporters.opened import with_open_axes
from archfind.exporters.parity import Case
from archfind.exporters.quiet import quiet_exporters
from archfind.exporters.same_padding import is_padded, padded_by_size
from archfind.exporters.sizes import ANY, FIXED, Sizes
from archfind.exporters.torch_onnx import (
    captured_program,
    copied,
    export_by_tracing,
    is_freer,
    newer,
    saved,
    translated,
)
from archfind.progress import step
from archfind.providers.example import Axes, tensors_of_call

# In times of what the plain program took to follow, on the same clock, with free sizes: to follow
# the network, and all in all. A translation takes about as long again, or twice.
FOLLOWING = 2.0
ALL = 5.0
_LEAST = 1.0  # second: of a tiny network the plain time is mostly noise


@dataclass(frozen=True)
class ExportAttempt:
    """`write` makes a file, in a folder of its own. `limit` is what it may take at most, in seconds
    of processor time; None where it is what a plain export takes."""

    exporter: str
    sizes: str
    write: Callable[[Path], None]
    limit: float | None = None

    @property
    def name(self) -> str:
        """For a person, and for the folder."""
        return f"{self.exporter}, {self.sizes}"

    @property
    def batch(self) -> str:
        """Whether the batch is to come out free."""
        return "static" if self.sizes == "static batch" else "dynamic"


class ExportedNetwork:
    """A module, what is asked for, and its runs: `traced` on the example, `sizes` on another."""

    def __init__(self, module: nn.Module, job: Job, traced: Case, sizes: Sizes) -> None:
        self.module, self.job, self.traced, self.sizes = module, job, traced, sizes
        self.outputs = list(traced.outputs)
        self._program: Any = None  # or why there is none, as of the graph
        self._graph: Any = None
        self.seconds = 0.0  # that the plain program took
        self.differs = False  # a graph ran, and gave something else than the module

    def freed(self, sizes: str) -> tuple[Axes, ...]:
        """For each tensor the axes to be left open, by name."""
        count = len(tensors_of_call(self.job.example.args))
        if sizes == "static batch":
            return ({},) * count
        axes = ({},) * count if sizes == "dynamic batch" else self.job.example.axes
        return tuple({0: "batch", **names} for names in axes)

    def program(self) -> Any:
        """The plain program, with a free batch. The same error again where torch.export fails."""
        if self._program is None:
            start = time.process_time()
            try:
                self._program = captured_program(self.module, self.job, self.freed("dynamic batch"))
            except Exception as error:
                self._program = error
            self.seconds = time.process_time() - start
        if isinstance(self._program, Exception):
            raise self._program
        return self._program

    def graph(self) -> Any:
        """The plain program's translation, made once."""
        if self._graph is None:
            try:
                freed = self.freed("dynamic batch")
                self._graph = translated(self.program(), self.job, self.outputs, freed)
            except Exception as error:
                self._graph = error
        if isinstance(self._graph, Exception):
            raise self._graph
        return self._graph

    def write_opened(self, path: Path) -> None:
        """The plain graph, said to be one of every size."""
        assert self.sizes.larger is not None
        graph = self.graph()
        with with_open_axes(graph.model, self.freed("free sizes"), self.traced, self.sizes.larger):
            saved(graph, self.module, path)

    def is_padded(self) -> bool:
        """Whether padding stands in the plain graph, if there is one, that may follow its size."""
        try:
            return is_padded(self.graph().model)
        except Exception:
            return False

    def write_padded(self, path: Path) -> None:
        """The plain graph as one of every size, its padding computed from the size."""
        with padded_by_size(self.graph().model):
            self.write_opened(path)

    def write_symbolic(self, path: Path) -> None:
        """The network followed once more, with symbols for its sizes, while the limits last."""
        freed = self.freed("symbolic sizes")

        def work(more: Callable[[], None]) -> None:
            program = captured_program(self.module, self.job, freed)
            if not is_freer(program, freed):
                raise ExportError("torch.export fixes the sizes: they decide what the network does")
            more()
            saved(translated(program, self.job, self.outputs, freed), self.module, path)

        run_apart(work, self.limit(FOLLOWING), self.limit(ALL))

    def limit(self, times: float) -> float:
        """Seconds of processor time, in proportion to the plain program's."""
        return _LEAST + times * self.seconds

    def write_plain(self, path: Path) -> None:
        """The plain graph, of one size."""
        saved(self.graph(), self.module, path)

    def write_static(self, path: Path) -> None:
        """A graph of one size and one batch."""
        newer(self.module, path, self.job, self.outputs, self.freed("static batch"))

    def write_older(self, path: Path, sizes: str) -> None:
        """The older exporter's graph."""
        export_by_tracing(copied(self.module), path, self.job, self.outputs, self.freed(sizes))


def attempts(network: ExportedNetwork) -> Iterator[ExportAttempt]:
    """What is worth trying, in order."""
    example, wanted = network.job.example, network.job.options.get("dynamo")
    batch, free = example.dynamic_batch, network.sizes.kind
    if wanted is None or wanted:
        if free == ANY:
            yield ExportAttempt("dynamo", "free sizes", network.write_opened)
            if network.is_padded():
                yield ExportAttempt("dynamo", "free sizes and padding", network.write_padded)
        # Where the graph of just these calls ran and was wrong, symbols would give the same one.
        is_same = network.differs and not network.sizes.pads
        if free != FIXED and not is_same and can_run_apart() and _is_followed(network):
            limit = network.limit(ALL)
            yield ExportAttempt("dynamo", "symbolic sizes", network.write_symbolic, limit)
        if batch:
            yield ExportAttempt("dynamo", "dynamic batch", network.write_plain)
        yield ExportAttempt("dynamo", "static batch", network.write_static)
    if not wanted:
        for sizes in ("free sizes", "dynamic batch", "static batch"):
            if (batch or sizes == "static batch") and (free != FIXED or sizes != "free sizes"):
                yield ExportAttempt(
                    "torchscript", sizes, lambda path, sizes=sizes: network.write_older(path, sizes)
                )


def _is_followed(network: ExportedNetwork) -> bool:
    """Whether torch.export takes the network at all. If not, a plain attempt says why."""
    try:
        with step("export: dynamo"), quiet_exporters():
            network.program()
    except Exception:
        return False
    return True
