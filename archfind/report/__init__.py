"""Guess -> a document -> lines of text."""
