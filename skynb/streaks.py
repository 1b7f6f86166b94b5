"""Streaks of near-Earth asteroids in difference stamps: three questions, and where the streak lies.

DeepStreaks (Duev et al. 2019, MNRAS 486, 4158) asks ensembles of networks whether a stamp shows a
real streak (rb), whether it is short (sl) and whether to keep it (kd); one yes within an ensemble
is a yes, and only three yeses keep a stamp. Here each network answers all three questions, so that
one pass on a CPU serves them all. Where the streak lies, a trailed PSF fitted to the pixels says.
`radon` is the classical detector to compare with.
"""

import io
import sys
import warnings
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.fft import irfft2, rfft2
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skynb import __version__, alerts, datasets, models, networks, simulate
from skynb.simulate import trail
from skynb.stamps import decode

QUESTIONS = ("rb", "sl", "kd")
"""Real streak or not; short or long; keep or ditch."""

SIZE = 96
"""Pixels a side of what a network sees."""

HUGE = 1e15
"""A pixel beyond is missing, as one that is not finite."""

SIDES = (63, 256)
"""Smallest and largest side of a stamp [pixel]; the shorter side of one at an edge may be less."""

PLACE = ("x", "y", "angle", "length")

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Of the images that `table` finds in a folder."""

READY = 1
"""Of the networks that `ready` keeps; raise it when they would come out otherwise."""

TAUGHT = (
    *("asteroid", "satellite", "asteroid", "ghost", "asteroid", "dementor", "plain"),
    *("masked star", "plain", "satellite"),
)
"""The kinds of `simulate.STAMPS` that `ready` networks have learnt from, in turn."""


def inputs(stamps):
    """Return what networks are fed, shape (n, 96, 96, 4), float32: stamps, all of one size.

    First the stamp itself: the sky is 0, its noise 1 and the brightest compressed (asinh), be it in
    units of the detector or in the 256 levels of a display. A missing pixel (NaN) is sky, and so is
    what makes a stamp square. Then how much more a line of 15 pixels at the best angle answers than
    lines at all angles do, and that times cosine and sine of twice the angle.

    Parameters
    ----------
    stamps : list or ndarray of images
        Longer side 63 to 256 pixels.

    Raises
    ------
    ValueError
        For a stamp that is no image, of another size, without a finite pixel or all alike.
    """
    images = [_checked(f"stamp {k}", stamp) for k, stamp in enumerate(stamps)]
    if not images:
        raise ValueError("no stamp is given; give one or more")
    scaled = [_scaled(image) for image in images]
    return np.concatenate([_lines(np.stack(scaled[k : k + 64])) for k in range(0, len(scaled), 64)])


def _lines(images):
    """Return images with what lines answer to them, shape (n, 96, 96, 4)."""
    kernels, angles = _kernels()
    n = kernels.shape[1]
    seen, found = rfft2(images, (n, n)), np.empty((len(angles), *images.shape), np.float32)
    for k, kernel in enumerate(kernels):
        found[k] = irfft2(seen * rfft2(kernel)[None], (n, n))[:, 7 : 7 + SIZE, 7 : 7 + SIZE]
    found -= found.mean(axis=0)
    best = found.argmax(axis=0)
    height, double = found.max(axis=0), 2 * angles[best]
    return np.stack([images, height, height * np.cos(double), height * np.sin(double)], axis=-1)


@cache
def _kernels():
    """Return lines at 16 angles, of sum 0 and norm 1, padded with 0, and the angles [rad]."""
    angles = np.arange(16) * 180 / 16
    lines = np.stack([trail((15, 15), 7, 7, angle, 13, 0.8) for angle in angles])
    lines -= lines.mean(axis=(1, 2), keepdims=True)
    lines /= np.sqrt(np.square(lines).sum(axis=(1, 2), keepdims=True))
    wide = ((0, 0), (0, SIZE + 1), (0, SIZE + 1))
    return np.pad(lines, wide).astype(np.float32), np.radians(angles).astype(np.float32)


def _checked(name, stamp):
    stamp = np.asarray(stamp)
    if stamp.ndim != 2 or stamp.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} is of shape {stamp.shape}, not an image of rows and columns; "
            "give one plane of numbers"
        )
    if not SIDES[0] <= max(stamp.shape) <= SIDES[1]:
        raise ValueError(
            f"{name} has {stamp.shape[0]} x {stamp.shape[1]} pixels; the longer side must be "
            f"{SIDES[0]} to {SIDES[1]}, so cut it anew"
        )
    known = np.abs(stamp.astype(float)) < HUGE
    stamp = np.where(known, stamp, np.nan).astype(np.float32)
    if not known.any():
        raise ValueError(f"{name} has no finite pixel; leave it out")
    if np.ptp(stamp[known]) == 0:
        raise ValueError(f"{name} has the same value in every pixel; leave it out")
    return np.where(known, stamp, np.median(stamp[known]))


def _scaled(image):
    side = max(image.shape)
    square = np.zeros((side, side), np.float32)
    square[: image.shape[0], : image.shape[1]] = np.arcsinh(_standard(image))
    weights = _resampling(side)
    return np.arcsinh(_standard(weights @ square @ weights.T)).astype(np.float32)


def _standard(image):
    """Return an image less its median, over the noise; blank pixels have no say in the noise."""
    image = image - np.median(image)
    sigma = 1.4826 * np.median(np.abs(image[image != 0]))
    return image / max(sigma, 1e-3 * image.std())


@cache
def _resampling(side):
    """Return the matrix, shape (96, side), of a Gaussian over the pixels about each new one.

    Its width varies smoothly with the side, and with it the smoothing of the noise: an average over
    the area of the new pixels leaves a side of 96 as it is, unlike those of 95 and 97.
    """
    middle = (np.arange(SIZE) + 0.5) * side / SIZE
    apart = np.subtract.outer(middle, np.arange(side) + 0.5) / (0.35 * (side / SIZE + 1))
    weights = np.exp(-np.square(apart) / 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def build(*, seed=0):
    """Return an untrained network, a keras.Model that takes `inputs`.

    Its outputs are the logits of `QUESTIONS`.
    """
    keras, layers = networks.load_keras(), networks.load_keras().layers
    seeds = iter(np.random.SeedSequence(seed).generate_state(8) >> 1)

    def convolution(x, n, size=3, strides=1):
        start = keras.initializers.HeNormal(int(next(seeds)))
        x = layers.Conv2D(
            n, size, strides, padding="same", use_bias=False, kernel_initializer=start
        )(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    first = keras.Input((SIZE, SIZE, 4))
    x = layers.MaxPooling2D(2)(convolution(first, 16, 5, 2))
    x = layers.MaxPooling2D(2)(convolution(x, 32))
    x = convolution(convolution(x, 48), 64)
    pools = [layers.GlobalMaxPooling2D()(each) for each in (first, x)]
    x = layers.Concatenate()([*pools, layers.GlobalAveragePooling2D()(x)])
    x = layers.Dropout(0.2, seed=seed)(layers.BatchNormalization(momentum=0.9)(x))
    start = keras.initializers.HeNormal(int(next(seeds)))
    x = layers.Dense(48, activation="relu", kernel_initializer=start)(x)
    start = keras.initializers.GlorotUniform(int(next(seeds)))
    return keras.Model(first, layers.Dense(len(QUESTIONS), kernel_initializer=start)(x))


def answers(kind):
    """Return the true answer to each of `QUESTIONS` for kinds of `simulate.STAMPS`.

    Shape (n, 3): real streak, short, keep. NaN: whether what is no streak is short is not asked.
    """
    kind = np.asarray(kind, dtype=str)
    asteroid, satellite = kind == "asteroid", kind == "satellite"
    real = asteroid | satellite
    return np.stack([real, np.where(real, asteroid, np.nan), asteroid], axis=1).astype(np.float32)


class Streaks(BaseEstimator):
    """An ensemble of small networks that tells asteroids' streaks from everything else.

    Parameters
    ----------
    n_networks : int
        Each answers all of `QUESTIONS`; the highest answer is the ensemble's.
    epochs, batch_size : int
    learning_rate : float
        Of Adam, at the start; it falls to 0 as a cosine.
    validation : float
        Share of the stamps that is held out to choose the threshold by.
    max_fpr : float
        Share of what is no asteroid that may be kept; the threshold is chosen for it.

    Attributes
    ----------
    networks_ : list of keras.Model
        Feed them `inputs`.
    threshold_ : float
        Of the score; a stamp at or above it is kept.
    """

    def __init__(
        self, *, n_networks=2, epochs=12, batch_size=32, learning_rate=2e-3, validation=0.15,
        max_fpr=0.005, seed=0, progress=False,
    ):  # fmt: skip
        self.n_networks, self.epochs, self.batch_size = n_networks, epochs, batch_size
        self.learning_rate, self.validation, self.max_fpr = learning_rate, validation, max_fpr
        self.seed, self.progress = seed, progress

    def fit(self, stamps, truth):
        """Return itself, trained.

        Parameters
        ----------
        stamps : list or ndarray of images
            As `simulate.stamps` makes them; `inputs` says which sizes.
        truth : DataFrame
            ``kind``, one of `simulate.STAMPS`.

        Raises
        ------
        ValueError
            What `inputs` refuses; a truth of another length or without ``kind``; only asteroids,
            or none; no network, no epoch, or a ``max_fpr`` that is no share below 1.
        """
        for name in ("n_networks", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if not 0 <= self.max_fpr < 1:
            raise ValueError(f"max_fpr is {self.max_fpr}; give a share from 0 to below 1")
        stamps = list(stamps)
        if "kind" not in truth or len(truth) != len(stamps):
            lack = f"{len(truth)} rows" if "kind" in truth else "no column 'kind'"
            raise ValueError(f"the truth of {len(stamps)} stamps has {lack}; give one row for each")
        if len(unknown := np.setdiff1d(truth["kind"].astype(str), simulate.STAMPS)):
            known = ", ".join(simulate.STAMPS)
            raise ValueError(f"no kind of stamp is called {unknown[0]!r}; there are {known}")
        kept = truth["kind"].to_numpy() == "asteroid"
        if kept.all() or not kept.any():
            raise ValueError(
                f"{kept.sum()} of {len(kept)} stamps are asteroids; some must be and some not"
            )
        x, y = inputs(stamps), answers(truth["kind"])
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(x))
        held, rows = np.split(order, [int(self.validation * len(x))])
        seeds = np.random.SeedSequence(self.seed).generate_state(self.n_networks) >> 1
        self.networks_ = []
        bar = tqdm(total=self.n_networks * self.epochs, desc="epochs", disable=not self.progress)
        with bar:
            for seed in seeds.tolist():
                self.networks_.append(build(seed=seed))
                self._train(self.networks_[-1], x[rows], y[rows], seed, bar)
        chosen = held if kept[held].any() and not kept[held].all() else order
        score = _score(self._judge(x[chosen]))
        self.threshold_ = threshold(kept[chosen], score, self.max_fpr)
        return self

    def _train(self, network, x, y, seed, bar):
        keras, rng = networks.load_keras(), np.random.default_rng(seed)
        size = min(self.batch_size, len(x))
        steps = len(x) // size
        rate = keras.optimizers.schedules.CosineDecay(self.learning_rate, steps * self.epochs)
        network.compile(keras.optimizers.Adam(rate), _loss, jit_compile=False)
        for _ in range(self.epochs):
            for batch in rng.permutation(len(x))[: steps * size].reshape(steps, size):
                network.train_on_batch(_turned(x[batch], rng), y[batch])
            bar.update()

    def _judge(self, x):
        """Return the outputs of every network, shape (n_networks, n, 3), mean over 8 turns."""
        check_is_fitted(self, "networks_")
        return np.stack([_said(network, x) for network in self.networks_])

    def predict_proba(self, stamps):
        """Return the answer to each of `QUESTIONS`, shape (n, 3): the highest of the ensemble."""
        return _questions(self._judge(inputs(stamps)))

    def score(self, stamps):
        """Return how surely each stamp is to be kept, shape (n,): its least certain answer."""
        return self.predict_proba(stamps).min(axis=1)

    def predict(self, stamps):
        """Return whether each stamp is kept, shape (n,), bool."""
        return self.score(stamps) >= self.threshold_

    def describe(self, stamps):
        """Return what is found, a DataFrame with one row for each stamp.

        Columns: ``score, keep, rb, sl, kd``, and, where ``rb`` is 0.5 or more, the streak's middle
        ``x, y`` [pixel] (column and row), ``angle`` [deg] (from the columns' axis to the rows', 0
        to 180) and ``length`` [pixel], the last four of a trailed PSF fitted to the stamp.
        """
        stamps = list(stamps)
        x = inputs(stamps)
        out = self._judge(x)
        table = pd.DataFrame(_questions(out), columns=list(QUESTIONS))
        table.insert(0, "score", _score(out))
        table.insert(1, "keep", table["score"] >= self.threshold_)
        place = np.full((len(x), 4), np.nan)
        for k in tqdm(np.flatnonzero(table["rb"] >= 0.5), disable=not self.progress, desc="places"):
            scale = max(np.shape(stamps[k])) / SIZE
            place[k] = _fitted(np.sinh(x[k, ..., 0]).clip(-8, 8), _guess(x[k]))
            place[k] *= [scale, scale, 1, scale]
            place[k, :2] += (scale - 1) / 2
        table[list(PLACE)] = place
        return table

    def save(self, path):
        """Return ``path`` after writing the networks there, whole or not at all."""
        check_is_fitted(self, "networks_")
        parts = {"parameters": self.get_params(), "threshold": float(self.threshold_)}
        parts["weights"] = [network.get_weights() for network in self.networks_]
        about = {"n_objects": 0, "sha256": ""}
        known = {name: [0.0, 0.0] for name in models.REASONS}
        recipe = models.Recipe(
            "streaks", {}, self.seed, ("asteroid", "other"), ("difference",), None, None, None,
            known, about, models.versions(),
        )  # fmt: skip
        return models.save(parts, recipe, {"cite": "Duev et al. 2019, MNRAS 486, 4158"}, path)

    @classmethod
    def load(cls, path):
        """Return the networks that `save` wrote; another file raises `skynb.models.ModelError`."""
        parts, recipe, _ = models.load(path)
        if recipe.kind != "streaks":
            raise models.ModelError(f"{path} holds a model of kind {recipe.kind}, not of streaks")
        self = cls(**parts["parameters"])
        self.threshold_, self.networks_ = parts["threshold"], []
        for weights in parts["weights"]:
            self.networks_.append(build())
            self.networks_[-1].set_weights(weights)
        return self


def ready(backgrounds=(), *, n_stamps=5000, progress=True, **options):
    """Return networks that have learnt already: from the cache, or they learn now and are kept.

    They learn from simulated streaks and artefacts. Minutes go by at the first time.

    Parameters
    ----------
    backgrounds : sequence of str
        ZTF alerts by name, such as ``ztf-alerts-2018``, on whose difference stamps the streaks are
        planted; by default on simulated noise.
    **options
        Of `Streaks`.

    Raises
    ------
    ValueError
        If there is no stamp in the backgrounds.
    """
    about = [*(backgrounds or ["simulated"]), n_stamps, *(f"{k}={v}" for k, v in options.items())]
    name = f"streaks-{__version__}-{READY}-{'-'.join(map(str, about))}.skynb"
    path = datasets.cache_dir() / "models" / name
    if path.is_file():
        return Streaks.load(path)
    planes = differences(backgrounds)
    if backgrounds and not planes:
        raise ValueError(f"no stamps in {', '.join(backgrounds)}; name ZTF alerts with cutouts")
    if progress:
        tqdm.write(f"learning from {n_stamps:,} simulated stamps: minutes, once", file=sys.stderr)
    made, truth = simulate.stamps(n_stamps, backgrounds=planes or None, kinds=TAUGHT, seed=1)
    learner = Streaks(progress=progress, **options).fit(made, truth)
    path.parent.mkdir(parents=True, exist_ok=True)
    learner.save(path)
    return learner


def differences(names):
    """Return the difference stamps of ZTF alerts, data sets by name, as a list."""
    read = (alerts.read(datasets.contents(name), history=False, progress=False) for name in names)
    return [stamp for found in read for stamp in found.triplets[..., 2]]


def table(paths, model, *, progress=True):
    """Return what is found in each image, a DataFrame, one row for each.

    Columns: ``path``, those of `Streaks.describe`, and ``reason``, why an image has no score ("").

    Parameters
    ----------
    paths : sequence of str or Path
        FITS or what Pillow reads (PNG, JPEG, TIFF); of a folder, all that end in `SUFFIXES`.
    model : Streaks

    Raises
    ------
    ValueError
        If there is no image.
    FileNotFoundError
        If a path is not there.
    """
    files = files_in(paths)
    rows = pd.DataFrame({"path": [str(file) for file in files], "reason": ""})
    tables = []
    with tqdm(total=len(files), desc="images", disable=not progress) as bar:
        for k in range(0, len(files), 256):
            images = {}
            for row in range(k, min(k + 256, len(files))):
                try:
                    images[row] = _checked("the image", _read(files[row]))
                except Exception as error:  # whatever it is, the others are judged
                    rows.loc[row, "reason"] = str(error) or type(error).__name__
                bar.update()
            if images:
                tables.append(model.describe(images.values()).set_axis([*images]))
    names = ["score", "keep", *QUESTIONS, *PLACE]
    found = pd.concat(tables) if tables else pd.DataFrame(columns=names, dtype=float)
    found = rows.join(found.astype({"keep": "boolean"}))
    return found[["path", *names, "reason"]]


def files_in(paths):
    """Return the images among paths, those of folders by `SUFFIXES`; raises as `table`."""
    files = []
    for path in (Path(path).expanduser() for path in paths):
        if not path.exists():
            raise FileNotFoundError(f"no image at {path}; check the path")
        inside = sorted(each for each in path.rglob("*") if each.name.lower().endswith(SUFFIXES))
        files += [each for each in inside if each.is_file()] if path.is_dir() else [path]
    if not files:
        raise ValueError(f"no image in {', '.join(map(str, paths))}; give FITS or PNG files")
    return files


def _read(path):
    from PIL import Image, UnidentifiedImageError

    data = path.read_bytes()
    if data[:6] == b"SIMPLE" or data[:2] == b"\x1f\x8b":
        return decode(data)
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ValueError("neither FITS nor an image that Pillow reads") from None
    with image:
        return np.asarray(image if image.mode[0] in "IF" else image.convert("L"))


def threshold(kept, score, max_fpr):
    """Return the lowest score above which at most this share of the ``~kept`` lie."""
    others = np.sort(np.asarray(score)[~np.asarray(kept, bool)])[::-1]
    return float(np.nextafter(others[int(max_fpr * len(others))], np.inf))


def rates(kept, score, *, max_fpr=(0.005, 0.01)):
    """Return the share of ``kept`` that all but ``max_fpr`` of the others score below, a Series."""
    kept, score = np.asarray(kept, bool), np.asarray(score)
    return pd.Series(
        {each: (score[kept] >= threshold(kept, score, each)).mean() for each in max_fpr}
    )


def _questions(out):
    return (1 / (1 + np.exp(-out))).max(axis=0)


def _score(out):
    return _questions(out).min(axis=1)


def _loss(y, said):
    """Return the cross-entropy of the questions that are asked."""
    ops = networks.load_keras().ops
    asked = ops.logical_not(ops.isnan(y))
    y = ops.where(asked, y, 0.0)
    entropy = ops.relu(said) - said * y + ops.log1p(ops.exp(-ops.abs(said)))
    return ops.sum(ops.cast(asked, "float32") * entropy, axis=1)


def _turned(x, rng):
    """Return `inputs` mirrored and turned at random."""
    x, drawn = x.copy(), rng.integers(0, 8, len(x))
    for k, bits in enumerate(product((False, True), repeat=3)):
        x[drawn == k] = _turn(x[drawn == k], *bits)
    return x


def _turn(x, flipped, mirrored, swapped):
    """Return `inputs` with columns in reverse, with rows in reverse, with both exchanged."""
    x = x[:, :: -1 if mirrored else 1, :: -1 if flipped else 1]
    signs = np.array([1, 1, 1, -1 if flipped ^ mirrored else 1], np.float32)
    if swapped:
        x, signs = x.transpose(0, 2, 1, 3), signs * np.array([1, 1, -1, 1], np.float32)
    return x * signs


def _said(network, x, size=64):
    """Return a network's output, shape (n, 3), the mean over 8 turns; nothing is compiled."""
    total = np.zeros((len(x), len(QUESTIONS)))
    for bits in product((False, True), repeat=3):
        for k in range(0, len(x), size):
            total[k : k + size] += network(_turn(x[k : k + size], *bits), training=False)
    return total / 8


