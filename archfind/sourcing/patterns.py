"""The patterns that explain a block, in the order in which they are asked. Each takes a part, what
is fed to it, the flow, and whether nothing comes after it; it writes the part's forward and gives
what flows on, or gives None."""

from __future__ import annotations

from archfind.sourcing.attention import attention, over_sequence, table, transformer_block
from archfind.sourcing.chain import chain, sequential
from archfind.sourcing.heads import branches, distribution, several_heads
from archfind.sourcing.residual import residual
from archfind.sourcing.unet import unet

PATTERNS = (
    sequential,
    table,
    attention,
    transformer_block,
    over_sequence,
    residual,
    unet,
    distribution,
    several_heads,
    branches,
    chain,
)
