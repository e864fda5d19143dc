"""The contract that every provider keeps, whatever its library: nothing here names one."""

from __future__ import annotations

import json
import math
import random
import re
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import archfind
from archfind.database.entries import default
from archfind.errors import BuildError
from archfind.learning.check import checkpoint_of
from archfind.learning.entries import harvest
from archfind.matching.identify import guess_checkpoint
from archfind.providers import PROVIDERS, provider
from archfind.providers.building import without_sockets
from archfind.providers.on_meta import create_on_meta
from archfind.providers.zoo_networks import PACKAGES
from archfind.report.answer import guess_document

if TYPE_CHECKING:
    from archfind.providers import Provider

_EACH = 2  # networks of each library that is one; the packages of rows: one of each
_DRAWN = 3  # as many are drawn for each that is tried: the smallest are
_LARGEST = 8e6  # parameters of those that are run


def sample() -> Iterator[tuple[str, str]]:
    for library in PROVIDERS:
        draw = random.Random(f"contract {library}")
        numbers = {
            member.entry.name: sum(map(math.prod, default().signature(number).fixed.values()))
            for number in range(len(default()))
            for member in default().signature(number).members
            if member.entry.provider == library
        }
        count = 1 if library in PACKAGES else _EACH
        drawn = draw.sample(sorted(numbers), min(len(numbers), _DRAWN * count))
        for name in sorted(drawn, key=lambda name: numbers[name])[:count]:
            yield library, name


def _installed(library: str) -> Provider:
    """The provider, where its library is among what the tests install; those that would bring much
    else along aren't."""
    try:
        return provider(library)
    except BuildError as error:
        pytest.skip(f"{error}")


def _on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """Without storage, where the constructor asks for no values."""
    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, NotImplementedError):
        return make()


@pytest.mark.parametrize(("library", "name"), sample())
def test_a_provider_keeps_its_contract(library: str, name: str) -> None:
    source = _installed(library)
    assert version(source.LIBRARY)
    fields = dict(source.fields(name))
    assert not source.HEAD or source.HEAD in fields
    with without_sockets():
        module = create_on_meta(source, name)
    # What stands in the answer as the way to build it makes the file's tensors.
    found = guess_checkpoint(
        checkpoint_of(module.state_dict()), default(), choose=f"{library}/{name}"
    )
    assert (
        found.status in ("exact", "ambiguous") and found.matches[0].entry.id == f"{library}/{name}"
    )
    build = json.loads(json.dumps(guess_document(found)))["build"]
    args = build["args"]
    where, _, callable = build["callable"].rpartition(".")
    with without_sockets():
        made = _on_meta(lambda: getattr(import_module(where), callable)(*args, **build["kwargs"]))
    shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
    assert {key: tensor.shape for key, tensor in made.state_dict().items()} == shapes
    assert f"[{library}/{name}]" in harvest(source, library, name).text
    if sum(p.numel() for p in module.parameters()) <= _LARGEST:
        real = source.create(name).eval()
        example = source.example(name, real)
        with torch.inference_mode():
            real(*example.args)
        assert example.size and example.names


def test_nothing_connects_while_a_library_is_learned() -> None:
    with socket.socket() as server, without_sockets():
        with pytest.raises(ConnectionError, match="while its networks were learned"):
            socket.create_connection(("127.0.0.1", 9))
        server.bind(("127.0.0.1", 0))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 9), timeout=1)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError("No module named 'somewhere'", name="somewhere")

    monkeypatch.setattr("archfind.providers.import_module", missing)
    for library, wanted in PROVIDERS.items():
        with pytest.raises(BuildError, match=rf"somewhere: pip install '?{re.escape(wanted)}"):
            provider(library)
    assert archfind.BuildError is BuildError
