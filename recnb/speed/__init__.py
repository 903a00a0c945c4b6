"""Benchmarks against what a user would use instead, on the same inputs, in one run (``notebooks/10_speed.ipynb``)."""
