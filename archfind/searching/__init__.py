"""Guess -> Guess: networks built until one has the file's tensors."""
