"""Canonical -> Guess: a state dict against the networks that are known."""
