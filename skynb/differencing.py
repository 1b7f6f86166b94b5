"""Transients in a pair of images without subtraction: a network paints them on a blank one.

Sedaghat & Mahabal 2018, MNRAS 476, 5365 (TransiNet). `skynb.subtraction` has the classical ways.

Images are of shape (n_rows, n_columns), x counts columns and y rows, both from 0. The network needs
neither a registered pair nor the point-spread functions.
"""

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.convolution import Gaussian2DKernel, interpolate_replace_nans
from scipy import ndimage
from sklearn.model_selection import GroupShuffleSplit
from tqdm.auto import tqdm

from skynb import datasets, image_pairs, lightcurves, stamps, subtraction
from skynb.networks import load_keras

FILTERS = (12, 24, 32, 48)
"""Of the network at full size, and at each halving."""

TILE, OVERLAP = 256, 24
"""Pixels of the parts that a large image is judged in, and how far they overlap."""

MARGIN = 5.0
"""Pixels about a gap in the images where nothing is said to be new."""

RADIUS = 3.0
"""How far from the truth a detection may be [pixel]."""

COMPLETE = 5.0
"""S/N from which a transient must be found; finding a fainter one counts neither way."""


def backgrounds(name):
    """Return the real `image_pairs.Background` of a data set.

    ``eso085-030`` and ``abell2744`` are a pair of frames each, cut into tiles, where what a single
    frame shows, as a cosmic ray, is masked; the three sets of ZTF alert packets hold cutouts, whose
    middle is masked: there, something may have changed. An unknown name raises ValueError, and so
    does a set without images of the sky.
    """
    if name == "eso085-030":
        return _frames(name, fwhm=2.9, gain=1.0, edge=8)
    if name == "abell2744":
        return _frames(name, fwhm=3.3, gain=np.inf, edge=0)
    if name in ("ztf-alerts-2018", "ztf-alerts-2020", "ztf-alerts-2023"):
        return _packets(name)
    known = "eso085-030, abell2744, ztf-alerts-2018, ztf-alerts-2020, ztf-alerts-2023"
    raise ValueError(f"no image pairs are called {name!r}; choose one of {known}")


def _frames(name, *, fwhm, gain, edge):
    frames = [stamps.decode(data).astype(float) for data in datasets.contents(name)]
    rows, columns = frames[0].shape
    frames = [each[edge : rows - edge, edge : columns - edge] for each in frames]
    bad = ~np.isfinite(frames).all(axis=0) | (np.max(frames, axis=0) >= 6e4)
    bad |= _unmatched(*frames, gain) | _unmatched(*frames[::-1], gain)
    masked = ndimage.binary_dilation(bad, iterations=3)
    whole = image_pairs.Background(*frames, fwhm=fwhm, gain=gain, group=name, masked=masked)
    return image_pairs.tiles(whole)


def _unmatched(image, other, gain):
    """Return where an image has what the other has nowhere within a pixel: cosmic rays, ringing."""
    (level, one), (level_, two) = image_pairs.noise(image), image_pairs.noise(other)
    image, other = np.nan_to_num(image - level), np.nan_to_num(other - level_)
    low, high = ndimage.minimum_filter(other, 3), ndimage.maximum_filter(other, 3)
    light = np.maximum(np.maximum(image, high), 0)
    sigma = np.sqrt(one**2 + two**2 + 2 * light / gain) + 0.05 * light
    return np.maximum(image - high, low - image) > 5 * sigma


