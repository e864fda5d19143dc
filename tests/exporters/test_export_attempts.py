"""What is tried for an .onnx, in which order, and what ends it."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archfind.exporters import parity
from archfind.exporters.apart import run_apart
from archfind.exporters.attempts import ExportedNetwork, attempts
from archfind.exporters.job import Job, WrittenFile
from archfind.exporters.onnx import write_module
from archfind.exporters.sizes import ANY, COMPUTED, FIXED, Sizes, observed, run_on_other_sizes
from archfind.progress import step
from archfind.providers.example import Example, images

SIZE = (3, 64, 64)
EXAMPLE = Example((images(SIZE),), ("input",), SIZE, (), (), axes=({2: "height", 3: "width"},))


class Net(nn.Module):
    """A convolution, then what `then` makes of it."""

    def __init__(self, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.conv(x))


def gate(x: Tensor) -> Tensor:
    """As of the attention over channels: its own size is in `expand_as`."""
    return (x * x.mean((2, 3), keepdim=True).sigmoid().expand_as(x)).mean((2, 3))


def tokens(x: Tensor) -> Tensor:
    """Numbers that follow from the sizes."""
    return x.reshape(x.shape[0], 4, x.shape[2] * x.shape[3]).softmax(-1).amax(-1)


class Positions(nn.Module):
    """A table for one size."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 3, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.table).amax((2, 3))


