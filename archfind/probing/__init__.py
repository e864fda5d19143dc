"""Constructors probed on the meta device: what their arguments do to keys and shapes, learned."""
