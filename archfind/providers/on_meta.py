"""A library's network without storage."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from archfind.providers.storage_bound import is_storageless, with_storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.providers import Provider


def create_on_meta(source: Provider, name: str, **fields: object) -> nn.Module:
    """The module without storage where its constructor allows; a few copy out of their own weights,
    which meta tensors don't have, so those are built for real."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                return source.create(name, **fields)
        except (RuntimeError, NotImplementedError) as error:
            if not is_storageless(error):
                raise
        return with_storage(lambda: source.create(name, **fields))
