"""Explore the changing sky in Jupyter."""

__version__ = "0.1.0"