def _guess(x, n_peaks=4):
    """Return x, y, angle and length of the best stretch through where lines answer most."""
    clipped, height, best = np.sinh(x[..., 0]).clip(-4, 4), x[..., 1].copy(), (-np.inf, None)
    for _ in range(n_peaks):
        row, column = np.unravel_index(height.argmax(), height.shape)
        height[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9] = 0
        angle = np.degrees(np.arctan2(*x[row, column, [3, 2]])) / 2
        for turned in angle + np.arange(-8, 9, 2):
            along = np.array([np.cos(np.radians(turned)), np.sin(np.radians(turned))])
            found = _along(clipped, np.array([column, row]), along)
            if found is not None and found[0] > best[0]:
                best = found[0], (*found[1], turned, found[2])
    return np.array(best[1] or (column, row, angle, 8.0))


def _along(image, middle, along):
    """Return S/N, middle, length and whether it reaches the border of a line's best stretch.

    Of a line that crosses less than 6 pixels, None.
    """
    reach = np.arange(-1.5 * SIZE, 1.5 * SIZE + 1)
    line = middle + reach[:, None] * along
    inside = ((line >= 0) & (line <= SIZE - 1)).all(axis=1)
    if inside.sum() < 6:
        return None
    line, across = line[inside], np.array([along[1], -along[0]])
    beside = [line + step * across for step in (-1, 0, 1)]
    profile = sum(map_coordinates(image, each.T[::-1], order=1) for each in beside)
    begin, end, snr = _stretch(profile / np.sqrt(3))
    touches = begin <= 1 or end >= len(line) - 1
    return snr, (line[begin] + line[end - 1]) / 2, float(end - begin), touches


