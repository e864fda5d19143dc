"""Checkpoints of several files: shards, ranks, folders."""
