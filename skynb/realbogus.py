"""Real or bogus: the network of the ZTF survey, with its own weights or one's own.

Duev et al. 2019, MNRAS 489, 3582 (braai): VGG6 on triplets of 63x63 pixels. The official weights
are loaded by name at run time; `RealBogus` trains the same network by the published recipe.
"""

import io
import json
import os
import tempfile
import threading
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skynb import alerts, datasets, lightcurves, models, networks, stamps

VERSIONS = {"d6_m7": "per_row", "d6_m9": "per_frame"}
"""Official weights -> their normalization, in the order of the data set ``braai``."""

FORMAT = "skynb real/bogus 1"
"""Of the file that `RealBogus.save` writes."""

BATCH = 64
"""Triplets scored at a time: more do not stay in the processor's cache."""

N_LAYERS = 6
"""Of the network, that have weights."""

MAX_BYTES = 2**24
"""Largest file that is read as a model, unpacked."""

_SEEN = 60  # rows and columns that reach the last layer: both poolings drop what is left over


def network(*, size=stamps.SIZE, seed=0):
    """Return braai's VGG6, untrained, a functional keras.Model of 312,081 parameters.

    It takes normalized triplets, shape (n, size, size, 3), and ends in a sigmoid: the probability
    that a source is real. Sizes of 60 to 63 pixels have the same weights, and, as its poolings
    drop what is left over, the same answer.
    """
    keras, layers = networks.load_keras(), networks.load_keras().layers
    seeds = iter(np.random.SeedSequence(seed).generate_state(9) >> 1)

    def seeded(layer, *args, activation="relu", **options):
        start = keras.initializers.GlorotUniform(int(next(seeds)))
        return layer(*args, activation=activation, kernel_initializer=start, **options)

    x = first = keras.Input((size, size, 3))
    for k, (n, pool) in enumerate(((16, 2), (32, 4))):
        x = seeded(layers.Conv2D, n, 3, name=f"conv{2 * k + 1}")(x)
        x = seeded(layers.Conv2D, n, 3, name=f"conv{2 * k + 2}")(x)
        x = layers.Dropout(0.25, seed=int(next(seeds)))(layers.MaxPooling2D(pool)(x))
    x = seeded(layers.Dense, 256, name="fc_1")(layers.Flatten()(x))
    x = layers.Dropout(0.5, seed=int(next(seeds)))(x)
    return keras.Model(first, seeded(layers.Dense, 1, activation="sigmoid", name="fc_out")(x))


def official(version="d6_m7"):
    """Return the survey's own network, a `RealBogus` whose scores are the packets' ``drb``.

    Parameters
    ----------
    version : str
        One of `VERSIONS`. Each has its normalization: d6_m7, which made the ``drb`` of 2019 to
        2023, that of rows, d6_m9 that of whole stamps.

    Raises
    ------
    ValueError
        An unknown version, or weights that are not this network's.
    DataError
        As `datasets.contents`, which verifies the weights.
    """
    if version not in VERSIONS:
        raise ValueError(f"no weights are called {version!r}; choose from {', '.join(VERSIONS)}")
    data = datasets.contents("braai")[list(VERSIONS).index(version)]
    with h5py.File(io.BytesIO(data)) as file:
        layers = [file[name] for name in file.attrs["layer_names"]]
        weights = [each[name][()] for each in layers for name in each.attrs["weight_names"]]
    return RealBogus(VERSIONS[version])._set(weights, version)