def _fitted(image, guess):
    """Return x, y, angle and length of the trailed PSF next to the guess; Veres et al. 2012."""

    half = guess[3] / 2 + 14
    corner = np.maximum(0, np.floor(guess[:2] - half)).astype(int)
    right, bottom = np.ceil(guess[:2] + half).astype(int)
    image, guess = image[corner[1] : bottom, corner[0] : right], guess - [*corner, 0, 0]

    def residuals(p):
        shape = trail(image.shape, *p[:3], *np.exp(p[3:]))
        return (image - max(0, (image * shape).sum() / np.square(shape).sum()) * shape).ravel()

    length = np.clip(guess[3], 2, 1.5 * SIZE)
    starts = [[*guess[:2], guess[2] + turn, np.log(length), 0.1] for turn in (-12, -6, 0, 6, 12)]
    start = min(starts, key=lambda p: np.square(residuals(p)).sum())
    low = [guess[0] - 12, guess[1] - 12, start[2] - 30, np.log(1.0), np.log(0.4)]
    high = [guess[0] + 12, guess[1] + 12, start[2] + 30, np.log(2.0 * SIZE), np.log(4.0)]
    found = least_squares(
        residuals, start, bounds=(low, high), x_scale=[1, 1, 5, 0.2, 0.3], loss="soft_l1",
        max_nfev=20,
    )  # fmt: skip
    x, y, angle, length = found.x[:4]
    return np.array([x + corner[0], y + corner[1], angle % 180, np.exp(length)])


