"""All explorers on one screen."""

import ipywidgets
import numpy as np
from tqdm.auto import tqdm

from skynb import dmdt, embed, features, lightcurves
from skynb.widgets import view
from skynb.widgets.dmdt import DmDtExplorer
from skynb.widgets.label import Labeler
from skynb.widgets.lightcurve import LightCurveExplorer
from skynb.widgets.map import N_COMPUTED, MapExplorer
from skynb.widgets.selection import bus_of


class Explorer(view.View):
    """The map, the light curve, its dm-dt image and the labels of a survey, on one bus.

    ![Explorer](../../docs/Explorer.png)

    Lasso a clump on the map: its first object comes into view, and ``n`` and ``p`` step through
    the others. Cells picked in the dm-dt image light up their pairs on the light curve. The keys of
    each part are those of its own class, where that part has the focus.

    The map and the light curve show the table's own labels; to label blind, give
    ``lcs.drop(columns="label")``, and the classes.

    Parameters
    ----------
    lcs : NestedFrame or lightcurves.Stored
        Light curves.
    embedding : ndarray, shape (n_objects, 2), or skynb.embed.Embedding, optional
        Map of the objects. By default a t-SNE map of ``features`` up to 5,000 objects; of more,
        the scatter of the magnitudes against their mean.
    classes : sequence of str, optional
        Classes to label with, as in `Labeler`.
    selection : Selection, optional
        The bus that other explorers share; by default a new one.
    path : path
        The label log; it is made with the first label.
    features : DataFrame or ndarray, shape (n_objects, n_features), optional
        For the map, its colours and the queue of labels; by default those without periods, up to
        5,000 objects.
    grid : skynb.dmdt.Grid
        Of the dm-dt image.
    progress : bool
        Show how far the features and the map are.

    Attributes
    ----------
    selection : Selection
        What is chosen and what is looked at.
    map, lightcurve, dmdt, labeler : MapExplorer, LightCurveExplorer, DmDtExplorer, Labeler
        The parts.

    Raises
    ------
    ValueError
        If there are more objects than a map is made of and they are on disk; give an embedding.
    """

    _still_size = (9.6, 9.0)

    def __init__(
        self, lcs, embedding=None, *, classes=None, selection=None, path="labels.csv",
        features=None, grid=dmdt.GRID, progress=True,
    ):  # fmt: skip
        self._shared, selection = selection is not None, bus_of(lcs, selection)
        self._given = ["embedding"] if embedding is not None else []
        if embedding is None or features is None:
            embedding, features, axes = _placed(lcs, embedding, features, progress)
        else:
            axes = ("x", "y")
        self.lcs, self.selection = lcs, selection
        bus = {"selection": selection}
        self.map = MapExplorer(lcs, embedding, features=features, axes=axes, **bus)
        self.lightcurve = LightCurveExplorer(lcs, image=False, grid=grid, **bus)
        self.dmdt = DmDtExplorer(lcs, curves=False, grid=grid, **bus)
        self.labeler = Labeler(lcs, classes, path=path, features=features, curve=False, **bus)
        self.lightcurve.layout.flex, self.dmdt.layout.flex = "3 1 560px", "2 1 380px"
        self.lightcurve.layout.min_width = self.dmdt.layout.min_width = "0"
        both = ipywidgets.HBox([self.lightcurve, self.dmdt], layout={"flex_flow": "row wrap"})
        super().__init__(self.map, both, self.labeler)
        self.follow(selection, rows=self._enter)
        self.lightcurve.observe(self._tell, "description")
        self._tell()

    @property
    def periods(self):
        """The periods that were fixed [day], a Series by ``object_id``."""
        return self.lightcurve.periods

    @property
    def labels(self):
        """The labels that were given, a Series by ``object_id``."""
        return self.labeler.labels

    def close(self):
        """Leave the bus, and the page, with all parts."""
        for part in self._parts():
            part.close()
        super().close()

    def revive(self):
        """Return the line of Python that makes this explorer anew."""
        path = str(self.labeler.label_log.path.resolve())
        return self._line(*self._given, f"classes={self.labeler.classes}", f"path={path!r}")

    def draw(self, figure):
        """Draw the present state on a matplotlib figure."""
        above, middle, below = figure.subfigures(3, 1)
        self.map.draw(above)
        left, right = middle.subfigures(1, 2, width_ratios=(2, 1))
        self.lightcurve.draw(left)
        self.dmdt.draw(right)
        self.labeler.draw(below)

    def _parts(self):
        return [self.map, self.lightcurve, self.dmdt, self.labeler] if hasattr(self, "map") else []

    def _enter(self, _):
        """Look at the first of the objects just chosen."""
        rows = self.selection.rows
        if len(rows) and self.selection.focus not in rows:
            self.selection.focus = int(rows[0])
        self._tell()

    def _tell(self, _=None):
        n = len(self.selection)
        self.description = f"{len(self.lcs):,} objects, {n:,} chosen. {self.lightcurve.description}"


def _placed(lcs, embedding, X, progress):
    """Return a map of the objects, their features and the names of the axes, as far as missing."""
    n, axes = len(lcs), ("x", "y")
    small = 4 <= n <= N_COMPUTED
    with tqdm(total=2, desc="features and map", disable=not (progress and small)) as bar:
        if X is None and small:
            table = lightcurves.take(lcs, np.arange(n))
            X = features.extract(table, periods=False, progress=False)
        bar.update()
        if embedding is None and small:
            embedding, axes = embed.tsne(X, n_jobs=1).embedding, ("t-SNE 1", "t-SNE 2")
        bar.update()
    if embedding is None and n > N_COMPUTED:
        if isinstance(lcs, lightcurves.Stored):
            raise ValueError(
                f"{n:,} objects on disk are too many to make a map of here (up to "
                f"{N_COMPUTED:,}); give an embedding"
            )
        embedding, axes = _scatter(lcs), ("mean magnitude", "log10 of the scatter [mag]")
    return embedding, X, axes


def _scatter(lcs):
    """Return the mean magnitude and the logarithm of the standard deviation of every object."""
    flat = lightcurves.arrays(lcs)
    n_obs, objects = np.diff(flat.offsets), flat.objects
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(objects, flat.mag, len(lcs)) / n_obs
        square = np.bincount(objects, (flat.mag - mean[objects]) ** 2, len(lcs)) / n_obs
        return np.column_stack([mean, np.log10(square) / 2])
