"""signatures/ as text, and compiled: mapped into memory, read where needed."""
