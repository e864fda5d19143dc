"""torch's own containers, and the tensors that their pickles describe."""
