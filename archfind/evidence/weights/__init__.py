"""What the values of weights say, and shapes cannot: one file a statistic, each a pure function of
arrays that gives a verdict, or None where the values aren't clear.

This folder alone of the evidence imports numpy, and only when values are read.
"""