class Cached(nn.Module):
    """Computes on the first run what it keeps for later ones."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.arange(3.0).reshape(1, 3, 1, 1) + 1
        return (x * self.kept).mean((2, 3))


def written(module: nn.Module, folder: Path) -> WrittenFile:
    torch.manual_seed(0)
    return write_module(module.eval(), Job(folder / "network.onnx", {}, EXAMPLE))


def run(path: Path, image: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": image.numpy()})[0])


def seen(module: nn.Module) -> Sizes:
    return run_on_other_sizes(module, EXAMPLE, observed(module, EXAMPLE.args)[1])


def tried(module: nn.Module, folder: Path) -> list[str]:
    job = Job(folder / "network.onnx", {}, EXAMPLE)
    traced = parity.case(module, EXAMPLE.args)
    return [
        attempt.name for attempt in attempts(ExportedNetwork(module, job, traced, seen(module)))
    ]


class TestSizes:
    """What two runs show of a network."""

    def test_one_graph_of_every_size(self) -> None:
        for module in (Net(gate), Net(nn.Upsample(scale_factor=2)), Cached()):
            assert seen(module).kind == ANY

    def test_numbers_that_follow_from_sizes(self) -> None:
        assert seen(Net(tokens)).kind == COMPUTED
        assert seen(Net(lambda x: F.interpolate(x, size=x.shape[2] // 2))).kind == COMPUTED

    def test_a_table_of_one_size_leaves_no_other_to_try(self, tmp_path: Path) -> None:
        assert seen(Positions()).kind == FIXED
        assert [name for name in tried(Positions(), tmp_path) if "batch" not in name] == []

    def test_symbols_are_tried_where_sizes_are_computed(self, tmp_path: Path) -> None:
        assert tried(Net(tokens), tmp_path)[:2] == [
            "dynamo, symbolic sizes",
            "dynamo, dynamic batch",
        ]


@pytest.mark.parametrize("then", [gate, tokens, nn.Identity()], ids=["gate", "tokens", "dense"])
def test_free_sizes_are_free(then: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    module = Net(then)
    done = written(module, tmp_path)
    assert done.notes["free"] == "batch, height, width"
    assert "fallback" not in done.notes
    image = torch.randn(1, 3, 45, 90)
    with torch.no_grad():
        torch.testing.assert_close(run(done.path, image), module(image), rtol=1e-3, atol=1e-4)


class InPlace(Net):
    """Scales the image that it is given, as RCAN does."""

    def forward(self, x: Tensor) -> Tensor:
        x *= 255
        return super().forward(x)


def test_a_network_that_changes_its_input_is_compared_on_the_same(tmp_path: Path) -> None:
    before = EXAMPLE.args[0].clone()
    done = written(InPlace(nn.Identity()), tmp_path)
    assert done.max_abs_diff < 1e-3
    assert torch.equal(EXAMPLE.args[0], before)


def test_outputs_are_as_large_as_they_are_said_to_be(tmp_path: Path) -> None:
    done = written(Net(nn.Upsample(scale_factor=2)), tmp_path)
    (output,) = onnx.load(done.path).graph.output
    dims = [dim.dim_param or dim.dim_value for dim in output.type.tensor_type.shape.dim]
    assert dims == ["batch", 4, "2*height", "2*width"]


def test_padding_that_odd_sizes_alone_have_is_not_lost(tmp_path: Path) -> None:
    """No run on an even size shows it, and the graph of one computes something else on odd ones."""

    def padded(x: Tensor) -> Tensor:
        return F.pad(x, [0, x.shape[3] % 2, 0, x.shape[2] % 2], value=9.0).mean((2, 3))

    module = Net(padded)
    assert seen(module).kind == ANY
    done = written(module, tmp_path)
    assert done.notes["fallback"].startswith("dynamo, free sizes: output differs by")
    if "height" in done.notes["free"]:
        image = torch.randn(2, 3, 61, 75)
        with torch.no_grad():
            torch.testing.assert_close(run(done.path, image), module(image), rtol=1e-3, atol=1e-4)


class Same(nn.Module):
    """A convolution of stride two, padded as TensorFlow does; or by one at the end, always."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.conv, self.always = nn.Conv2d(3, 4, 3, stride=2), always

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = 1 if self.always else max((-(-size // 2) - 1) * 2 + 3 - size, 0)
            pads += [total // 2, total - total // 2]
        return self.conv(F.pad(x, pads)).mean((2, 3))


@pytest.mark.parametrize("always", [False, True])
def test_same_padding_follows_the_size(
    always: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Same(always)
    done = written(module, tmp_path)
    assert done.notes["free"] == "batch, height, width"
    assert ("fallback" in done.notes) == (not always)
    assert capsys.readouterr().err == ""  # without symbols
    for height, width in ((61, 75), (64, 63), (30, 90)):
        image = torch.randn(2, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(run(done.path, image), module(image), rtol=1e-3, atol=1e-4)


class Endless(nn.Module):
    """Never done with symbols for its sizes, and as quick as any with numbers."""

    def __init__(self, wait: Callable[[], object]) -> None:
        super().__init__()
        self.net, self.wait = Net(tokens), wait

    def forward(self, x: Tensor) -> Tensor:
        while not isinstance(x.shape[2], int):
            try:
                self.wait()
            except Exception:
                continue
        return self.net(x)


def test_an_attempt_over_its_limit_is_stopped_and_the_plain_file_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archfind.exporters.attempts._LEAST", 1.0)
    module = Endless(lambda: None)
    done = written(module, tmp_path)
    assert done.notes["free"] == "batch"
    assert (
        "dynamo, symbolic sizes: TimeoutError: given up, over its limit" in done.notes["fallback"]
    )
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("export: dynamo, symbolic sizes, at most ")
    image = images(SIZE, batch=5, seed=3)
    with torch.no_grad():
        torch.testing.assert_close(run(done.path, image), module(image), rtol=1e-3, atol=1e-4)


class TestApart:
    """Work in a process of its own."""

    def test_a_loop_that_catches_everything_is_stopped(self) -> None:
        def work(_more: Callable[[], None]) -> None:
            while True:
                with contextlib.suppress(BaseException):
                    while True:
                        pass

        start = os.times()
        with pytest.raises(TimeoutError, match="given up, over its limit"):
            run_apart(work, 0.5, 60)
        spent = os.times()
        assert 0.5 <= spent.children_user - start.children_user < 10

    def test_waiting_is_stopped_too_in_any_thread(self) -> None:
        ended: list[str] = []

        def wait() -> None:
            try:
                run_apart(lambda _: time.sleep(1000), 0.1, 0.1)
            except TimeoutError as error:
                ended.append(str(error))

        before = signal.signal(signal.SIGALRM, lambda *_: None)
        try:
            thread = threading.Thread(target=wait)
            thread.start()
            thread.join()
            assert len(ended) == 1
        finally:
            signal.signal(signal.SIGALRM, before)

    def test_more_time_is_given_to_who_asks(self, tmp_path: Path) -> None:
        def work(more: Callable[[], None]) -> None:
            more()
            end = time.process_time() + 1.5
            while time.process_time() < end:
                pass
            (tmp_path / "done").write_text("whole")

        run_apart(work, 0.2, 60)
        assert (tmp_path / "done").read_text() == "whole"

    def test_errors_and_crashes_are_told(self) -> None:
        def wrong(_more: Callable[[], None]) -> None:
            raise ValueError("its own")

        def full(_more: Callable[[], None]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(RuntimeError, match="its own") as caught:
            run_apart(wrong, 60, 60)
        assert type(caught.value).__name__ == "ValueError"
        with pytest.raises(OSError, match="No space left") as no_space:
            run_apart(full, 60, 60)
        assert no_space.value.errno == errno.ENOSPC
        with pytest.raises(RuntimeError, match="crashed: Aborted"):
            run_apart(lambda _: (faulthandler.disable(), os.abort()), 60, 60)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # none is left


def test_a_step_is_shown_on_a_terminal_and_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for screen, always, said in (
        (Terminal(), False, "\rexport: dynamo ...\x1b[K\r\x1b[K"),
        (io.StringIO(), True, "export: dynamo ...\n"),
        (io.StringIO(), False, ""),
    ):
        monkeypatch.setattr(sys, "stderr", screen)
        with step("export: dynamo", always):
            pass
        assert screen.getvalue() == said
