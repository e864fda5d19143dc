"""Guess -> Built: the library's own network, loaded strictly."""
