"""What an exporter is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archfind.providers.example import Example


@dataclass(frozen=True)
class Job:
    """Write `path`, which is in a temporary folder and has its final name. `metadata` goes into the
    file; `example` is what the network runs on."""

    path: Path
    metadata: Mapping[str, str]
    example: Example
    opset: int | None = None
    keep_unchecked: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)  # torch.onnx.export's own
    half: bool = False


@dataclass(frozen=True)
class WrittenFile:
    """A checked file; `notes` tells a person how it came about."""

    path: Path
    max_abs_diff: float
    notes: Mapping[str, str] = field(default_factory=dict)