def radon(stamps, *, n_angles=60, progress=False):
    """Return the streak that a classical detector finds in each stamp, a DataFrame.

    The Radon transform of the stamp, over that of its noise, has a peak for a line; along it the
    stretch of highest S/N is the streak. A stretch that reaches the border is long, and scores 0.
    Columns: ``score`` (S/N of the stretch), ``x, y, angle, length`` as in `Streaks.describe`.
    """
    from skimage.transform import radon as transform

    stamps, rows = list(stamps), []
    theta = np.linspace(0, 180, n_angles, endpoint=False)
    crossed = np.sqrt(_paths(n_angles))
    for stamp, image in tqdm(
        list(zip(stamps, inputs(stamps)[..., 0], strict=True)), disable=not progress, desc="radon"
    ):
        clipped = np.sinh(image).clip(-4, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sinogram = transform(clipped, theta, circle=False, preserve_range=True) / crossed
        offset, k = np.unravel_index(sinogram.argmax(), sinogram.shape)
        normal = np.radians(theta[k])
        away = offset - len(sinogram) // 2
        # skimage turns the image about its centre: columns are along the normal, rows downwards
        middle = SIZE // 2 + away * np.array([np.cos(normal), -np.sin(normal)])
        along = np.array([np.sin(normal), np.cos(normal)])
        found = _along(clipped, middle, along)
        if found is None:
            rows.append((0.0, *np.full(4, np.nan)))
            continue
        snr, middle, length, touches = found
        scale = max(np.shape(stamp)) / SIZE
        angle = np.degrees(np.arctan2(along[1], along[0])) % 180
        rows.append(
            (0.0 if touches else snr, *(middle * scale + (scale - 1) / 2), angle, length * scale)
        )
    return pd.DataFrame(rows, columns=["score", *PLACE])


@cache
def _paths(n_angles):
    """Return how many pixels each line of the transform crosses, 16 or more."""
    from skimage.transform import radon as transform

    theta = np.linspace(0, 180, n_angles, endpoint=False)
    return transform(np.ones((SIZE, SIZE)), theta, circle=False).clip(16, None)


def _stretch(profile):
    """Return where the stretch of highest sum over root of its length begins and ends, and that."""
    total = np.append(0, np.cumsum(profile))
    begin, end = np.triu_indices(len(total), k=3)
    snr = (total[end] - total[begin]) / np.sqrt(end - begin)
    best = snr.argmax()
    return begin[best], end[best], snr[best]
