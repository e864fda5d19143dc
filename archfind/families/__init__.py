"""Networks that no library registers by name: a class, and the values that its constructor got."""
