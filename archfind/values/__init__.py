"""TensorSpec -> torch.Tensor: the values, which alone need torch."""
