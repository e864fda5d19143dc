"""transformers' classes learned on the meta device: what a config's fields do to keys
and shapes, in both dialects, the module's and the published one."""
