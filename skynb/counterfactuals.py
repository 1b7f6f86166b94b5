"""What would change the answer: observations to take away, pairs to be otherwise."""

from dataclasses import dataclass

import numpy as np

from skynb import dmdt, explain, networks


@dataclass(frozen=True)
class Flip:
    """Observations without which a light curve is called something else.

    Attributes
    ----------
    removed : ndarray of int
        Positions of the observations; empty if no number of them that was tried does it.
    before, after : str
        The class with and without them.
    probability : ndarray, shape (n_classes,)
        Without them.
    """

    removed: np.ndarray
    before: str
    after: str
    probability: np.ndarray


@dataclass(frozen=True)
class Towards:
    """The least step from an image to a real one of another class that changes the answer.

    Attributes
    ----------
    label : str
        The class that is then named.
    fraction : float
        Of the pairs at each dt, how many would have to be as in the example.
    image : ndarray, shape (n_dm, n_dt)
        p(dm|dt) there, where the two classes are equally likely.
    example : int
        Position of the example that needs the smallest fraction.
    """

    label: str
    fraction: float
    image: np.ndarray
    example: int


def flip(model, mjd, mag, shares, *, grid=networks.FINE_GRID, most=0.5):
    """Return a small set of observations without which the class is another one, as `Flip`.

    Observations go in the order of ``shares``, the greatest first, until the answer changes; then
    each comes back, the least first, without which it stays changed. All that are left are needed;
    other sets may be smaller.

    Parameters
    ----------
    model : LightCurveClassifier, or anything with ``classes_`` and ``predict_proba(images)``
    mjd, mag : array_like, shape (n_obs,)
        As in `share`.
    shares : array_like, shape (n_obs,)
        Of the class that is given, by `share`.
    most : float
        Largest part of the observations to try.
    """
    model = _judge(model)
    mjd, mag, shares = (np.asarray(each, dtype=float) for each in (mjd, mag, shares))
    if shares.shape != mjd.shape:
        raise ValueError(f"{len(shares)} shares for {len(mjd)} observations; give one for each")
    if not np.isfinite(shares).all():
        raise ValueError("the shares are not finite; explain the image again")
    order = np.argsort(-shares, kind="stable")[: int(most * len(mjd))]

    def said(sets):
        kept = [np.setdiff1d(np.arange(len(mjd)), gone) for gone in sets]
        return model.predict_proba(
            np.stack([dmdt.image(mjd[rows], mag[rows], grid=grid) for rows in kept])
        )

    whole = said([[]])[0]
    before, gone, probability = whole.argmax(), order[:0], whole
    for k in range(1, len(order) + 1, 16):  # sixteen sets are judged together
        sets = [order[:n] for n in range(k, min(k + 16, len(order) + 1))]
        every = said(sets)
        flipped = np.flatnonzero(every.argmax(axis=1) != before)
        if len(flipped):
            gone, probability = sets[flipped[0]], every[flipped[0]]
            break
    needed = 0
    while needed < len(gone):  # the last that came back may have made others needless
        needed = len(gone)
        for each in gone[::-1]:
            fewer = gone[gone != each]
            again = said([fewer])[0]
            if again.argmax() != before:
                gone, probability = fewer, again
        needed = needed if len(gone) == needed else 0
    names = [str(model.classes_[p.argmax()]) for p in (whole, probability)]
    return Flip(np.sort(gone), *names, probability)


def _judge(model):
    """Return what judges images."""
    model, _ = explain.unwrap(model)
    if not hasattr(model, "predict_proba"):
        raise ValueError(f"expected a classifier or a DmDtCNN, got {model!r:.60}")
    return model


def towards(model, image, examples, y, *, label=None, n_nearest=5):
    """Return the least step from an image towards a real one that changes its class, as `Towards`.

    The mean of two p(dm|dt), weighted 1 - f and f, is that of a curve of which at every dt a
    fraction f of the pairs are as in the other. The nearest examples of the class by Hellinger
    distance are tried, and f is found by bisection to 0.001.

    Parameters
    ----------
    model : LightCurveClassifier, or anything with ``classes_`` and ``predict_proba(images)``
    image : ndarray, shape (n_dm, n_dt)
    examples, y : ndarray, shape (n_examples, n_dm, n_dt), and their labels
    label : str, optional
        The class to go to; by default the runner-up.

    Raises
    ------
    ValueError
        A class that is not there, or is the image's own; no example that is called so.
    """
    model = _judge(model)
    if n_nearest < 1 or len(examples) != len(y):
        raise ValueError(
            f"{n_nearest} nearest of {len(examples)} examples with {len(y)} labels; give one or "
            "more, and a label for each"
        )
    start = networks.inputs(np.asarray(image)[None]) ** 2
    probability = model.predict_proba(start[..., 0])[0]
    best, second = np.argsort(-probability, kind="stable")[:2]
    code = second if label is None else explain.codes(label, model.classes_, len(probability))
    label = model.classes_[code]
    if code == best:
        raise ValueError(f"the image is already called {label}; name another class")
    rows = np.flatnonzero(np.asarray(y) == label)
    others = networks.inputs(np.asarray(examples)[rows]) ** 2
    others, start = others[..., 0], start[0, ..., 0]
    called = (
        np.flatnonzero(model.predict_proba(others).argmax(axis=1) == code) if len(rows) else rows
    )
    if len(called) == 0:
        raise ValueError(f"no example is labelled {label} and called so; give more examples")
    away = ((np.sqrt(others[called]) - np.sqrt(start)) ** 2).sum(axis=(1, 2))
    near = called[np.argsort(away, kind="stable")[:n_nearest]]
    low, high = np.zeros(len(near)), np.ones(len(near))
    for _ in range(10):
        middle = (low + high)[:, None, None] / 2
        said = model.predict_proba((1 - middle) * start + middle * others[near])
        there = said.argmax(axis=1) != best
        low, high = np.where(there, low, middle[:, 0, 0]), np.where(there, middle[:, 0, 0], high)
    chosen = high.argmin()
    f, example = high[chosen], near[chosen]
    mixed = (1 - f) * start + f * others[example]
    named = model.predict_proba(mixed[None])[0].argmax()
    return Towards(str(model.classes_[named]), float(f), mixed, int(rows[example]))
