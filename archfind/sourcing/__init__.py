"""Canonical -> Source: a readable `nn.Module` for a network that no library has.

    tree.module_tree(index, listing)  keys and tensor groups -> a tree of layers
    patterns                          who feeds whom: each pattern writes a block's forward
    write.source_text(network)        the tree and its forwards -> Python that imports only torch

Nothing here imports torch, and nothing of a file is run: the text is made of checked identifiers,
quoted strings and numbers.
"""
