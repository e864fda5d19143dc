"""Families: one program for every network that a class builds, and its arguments solved from a
state dict. Light: `archfind guess` imports this."""
