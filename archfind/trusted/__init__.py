"""A user's own code that the user trusts: imported and probed in a process of its own, and imported
here where the network is built."""
