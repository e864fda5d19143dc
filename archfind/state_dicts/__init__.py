"""Checkpoint -> Canonical: state dicts under the names that their networks use."""
