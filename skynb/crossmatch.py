"""The same object in two tables, by its place on the sky."""

import numpy as np
import pandas as pd


def match(left, right, *, radius=1.0, nearest=True):
    """Return which rows of two tables are within a radius of each other, nearest first.

    For catalogues beyond memory use the ``crossmatch`` of an `skynb.survey` catalogue, which is
    LSDB's.

    Parameters
    ----------
    left, right : DataFrame
        With ``ra`` and ``dec`` [deg] in the same frame and epoch.
    radius : float
        [arcsec]
    nearest : bool
        Of each row of ``left`` only the nearest, or else all.

    Returns
    -------
    DataFrame
        ``left`` and ``right``, labels of the two indices, and ``separation`` [arcsec], in the order
        of ``left``.

    Raises
    ------
    ValueError
        No column ``ra`` or ``dec``, a place that is none, a radius not above 0 or beyond the sky.

    Examples
    --------
    >>> one = pd.DataFrame({"ra": [10.0, 20.0], "dec": [0.0, 0.0]}, index=["a", "b"])
    >>> other = pd.DataFrame({"ra": [20.0001], "dec": [0.0]}, index=[7])
    >>> match(one, other).round(2).to_dict("records")
    [{'left': 'b', 'right': 7, 'separation': 0.36}]
    """
    from astropy import units
    from astropy.coordinates import search_around_sky

    if not 0 < radius <= 180 * 3600:
        raise ValueError(f"radius is {radius}; give arcseconds, above 0 and at most 648000")
    places = [_places(left, "left"), _places(right, "right")]
    a, b, apart = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    if len(left) and len(right):
        a, b, apart, _ = search_around_sky(*places, radius * units.arcsec)
        apart = apart.arcsec
    order = np.lexsort((apart, a))
    a, b, apart = a[order], b[order], apart[order]
    if nearest:
        first = np.diff(a, prepend=-1) > 0
        a, b, apart = a[first], b[first], apart[first]
    return pd.DataFrame({"left": left.index[a], "right": right.index[b], "separation": apart})


def _places(table, which):
    """Return the positions of a table."""
    from astropy.coordinates import SkyCoord

    missing = {"ra", "dec"} - set(table)
    if missing:
        raise ValueError(f"the {which} table has no column {min(missing)!r}; rename yours")
    ra, dec = (table[name].to_numpy(float) for name in ("ra", "dec"))
    wrong = ~((np.abs(ra) <= 360) & (np.abs(dec) <= 90))
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} rows of the {which} table have no place on the sky, the first is "
            f"{table.index[wrong.argmax()]!r}; drop them"
        )
    return SkyCoord(ra, dec, unit="deg")