class RealBogus(ClassifierMixin, BaseEstimator):
    """Braai's network and its normalization, trained by the published recipe.

    Binary cross-entropy, Adam, triplets mirrored and turned at random, classes weighted, training
    stopped when nights or sets that are held out are judged no better.

    Parameters
    ----------
    normalization : str
        One of `stamps.NORMALIZATIONS`; raw triplets are given, and normalized here.
    start : RealBogus, optional
        Fitted, of the same normalization, whose weights to start from, such as `official`.
    n_trainable : int, optional
        Layers with weights to train, from the end; all 6 by default.
    epochs, patience, batch_size : int
        Most epochs; epochs without a better validation after which to stop; triplets per step.
    learning_rate : float
        Of Adam; with ``decay`` it falls to 0 over the epochs as a cosine.
    validation : float
        Share of the groups to hold out; the weights that judged them best are kept. With 0, every
        epoch is run.
    seed : int
        Of the first weights, the groups held out, the order and the turns.

    Attributes
    ----------
    classes_ : ndarray
        0 (bogus) and 1 (real).
    network_ : keras.Model
        Feed it `inputs`.
    losses_ : ndarray, shape (n_epochs, 2)
        Training and validation.
    origin_ : str
        Name of the official weights, or "own".
    """

    def __init__(
        self, normalization="per_row", *, start=None, n_trainable=None, epochs=100, patience=15,
        batch_size=64, learning_rate=3e-4, decay=False, validation=0.1, seed=0, progress=False,
    ):  # fmt: skip
        self.normalization, self.start, self.n_trainable = normalization, start, n_trainable
        self.epochs, self.patience, self.batch_size = epochs, patience, batch_size
        self.learning_rate, self.decay, self.validation = learning_rate, decay, validation
        self.seed, self.progress = seed, progress

    def fit(self, triplets, y, *, groups=None):
        """Return itself, trained.

        Parameters
        ----------
        triplets : ndarray, shape (n, 63, 63, 3)
            Raw, as `stamps.triplet` makes them.
        y : array, shape (n,)
            1 if real, 0 if bogus; between them a pseudo-label, such as another network's score.
        groups : array, shape (n,), optional
            Night or set of each triplet; needed unless ``validation`` is 0, for alerts of one
            exposure are not independent.

        Raises
        ------
        ValueError
            Triplets that are normalized, not finite or of another size; one class only; labels
            beyond [0, 1]; fewer than two groups; a ``start`` of another normalization.
        """
        if self.epochs < 1 or self.n_trainable not in (None, *range(1, N_LAYERS + 1)):
            raise ValueError(
                f"epochs is {self.epochs} and n_trainable {self.n_trainable}; give 1 epoch or more "
                f"and 1 to {N_LAYERS} layers, or None for all"
            )
        x, y = _raw(triplets, self.normalization), np.asarray(y, np.float32)
        real = y > 0.5
        if y.shape != (len(x),) or not ((y >= 0) & (y <= 1)).all() or len(np.unique(real)) < 2:
            raise ValueError(
                f"expected a label from 0 to 1 for each of {len(x)} triplets, of both classes, got "
                f"{y.size} with {int(real.sum())} real"
            )
        rows, held = self._split(real, groups)
        trained = self._begin()
        trained.compile(self._optimizer(len(rows)), "binary_crossentropy", jit_compile=False)
        weights = np.where(
            real, len(y) / max(2 * real.sum(), 1), len(y) / max(2 * (~real).sum(), 1)
        )
        rng, losses, best, kept = np.random.default_rng(self.seed), [], 0, None
        shown = stamps.normalize(x[held], self.normalization)[:, :_SEEN, :_SEEN]
        for epoch in tqdm(range(self.epochs), desc="epochs", disable=not self.progress):
            order, loss = rng.permutation(rows), []
            for k in range(0, len(order), self.batch_size):
                batch = np.sort(order[k : k + self.batch_size])
                fed = stamps.normalize(stamps.augment(x[batch], rng), self.normalization)
                fed = fed[:, :_SEEN, :_SEEN]
                heard = trained.train_on_batch(fed, y[batch, None], sample_weight=weights[batch])
                loss.append(heard)
            judged = np.nan
            if len(held):
                judged = _cross_entropy(y[held], _judge(trained, shown), weights[held])
            losses.append((np.mean(loss), judged))
            if judged <= losses[best][1]:
                best, kept = epoch, trained.get_weights()
            if len(held) and epoch - best >= self.patience:
                break
        self.losses_ = np.array(losses)
        return self._set(kept or trained.get_weights(), "own")

    def _split(self, real, groups):
        """Return the rows to train on and those held out, whole groups of them."""
        if not self.validation:
            return np.arange(len(real)), np.arange(0)
        if groups is None or len(groups) != len(real) or len(np.unique(groups)) < 2:
            raise ValueError(
                "expected the night or set of each triplet, two of them or more, to hold some out; "
                "give groups, or validation=0"
            )
        splits = GroupShuffleSplit(20, test_size=self.validation, random_state=self.seed)
        parts = list(splits.split(real, groups=groups))
        sound = [part for part in parts if len(np.unique(real[part[0]])) == 2]
        if not sound:
            raise ValueError("without the groups held out one class is left; give more groups")
        return sound[0]

    def _optimizer(self, n):
        optimizers, rate = networks.load_keras().optimizers, self.learning_rate
        if self.decay:
            steps = -(-n // self.batch_size) * self.epochs
            rate = optimizers.schedules.CosineDecay(rate, steps)
        return optimizers.Adam(rate)

    def _begin(self):
        """Return the network to train, of the pixels that count."""
        trained = network(size=_SEEN, seed=self.seed)
        if self.start is not None:
            if self.start.normalization != self.normalization:
                raise ValueError(
                    f"start is normalized {self.start.normalization}, not {self.normalization}; "
                    "give both the same normalization"
                )
            trained.set_weights(self.start.network_.get_weights())
        layers = [layer for layer in trained.layers if layer.weights]
        for layer in layers[: len(layers) - (self.n_trainable or len(layers))]:
            layer.trainable = False
        return trained

    def _set(self, weights, origin):
        """Take the weights, which must be this network's."""
        trained = network()
        wanted = [tuple(each.shape) for each in trained.weights]
        if [np.shape(each) for each in weights] != wanted:
            raise ValueError("weights of another network than braai's; get the file again")
        trained.set_weights(weights)
        self.classes_, self.network_, self.origin_ = np.array([0, 1]), trained, origin
        self._scorer = _scorer(trained)
        return self

    def __getstate__(self):
        state = {k: each for k, each in super().__getstate__().items() if k != "_scorer"}
        return state | {"network_": self.network_.get_weights()} if "network_" in state else state

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "network_"):
            self._set(self.network_, self.origin_)

    def inputs(self, triplets):
        """Return what the network is fed: raw triplets normalized; raises as `score`."""
        return stamps.normalize(_raw(triplets, self.normalization), self.normalization)

    def score(self, triplets, y=None, *, normalized=None):
        """Return the score of each triplet, shape (n,): 1 is real, 0 bogus.

        With ``y``, as scikit-learn has it, the share that is told right at 0.5.

        Parameters
        ----------
        triplets : ndarray, shape (n, 63, 63, 3)
            Raw, unless ``normalized`` says how they have been normalized.

        Raises
        ------
        ValueError
            Triplets of another normalization than the model's, or normalized without a word of
            it; not finite, or of another size.
        """
        check_is_fitted(self, "network_")
        if normalized is None:
            x = None
        elif normalized != self.normalization:
            raise ValueError(
                f"triplets normalized {normalized}, but the model knows {self.normalization}; "
                "give it raw triplets"
            )
        else:
            x = _checked(triplets)
        out = np.empty(len(triplets), np.float32)
        steps = range(0, len(out), BATCH)
        for k in tqdm(steps, desc="scores", disable=not self.progress):
            part = slice(k, k + BATCH)
            fed = self.inputs(triplets[part]) if x is None else x[part]
            if x is not None and np.ptp(stamps.normalize(fed, normalized) - fed) > 1e-4:
                raise ValueError(f"triplets that are not normalized {normalized}; give raw ones")
            out[part] = self._scorer(np.ascontiguousarray(fed[:, :_SEEN, :_SEEN], np.float32))
        if y is None:
            return out
        return float(np.mean((out > 0.5) == (np.asarray(y) > 0.5)))

    def predict_proba(self, triplets):
        """Return the probabilities of bogus and real, shape (n, 2); raises as `score`."""
        score = self.score(triplets).astype(float)
        return np.column_stack([1 - score, score])

    def predict(self, triplets):
        """Return 1 where the score is above 0.5, else 0; `threshold` chooses by cost instead."""
        return (self.score(triplets) > 0.5).astype(int)

    def save(self, path, **card):
        """Return ``path`` after writing the weights and recipe there, whole or not at all.

        ``card`` is kept with them, for people: what JSON can hold.
        """
        path, options = Path(path).expanduser(), self.get_params(deep=False)
        options["start"] = options["start"] and options["start"].origin_
        recipe = {
            "format": FORMAT, "options": options, "origin": self.origin_, "card": card,
            "versions": models.versions(),
        }  # fmt: skip
        weights = {f"w{k:02}": each for k, each in enumerate(self.network_.get_weights())}
        with lightcurves.whole(path) as part, open(part, "wb") as stream:
            np.savez_compressed(stream, recipe=json.dumps(recipe), **weights)
        return path


