"""Benchmarks: named cases against named peers, alternating on the same data."""
