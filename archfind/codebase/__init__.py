"""Python files that are read, never run -> the classes that a state dict may belong to."""
