"""Plans, rewrites, verifies and commits compactions of lakehouse tables."""

__version__ = "0.1.0"
