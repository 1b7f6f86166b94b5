"""Explorers for Jupyter: see, select, explain and label light curves; they share a `Selection`."""

from skynb.widgets.dmdt import DmDtExplorer
from skynb.widgets.explanation import ExplanationViewer
from skynb.widgets.explorer import Explorer
from skynb.widgets.label import Labeler
from skynb.widgets.lightcurve import LightCurveExplorer
from skynb.widgets.map import MapExplorer
from skynb.widgets.selection import Selection
from skynb.widgets.stamp import StampExplorer

__all__ = [
    "DmDtExplorer", "ExplanationViewer", "Explorer", "Labeler", "LightCurveExplorer",
    "MapExplorer", "Selection", "StampExplorer",
]  # fmt: skip
