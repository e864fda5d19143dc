"""Pickles read as data: what an opcode would make, and nothing that it would run."""
