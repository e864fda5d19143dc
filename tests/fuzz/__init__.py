"""Fuzzing of the readers: bytes in, and nothing but an ArchfindError may come out.

python -m fuzz.run pickle --runs 100000        from tests/; --help names the readers
"""
