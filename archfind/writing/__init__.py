"""A path -> files in it, whole or not at all: what may be written where, and how it gets there.

    target.refuse_export(out, ...)      before anything is read, built or imported
    beside.folder(path) -> folder       where new files are made, gone afterwards
    beside.move([(new, final), ...])    each into its place, in an order that never mixes two sets

Nothing here imports torch or a model library.
"""