def _packets(name):
    import fastavro

    found, middle = [], np.zeros((stamps.SIZE, stamps.SIZE), bool)
    inner = slice(stamps.SIZE // 2 - 7, stamps.SIZE // 2 + 8)
    middle[inner, inner] = True
    for archive in datasets.contents(name):
        for data in (archive[each] for each in archive if each.endswith(".avro")):
            (packet,) = fastavro.reader(io.BytesIO(data))
            cutouts = (packet[f"cutout{kind}"]["stampData"] for kind in ("Template", "Science"))
            images = [stamps.decode(each) for each in cutouts]
            masked = middle | ~np.isfinite(images).all(axis=0) if _whole(images) else None
            if masked is None or masked.mean() > 0.15:
                continue
            about = packet["candidate"]
            fwhm = float(np.clip(about.get("fwhm") or 2.2, 1.8, 3.5))
            group = f"{name} {about['jd']:.4f} {about.get('rcid', '')}"
            found.append(image_pairs.Background(*images, fwhm, 6.2, group, masked))
    return found


def _whole(images):
    return all(each.shape == (stamps.SIZE, stamps.SIZE) for each in images)


# How the network sees a pair.


def normalize(reference, science):
    """Return a pair as the network sees it, shape (n_rows, n_columns, 2), and its unit.

    Both skies are 0, the reference is scaled to the fluxes of the science image, the unit is the
    noise of the science image's sky, and an inverse hyperbolic sine holds down what is bright.
    A pixel missing in either image is interpolated in both from those beside it; farther than these
    reach it is sky. Images without a finite pixel, or unlike in shape, raise ValueError.
    """
    reference, science = subtraction.checked(reference, science)
    (r_sky, r_noise), (s_sky, s_noise) = map(image_pairs.noise, (reference, science))
    s_noise = s_noise or np.nanstd(science) or 1.0
    reference, science = _filled(reference - r_sky), _filled(science - s_sky)
    scale = subtraction.flux_ratio(reference, science, r_noise, s_noise)
    pair = np.stack([reference * scale, science], axis=-1) / s_noise
    return np.arcsinh(pair).astype(np.float32), s_noise


def _filled(image):
    if np.isnan(image).any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that some are out of reach
            image = interpolate_replace_nans(image, Gaussian2DKernel(1))
    return np.nan_to_num(image)


def build(*, filters=FILTERS, seed=0):
    """Return an untrained network, a keras.Model of images of any size that its halvings divide.

    It takes the two channels of `normalize` and returns the transients at every size, the smallest
    first, in the same unit. On its way up, each size sees the encoder's features of that size and
    what the size before found.
    """
    keras = load_keras()
    layers, seeds = keras.layers, iter(np.random.SeedSequence(seed).generate_state(40) >> 1)

    def conv(x, n, width=3, *, strides=1, activation="relu"):
        start = keras.initializers.HeNormal(int(next(seeds)))
        options = {"padding": "same", "activation": activation, "kernel_initializer": start}
        return layers.Conv2D(n, width, strides=strides, **options)(x)

    first = x = keras.Input((None, None, 2))
    x, skips = conv(conv(x, filters[0], 5), filters[0]), []
    for n in filters[1:]:
        skips.append(x)
        x = conv(conv(x, n, strides=2), n)
    outputs = [conv(x, 1, activation=None)]
    for n, skip in zip(filters[-2::-1], skips[::-1], strict=True):
        above = layers.UpSampling2D(2)(outputs[-1])
        x = conv(layers.UpSampling2D(2)(x), n)
        x = conv(layers.Concatenate()([x, skip, above]), n)
        outputs.append(conv(x, 1, activation=None))
    return keras.Model(first, outputs)


class TransientFinder:
    """An encoder/decoder that paints the transients of an image pair on a blank image.

    Parameters
    ----------
    filters : sequence of int
        Of the convolutions at full size, and at each halving.
    epochs, batch_size : int
    learning_rate : float
        Of Adam, at the start; it falls to 0 as a cosine.
    weight : float
        Of a pixel with a transient in the loss; 1 of a blank one. With a low one and few pairs, the
        network is content to paint nothing.
    precision : float
        Least share of true detections among the pairs held out that the threshold is to reach.
    validation : float
        Share of the groups held out to choose the threshold and to calibrate fluxes.
    n_views : int
        Of 8 turned and mirrored views of a pair, so many are averaged.

    Attributes
    ----------
    network_ : keras.Model
    threshold_ : float
        Least `score` that is a detection.
    flux_scale_ : float
        What a fitted flux is multiplied by.
    losses_ : ndarray, shape (epochs,)
    """

    def __init__(
        self, *, filters=FILTERS, epochs=12, batch_size=16, learning_rate=2e-3, weight=12.0,
        precision=0.93, validation=0.15, n_views=8, seed=0, progress=False,
    ):  # fmt: skip
        self.filters, self.epochs, self.batch_size = tuple(filters), epochs, batch_size
        self.learning_rate, self.weight, self.validation = learning_rate, weight, validation
        self.precision, self.n_views = precision, n_views
        self.seed, self.progress = seed, progress

    def fit(self, pairs, validation=None):
        """Return itself, trained on `image_pairs.Pairs`.

        ``validation`` are pairs on other backgrounds; without it some of the groups are held out.
        Pairs of a single group raise ValueError.
        """
        if validation is None:
            pairs, validation = split(pairs, self.validation, seed=self.seed)
        self.network_ = build(filters=self.filters, seed=self.seed)
        self._train(pairs)
        found = detections(validation, self.scores(validation))
        self.threshold_, self.flux_scale_ = best_threshold(found, validation, self.precision), 1.0
        matched = match(self.catalogues(validation), validation)
        bright = matched[matched["snr_true"] >= 2 * COMPLETE]
        if len(bright) >= 10:
            self.flux_scale_ = float(np.median(bright["flux_true"] / bright["flux"]))
        return self

    def _train(self, pairs):
        import tensorflow as tf

        keras, rng = load_keras(), np.random.default_rng(self.seed)
        x = np.empty((*pairs.science.shape, 2), np.float32)
        y = np.empty((*pairs.science.shape, 2), np.float32)
        for k in range(len(pairs)):
            x[k], unit = normalize(pairs.reference[k], pairs.science[k])
            y[k, ..., 0] = np.arcsinh(pairs.truth[k] / unit)
        y[..., 1] = np.where(pairs.masked, 0, 1 + (self.weight - 1) * (y[..., 0] > 0.1))
        size = min(self.batch_size, len(x))
        steps = len(x) // size
        rate = keras.optimizers.schedules.CosineDecay(self.learning_rate, steps * self.epochs)
        optimizer, losses = keras.optimizers.Adam(rate, clipnorm=1.0), []

        @tf.function(reduce_retracing=True)
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = 0.0
                for out in self.network_(x, training=True):
                    n = y.shape[1] // out.shape[1]
                    small = tf.nn.avg_pool2d(y, n, n, "VALID")
                    loss += tf.reduce_mean(small[..., 1] * tf.abs(out[..., 0] - small[..., 0]))
            variables = self.network_.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        bar = tqdm(total=steps * self.epochs, desc="steps", disable=not self.progress)
        for _ in range(self.epochs):
            total, order = 0.0, rng.permutation(len(x))
            for k in range(steps):
                rows = np.sort(order[k * size : (k + 1) * size])
                view = int(rng.integers(8))
                total += float(step(_turned(x[rows], view), _turned(y[rows], view)))
                bar.update()
            losses.append(total / steps)
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
        bar.close()
        self.losses_ = np.array(losses)

    def transients(self, reference, science):
        """Return the image of the transients alone, in the science image's unit, float32.

        A large image is judged in overlapping tiles, each with its own sky and flux scale. Nothing
        is found within `MARGIN` pixels of a gap wider than two pixels. Raises as `normalize`.
        """
        reference, science = subtraction.checked(reference, science)
        out = np.zeros(science.shape, np.float32)
        for outer, inner, place in _tiles(science.shape):
            if np.isfinite(science[outer]).any() and np.isfinite(reference[outer]).any():
                x, unit = normalize(reference[outer], science[outer])
                out[place] = self._paint(x)[inner] * unit
        gaps = ndimage.binary_opening(np.isnan(science), np.ones((3, 3)))
        if gaps.any():
            out[ndimage.distance_transform_edt(~gaps) <= MARGIN] = 0
        return out

    def _check_taught(self):
        if not hasattr(self, "network_"):
            raise ValueError("this network knows nothing yet; call fit first")

    def _paint(self, x):
        """Return the transients in units of the noise."""
        height, width = x.shape[:2]
        self._check_taught()
        pad = [(0, -n % 2 ** (len(self.filters) - 1)) for n in (height, width)]
        x, total = np.pad(x, [*pad, (0, 0)], mode="reflect")[None], 0.0
        for turned in (0, 1):  # by these, rows and columns change places
            views = [view for view in range(self.n_views) if view % 2 == turned]
            if views:
                seen = self._run(np.concatenate([_turned(x, view) for view in views]))
                back = (_turned(seen[[k]], view, back=True) for k, view in enumerate(views))
                total = total + sum(each[0, ..., 0] for each in back)
        return np.sinh(np.maximum(total / self.n_views, 0))[:height, :width]

    def _run(self, x):
        """Return what the network paints at full size."""
        import tensorflow as tf

        if getattr(self, "_compiled", (None,))[0] is not self.network_:
            shape = tf.TensorSpec((None, None, None, 2), tf.float32)
            last = tf.function(lambda x: self.network_(x, training=False)[-1], [shape])
            self._compiled = self.network_, last
        return self._compiled[1](x).numpy()

    def score(self, reference, science):
        """Return the transients summed over 3x3 pixels, in units of the science image's noise."""
        return _summed(self.transients(reference, science), science)

    def scores(self, pairs):
        """Return the `score` of every one of `image_pairs.Pairs`, a list of images."""
        both = zip(pairs.reference, pairs.science, strict=True)
        both = tqdm(both, desc="scores", total=len(pairs), disable=not self.progress)
        return [self.score(*images) for images in both]

    def catalogue(self, reference, science, *, fwhm=None, threshold=None):
        """Return the transients found, a DataFrame, brightest first.

        Columns: ``x, y`` [pixel], ``flux`` and ``flux_err`` (1 sigma) in the science image's unit,
        ``snr``, and ``score``, by which it was found. The flux is that of a fit of the point-spread
        function to the difference that is left when the reference, convolved with a kernel fitted
        around the transient, is taken away.

        Parameters
        ----------
        fwhm : float, optional
            Of the science image's point-spread function [pixel]; by default measured.
        threshold : float, optional
            Of the score, instead of ``threshold_``.
        """
        painted = self.transients(reference, science)
        found = peaks(
            _summed(painted, science), self.threshold_ if threshold is None else threshold
        )
        fwhm = fwhm or measure_fwhm(science)
        table = photometry(reference, science, found, painted, fwhm)
        table[["flux", "flux_err"]] *= self.flux_scale_
        return table.sort_values("flux", ascending=False, ignore_index=True)

    def catalogues(self, pairs):
        """Return the `catalogue` of every pair, one table with the column ``pair``."""
        tables = []
        for k in tqdm(range(len(pairs)), desc="catalogues", disable=not self.progress):
            fwhm = pairs.about["fwhm"].iloc[k]
            tables.append(self.catalogue(pairs.reference[k], pairs.science[k], fwhm=fwhm))
            tables[-1]["pair"] = k
        return pd.concat(tables, ignore_index=True)

    def save(self, path):
        """Return ``path`` after writing the network and what was chosen with it, whole."""
        self._check_taught()
        path = Path(path).expanduser()
        chosen = {"threshold": self.threshold_, "flux_scale": self.flux_scale_}
        arrays = {f"w{k}": array for k, array in enumerate(self.network_.get_weights())}
        with lightcurves.whole(path) as part, open(part, "wb") as stream:
            about = {"filters": self.filters, "n_views": self.n_views, "losses": self.losses_}
            np.savez_compressed(stream, **chosen, **about, **arrays)
        return path

    @classmethod
    def load(cls, path):
        """Return the finder that `save` wrote; ValueError if the file is none."""
        try:
            with np.load(Path(path).expanduser(), allow_pickle=False) as saved:
                parts = dict(saved)
            self = cls(filters=parts["filters"].tolist(), n_views=int(parts["n_views"]))
            self.network_ = build(filters=self.filters)
            n_arrays = len(self.network_.weights)
            self.network_.set_weights([parts[f"w{k}"] for k in range(n_arrays)])
            self.threshold_ = float(parts["threshold"])
            self.flux_scale_, self.losses_ = float(parts["flux_scale"]), parts["losses"]
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no TransientFinder ({error}); train it anew") from None
        return self


def _summed(painted, science):
    image = painted / (image_pairs.noise(science)[1] or 1.0)
    return ndimage.uniform_filter(image, 3, mode="constant") * 9


def _turned(images, view, *, back=False):
    """Return images, shape (n, n_rows, n_columns, n), in one of 8 views; or ``back`` from it."""
    turn, mirrored = view % 4, view >= 4
    if back:
        images = np.rot90(images, -turn, axes=(1, 2))
        return np.ascontiguousarray(images[:, :, ::-1] if mirrored else images)
    images = images[:, :, ::-1] if mirrored else images
    return np.ascontiguousarray(np.rot90(images, turn, axes=(1, 2)))


def _tiles(shape):
    """Yield slices of a tile in the image, of its inner part in the tile, and in the image."""
    spans = []
    for n in shape:
        starts = range(0, max(n - OVERLAP, 1), TILE - OVERLAP) if n > TILE else [0]
        span, done = [], 0
        for start in starts:
            low, high = min(start, max(n - TILE, 0)), min(start + TILE, n)
            last = high - (OVERLAP // 2 if high < n else 0)
            span.append((slice(low, high), slice(done - low, last - low), slice(done, last)))
            done = last
        spans.append(span)
    for row in spans[0]:
        for column in spans[1]:
            yield tuple(zip(row, column, strict=True))


# What is found in an image of scores, and how well.


def peaks(score, threshold, *, n_peaks=np.inf):
    """Return the local maxima of an image above a threshold: ``x, y, score``, highest first."""
    from photutils.detection import find_peaks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is none
        found = find_peaks(score, threshold, box_size=7, n_peaks=n_peaks)
    columns = ["x_peak", "y_peak", "peak_value"]
    table = found[columns].to_pandas() if found is not None else pd.DataFrame(columns=columns)
    table.columns = ["x", "y", "score"]
    return table.astype(float).sort_values("score", ascending=False, ignore_index=True)


def detections(pairs, scores, *, lowest=0.3):
    """Return the `peaks` of the scores of simulated pairs, and which transient each is.

    Columns: ``pair, x, y, score``, ``source``, the row of ``pairs.sources`` or -1, and its ``snr``
    (NaN). Peaks at the very edge or in masked pixels are left out.
    """
    tables = []
    for k, score in enumerate(scores):
        table, size = peaks(score, lowest, n_peaks=40), len(score)
        x, y = table["x"].to_numpy(int), table["y"].to_numpy(int)
        inside = (np.minimum(x, y) >= image_pairs.MARGIN - 1) & ~pairs.masked[k][y, x]
        table = table[inside & (np.maximum(x, y) <= size - image_pairs.MARGIN)].assign(pair=k)
        tables.append(_matched(table, pairs.sources[pairs.sources["pair"] == k]))
    return pd.concat(tables, ignore_index=True)


def _matched(table, sources):
    """Return detections with the row and S/N of the source that each is, each source once."""
    which, free = np.full(len(table), -1), dict(sources[["x", "y"]].T.items())
    for k, (x, y) in enumerate(table[["x", "y"]].to_numpy()):
        apart = {row: np.hypot(x - place["x"], y - place["y"]) for row, place in free.items()}
        if apart and min(apart.values()) <= RADIUS:
            which[k] = min(apart, key=apart.get)
            del free[which[k]]
    return table.assign(source=which, snr=sources["snr"].reindex(which).to_numpy())


def curve(found, pairs):
    """Return ``threshold, precision, recall, f1`` at the score of every `detections` row.

    Of transients of S/N `COMPLETE` and more; a fainter one that is found counts neither way.
    """
    counted = found[~(found["snr"] < COMPLETE)].sort_values("score", ascending=False)
    right = (counted["source"] >= 0).cumsum().to_numpy()
    n_true = max((pairs.sources["snr"] >= COMPLETE).sum(), 1)
    precision, recall = right / np.arange(1, len(right) + 1), right / n_true
    f1 = 2 * right / (np.arange(1, len(right) + 1) + n_true)
    columns = {"threshold": counted["score"], "precision": precision, "recall": recall, "f1": f1}
    return pd.DataFrame(columns).reset_index(drop=True)


def best_threshold(found, pairs, precision=0.0):
    """Return the threshold of greatest F1 at no less than a precision, of `detections`.

    Where that precision is not reached, the threshold of the greatest; infinity if nothing was
    found.
    """
    table = curve(found, pairs)
    if not len(table):
        return np.inf
    good = table[table["precision"] >= min(precision, table["precision"].max())]
    return float(good.loc[good["f1"].idxmax(), "threshold"])


def at_threshold(found, pairs, threshold):
    """Return ``precision, recall, f1`` of the `detections` at a threshold chosen elsewhere."""
    table = curve(found, pairs)
    above = table[table["threshold"] >= threshold]
    values = above.iloc[-1] if len(above) else pd.Series({"precision": 1.0, "recall": 0, "f1": 0})
    return values[["precision", "recall", "f1"]].astype(float)


def match(catalogues, pairs):
    """Return rows of `TransientFinder.catalogues` with ``flux_true, snr_true`` of their source."""
    tables = []
    for k, table in catalogues.groupby("pair"):
        sources = pairs.sources[pairs.sources["pair"] == k]
        table = _matched(table.drop(columns="snr"), sources).rename(columns={"snr": "snr_true"})
        table["snr"] = table["flux"] / table["flux_err"]
        table["flux_true"] = sources["flux"].reindex(table["source"]).to_numpy()
        tables.append(table[table["source"] >= 0])
    columns = [*catalogues.columns, "source", "snr_true", "flux_true"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def split(pairs, share, *, seed=0):
    """Return pairs parted in two by the group of their background; the second gets ``share``."""
    groups = pairs.about["group"].to_numpy()
    if len(set(groups)) < 2:
        raise ValueError("pairs of a single background cannot be parted; give validation pairs")
    parts = GroupShuffleSplit(1, test_size=share, random_state=seed)
    first, second = next(parts.split(groups, groups=groups))
    return pairs[first], pairs[second]


def measure_fwhm(image, *, guess=3.0):
    """Return the median full width at half maximum of an image's stars [pixel].

    Where fewer than 3 can be fitted, ``guess``.
    """
    from photutils.detection import DAOStarFinder
    from photutils.psf import fit_fwhm

    level, sigma = image_pairs.noise(image)
    image = np.nan_to_num(np.asarray(image, float) - level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some fits fail
        stars = DAOStarFinder(threshold=15 * (sigma or 1.0), fwhm=guess)(image)
        if stars is None:
            return guess
        xy = stars[["x_centroid", "y_centroid", "peak"]].to_pandas()
        inside = (xy.iloc[:, :2] >= 6).all(axis=1) & (xy["x_centroid"] < image.shape[1] - 6)
        xy = xy[inside & (xy["y_centroid"] < image.shape[0] - 6) & (xy["peak"] < image.max() * 0.8)]
        if len(xy) < 3:
            return guess
        widths = fit_fwhm(image, xypos=xy.nlargest(40, "peak").to_numpy()[:, :2], fit_shape=7)
    widths = np.asarray(widths)[np.isfinite(widths) & (np.asarray(widths) > 1)]
    return float(np.median(widths)) if len(widths) >= 3 else guess


def photometry(reference, science, found, painted, fwhm, *, half=20):
    """Return ``x, y, flux, flux_err, snr, score`` of transients found, on matched differences.

    Around each, the reference is matched to the science image by a kernel fitted outside of all
    transients; where it is is the centre of what was ``painted``. A flux of which missing pixels
    hold half or more is NaN.
    """
    reference, science = subtraction.checked(reference, science, fwhm=fwhm)
    rows, places = [], _centres(found, painted)
    indices = np.indices(science.shape)
    near = np.zeros(science.shape, bool)
    for x, y in places:
        near |= np.hypot(indices[1] - x, indices[0] - y) < 1.7 * fwhm
    for (x, y), score in zip(places, found["score"], strict=True):
        at = tuple(_around(v, half, n) for v, n in zip((y, x), science.shape, strict=True))
        left = _left(reference[at], science[at], near[at])
        profile = image_pairs.psf(fwhm, left.shape, x - at[1].start, y - at[0].start)
        inner = (profile > 0.02 * profile.max()) & np.isfinite(science[at])
        if profile[inner].sum() < 0.5:
            rows.append((x, y, np.nan, np.nan, np.nan, score))
            continue
        flux = np.sum((profile * left)[inner]) / np.sum(profile[inner] ** 2)
        error = image_pairs.noise(left)[1] / np.sqrt(np.sum(profile[inner] ** 2))
        rows.append((x, y, flux, error, flux / error if error else np.nan, score))
    return pd.DataFrame(rows, columns=["x", "y", "flux", "flux_err", "snr", "score"], dtype=float)


def _left(reference, science, near):
    """Return the matched difference, by the widest kernel for which there are pixels enough."""
    for width in (9, 5, 3):
        try:
            return subtraction.matched_difference(reference, science, width=width, masked=near)
        except ValueError:
            continue
    return np.full(science.shape, np.nan)


def _around(place, half, n):
    """Return the slice of 2 half + 1 pixels about a place, moved to lie within n."""
    start = min(max(round(place) - half, 0), max(n - 2 * half - 1, 0))
    return slice(start, min(start + 2 * half + 1, n))


def _centres(found, painted):
    """Return the centre of light of the 5x5 pixels painted around each detection, (x, y)."""
    centres, (rows, columns) = [], np.mgrid[-2:3, -2:3]
    padded = np.pad(painted, 2)
    for x, y in found[["x", "y"]].to_numpy(int):
        light = padded[y : y + 5, x : x + 5]
        total = light.sum() or 1.0
        centres.append((x + (light * columns).sum() / total, y + (light * rows).sum() / total))
    return centres
