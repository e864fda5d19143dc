"""What decides the things that shapes can't: claims in the file, and later the weights' values."""
