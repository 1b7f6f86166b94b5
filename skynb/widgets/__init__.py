"""Explorers for Jupyter: see, select, fold and label light curves; they share a `Selection`."""

from skynb.widgets.selection import Selection

__all__ = ["Selection"]