def load(path):
    """Return the `RealBogus` that `RealBogus.save` wrote; nothing that the file holds is run.

    Raises
    ------
    FileNotFoundError, ModelError
        No file; one that is damaged or no model of this kind.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no model {path}; check the name")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise ValueError("too large")
        with np.load(path, allow_pickle=False) as file:
            recipe = json.loads(str(file["recipe"]))
            weights = [file[name] for name in sorted(file.files) if name != "recipe"]
        if recipe["format"] != FORMAT:
            raise ValueError(f"format {recipe['format']!r}")
        options = recipe["options"] | {"start": None}
        if options["normalization"] not in stamps.NORMALIZATIONS:
            raise ValueError(f"normalization {options['normalization']!r}")
        return RealBogus(**options)._set(weights, str(recipe["origin"]))
    except Exception as error:  # whatever a stranger's file may cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise models.ModelError(
            f"{path} is no real/bogus model, or damaged ({reason}); get it again"
        ) from None


def table(source, model, *, progress=True):
    """Return a score for every packet, or the reason why it has none, one row each.

    Columns: ``candid`` (Int64, missing where it could not be read), ``object_id, mjd`` [day],
    ``band, drb, score, where`` and ``reason`` ("" where there is a score).

    Parameters
    ----------
    source
        As of `skynb.alerts.stream`; memory is bounded but for this table.
    model : RealBogus
    """
    tables, told = [], ["object_id", "mjd", "band", "drb", "where"]
    for part in alerts.stream(source, history=False, progress=progress):
        scores = raw_scores(model, part.triplets)
        reasons = np.where(np.isnan(scores), "its triplet is already normalized", "")
        kept = part.candidates.reindex(columns=told).assign(score=scores, reason=reasons)
        tables += [kept.reset_index(), part.skipped]
    if not tables:
        raise ValueError("there is no packet to read; give a file, a folder or an archive")
    names = ["candid", *told[:4], "score", "where", "reason"]
    every = [each.astype({"candid": "Int64"}) for each in tables if len(each)]
    return pd.concat(every, ignore_index=True).reindex(columns=names)


def raw_scores(model, triplets):
    """Return the score of each triplet, shape (n,), NaN where it is normalized already."""
    triplets = _checked(triplets)
    raw, scores = ~_normalized(triplets).astype(bool), np.full(len(triplets), np.nan)
    scores[raw] = model.score(triplets[raw])
    return scores


def threshold(y, score, *, cost_missed=1.0, cost_false=1.0):
    """Return the threshold above which to call a source real, so that errors cost least.

    Parameters
    ----------
    y : array, shape (n,)
        1 if real, 0 if bogus, in the mixture that is expected.
    score : array, shape (n,)
    cost_missed, cost_false : float
        Of a real source that is thrown away, and of a bogus one that is kept.

    Raises
    ------
    ValueError
        Arrays of different lengths, not finite, one class only, or a cost that is not positive.

    Examples
    --------
    >>> threshold([0, 0, 1, 1], [0.1, 0.3, 0.2, 0.9], cost_missed=10)
    0.15
    """
    y, score = np.asarray(y, float), np.asarray(score, float)
    if not (np.isfinite(y).all() and np.isfinite(score).all()):
        raise ValueError("some labels or scores are not finite; drop these rows")
    y = y > 0.5
    if y.shape != score.shape or len(np.unique(y)) < 2:
        raise ValueError(
            f"expected a label and a score of each, of both classes, got {y.size} and {score.size}"
        )
    if not (cost_missed > 0 and cost_false > 0):
        raise ValueError(f"costs of {cost_missed} and {cost_false}; give positive ones")
    levels = np.unique(score)
    cuts = np.concatenate([[levels[0] / 2], (levels[1:] + levels[:-1]) / 2, [(levels[-1] + 1) / 2]])
    missed = np.searchsorted(np.sort(score[y]), cuts, side="right")
    kept = (~y).sum() - np.searchsorted(np.sort(score[~y]), cuts, side="right")
    return float(np.round(cuts[np.argmin(cost_missed * missed + cost_false * kept)], 9))


def _checked(triplets):
    """Return triplets of the right shape and finite."""
    x = np.asarray(triplets)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"expected triplets of numbers, got {x.dtype}")
    x = x.astype(np.result_type(x.dtype.newbyteorder("="), np.float32), copy=False)
    wanted = (stamps.SIZE, stamps.SIZE, len(stamps.PLANES))
    if x.ndim != 4 or x.shape[1:] != wanted:
        raise ValueError(f"expected triplets of shape (n, 63, 63, 3), got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("triplets with pixels that are not finite; make them by stamps.triplet")
    return x


def _raw(triplets, normalization):
    """Return raw triplets; raise ValueError if some are normalized, one way or another."""
    if normalization not in stamps.NORMALIZATIONS:
        known = ", ".join(stamps.NORMALIZATIONS)
        raise ValueError(f"no normalization {normalization!r}; choose from {known}")
    x = _checked(triplets)
    if how := "".join(np.unique(_normalized(x))[-1:]):
        raise ValueError(
            f"triplets that are already normalized {how}; the model normalizes raw ones "
            f"{normalization} itself"
        )
    return x


def _normalized(x):
    """Return how each triplet is normalized already, "" if it is raw, shape (n,)."""
    found = np.full(len(x), "", object)
    small = np.flatnonzero(np.abs(x).max(axis=(1, 2, 3), initial=0) <= 1.001)
    small = small[x[small].any(axis=(1, 2, 3))]
    for how in stamps.NORMALIZATIONS:
        again = stamps.normalize(x[small], how)
        same = np.isclose(again, x[small], rtol=1e-3, atol=1e-6).all(axis=(1, 2, 3))
        found[small[same]] = how
    return found


def _cross_entropy(y, said, weights):
    said = np.clip(said.astype(float), 1e-7, 1 - 1e-7)
    each = -(y * np.log(said) + (1 - y) * np.log(1 - said))
    return float(np.average(each, weights=weights))


def _judge(trained, x):
    """Return the output for every row of ``x``, shape (n,); nothing is compiled."""
    parts = [np.asarray(trained(x[k : k + BATCH], training=False)) for k in range(0, len(x), BATCH)]
    return np.concatenate(parts)[:, 0]


def _scorer(trained):
    """Return a function of normalized triplets of 60x60 pixels: the network, run by TF Lite."""
    import tensorflow as tf

    twin = network(size=_SEEN)
    twin.set_weights(trained.get_weights())
    with networks.hushed(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # that TensorFlow will drop it for a package of its own
        path = Path(folder, "network.tflite")
        twin.export(path, format="litert", verbose=False)
        options = {"model_content": path.read_bytes(), "num_threads": os.cpu_count()}
        interpreter = tf.lite.Interpreter(**options)
        interpreter.allocate_tensors()
    first, last = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    one_at_a_time = threading.Lock()

    def score(x):
        with one_at_a_time:
            interpreter.resize_tensor_input(first["index"], x.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(first["index"], x)
            interpreter.invoke()
            return interpreter.get_tensor(last["index"])[:, 0]

    return score
