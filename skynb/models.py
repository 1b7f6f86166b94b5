"""What every trained thing shares: a recipe of how its data was made, and a file to keep it in.

A ``model.skynb`` is one zip: ``recipe.json``, ``card.json``, ``parts.json`` (names and plain
values), arrays as ``.npy`` and scikit-learn estimators as ``.skops``. Nothing in it is pickled.
On reading, an estimator may hold only the types of `ALLOWED`, and its trees only nodes that point
forwards and at features there are; so a stranger's file is refused, or predicts, and runs no code.
"""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from itertools import chain
from pathlib import Path

import numpy as np

from skynb import __version__, lightcurves

FORMAT = 1
"""Layout of the file; raise it when older ones can no longer be read."""

MAX_BYTES, MAX_JSON = 2**31, 2**25
"""Largest content, unpacked, that is read: of a file, and of a member that is JSON."""

PACKAGES = ("scikit-learn", "light-curve")
"""Packages whose numbers a model depends on: their major and minor version must be the same."""

REASONS = {"n_obs": "too few points", "span": "time span", "median_mag": "magnitude range"}
"""What is known of the training objects -> the flag of an object outside its range."""

_NODES = {
    *("CachedNode", "DTypeNode", "DictNode", "JsonNode", "ListNode", "LossNode", "NdArrayNode"),
    *("ObjectNode", "RandomGeneratorNode", "TreeNode", "TupleNode", "TypeNode"),
}
_TYPES = """
builtins: bool dict float int list slice str tuple
numpy: bool bool_ dtype float32 float64 int32 int64 ndarray uint32 uint64
numpy.random._generator: Generator
sklearn._loss._loss: CyHalfBinomialLoss CyHalfMultinomialLoss
sklearn._loss.link: Interval LogitLink MultinomialLogit
sklearn._loss.loss: HalfBinomialLoss HalfMultinomialLoss
sklearn.decomposition._pca: PCA
sklearn.ensemble._forest: ExtraTreesClassifier RandomForestClassifier
sklearn.ensemble._hist_gradient_boosting.binning: _BinMapper
sklearn.ensemble._hist_gradient_boosting.gradient_boosting: HistGradientBoostingClassifier
sklearn.ensemble._hist_gradient_boosting.predictor: TreePredictor
sklearn.ensemble._iforest: IsolationForest
sklearn.preprocessing._label: LabelEncoder
sklearn.tree._classes: DecisionTreeClassifier ExtraTreeClassifier ExtraTreeRegressor
sklearn.tree._tree: Tree
"""
ALLOWED = frozenset(
    f"{module}.{name}"
    for module, names in (line.split(": ") for line in _TYPES.strip().splitlines())
    for name in names.split()
)
"""Every type that an estimator in a model may hold."""


class ModelError(ValueError):
    """A file that is no model, a damaged one, or one made for other software."""


@dataclass(frozen=True)
class Recipe:
    """How a model's data was made, and what it has seen.

    Attributes
    ----------
    kind : str
        The learner, by name; ``options`` and ``seed`` are its parameters.
    classes, bands : tuple of str
    features : tuple of str, optional
        Columns of `skynb.features.extract`, in the learner's order.
    grid : dict, optional
        Of the dm-dt images, with their normalization.
    period_search : dict, optional
        Options of `skynb.periods.search`.
    known : dict
        Lowest and highest ``n_obs``, ``span`` [day] and ``median_mag`` of the training objects.
    training : dict
        ``n_objects`` and ``sha256`` of the training light curves and labels.
    versions : dict
        Package -> version.
    """

    kind: str
    options: dict
    seed: int
    classes: tuple
    bands: tuple
    features: tuple | None
    grid: dict | None
    period_search: dict | None
    known: dict
    training: dict
    versions: dict

    def __post_init__(self):
        for name in ("classes", "bands", "features"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else tuple(given))

    def check(self, *, bands=None, grid=None, features=None):
        """Raise ValueError if data of these bands, grid or features is not what the model knows."""
        if bands is not None and not set(bands) <= set(self.bands):
            raise ValueError(
                f"light curves in band {', '.join(bands)}, but the model knows "
                f"{', '.join(self.bands)}; use lightcurves.select_band, or another model"
            )
        if grid is not None and grid.to_dict() != self.grid:
            raise ValueError(f"images on another grid than the model's, {grid}; make them again")
        missing = [] if features is None else [f for f in self.features if f not in features]
        if missing:
            raise ValueError(
                f"{len(missing)} of the model's {len(self.features)} features are missing, the "
                f"first is {missing[0]!r}; make them with features.extract and a period search"
            )

    def flags(self, lcs):
        """Return why each object is outside what the model knows, "" if it is not, as a list."""
        about, flags = lightcurves.summary(lcs), [""] * len(lcs)
        for name, (low, high) in self.known.items():
            values = about[name].to_numpy()
            known = f"{low:.6g} to {high:.6g}"
            if name == "n_obs":
                known, high = f"{low:.6g} and more", np.inf
            for k in np.flatnonzero((values < low) | (values > high)):
                said = f"{REASONS[name]} ({values[k]:.6g}, the model knows {known})"
                flags[k] = f"{flags[k]}; {said}" if flags[k] else said
        return flags


def known(lcs):
    """Return `Recipe.known` of a table."""
    about = lightcurves.summary(lcs)
    return {name: [float(about[name].min()), float(about[name].max())] for name in REASONS}


def fingerprint(lcs, y):
    """Return ``n_objects`` and the ``sha256`` of a table's observations, ids and labels."""
    arrays = lightcurves.arrays(lcs)
    digest = hashlib.sha256()
    for column in (arrays.offsets, arrays.mjd, arrays.mag, arrays.magerr):
        digest.update(np.ascontiguousarray(column).tobytes())
    for column in (arrays.band.to_pylist(), lcs.index.tolist(), np.asarray(y).tolist()):
        digest.update(json.dumps(column).encode())
    return {"n_objects": len(lcs), "sha256": digest.hexdigest()}


def versions():
    """Return the versions that a model depends on."""
    return {"skynb": __version__} | {name: metadata.version(name) for name in PACKAGES}


def save(parts, recipe, card, path):
    """Return ``path`` after writing a model there, whole or not at all.

    Parameters
    ----------
    parts : dict
        What the learner has learnt: arrays, scikit-learn estimators, what JSON can hold, and
        lists and dicts of these.
    recipe : Recipe
    card : dict
        For people: what it was trained on, how good it is, whom to cite.
    """
    path = Path(path).expanduser()
    with (
        lightcurves.whole(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        texts = {"recipe": asdict(recipe) | {"format": FORMAT}, "card": card}
        texts["parts"] = _encode(parts, archive)
        for name, text in texts.items():
            archive.writestr(f"{name}.json", json.dumps(text, indent=1))
        archive.comment = _seal(archive)
    return path


def _seal(archive):
    """Return the check sum of all members, kept as the comment of the zip."""
    members = sorted((each.filename, each.CRC, each.file_size) for each in archive.infolist())
    return hashlib.sha256(json.dumps(members).encode()).hexdigest().encode()


def _encode(value, archive):
    if isinstance(value, np.ndarray):
        buffer, name = io.BytesIO(), f"{len(archive.namelist())}.npy"
        np.save(buffer, value, allow_pickle=False)
        archive.writestr(name, buffer.getbuffer())
        return {"array": name}
    if hasattr(value, "get_params") and type(value).__module__.startswith("sklearn."):
        import skops.io

        name = f"{len(archive.namelist())}.skops"
        archive.writestr(name, skops.io.dumps(value))
        return {"estimator": name}
    if isinstance(value, dict):
        return {"dict": {str(key): _encode(each, archive) for key, each in value.items()}}
    if isinstance(value, list | tuple):
        return {"list": [_encode(each, archive) for each in value]}
    return {"value": value}


def load(path):
    """Return the parts, recipe and card of a model; nothing that the file holds is run.

    Raises
    ------
    FileNotFoundError, ModelError
        No file; a damaged one, types that are not `ALLOWED`, another format or version.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no model {path}; check the name")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive)
            texts = {
                name: json.loads(archive.read(f"{name}.json"))
                for name in ("recipe", "card", "parts")
            }
            recipe = _recipe(texts["recipe"])
            return _decode(texts["parts"], archive), recipe, texts["card"]
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except Exception as error:  # whatever a stranger's file may cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path} is not a model, or damaged ({reason}); get it again") from None


def _check_members(archive):
    names = archive.namelist()
    odd = [n for n in names if not re.fullmatch(r"(recipe|card|parts)\.json|\d+\.(npy|skops)", n)]
    if odd or len(set(names)) < len(names):
        raise ModelError(f"it holds {odd[0] if odd else 'a name twice'!r}, as no model does")
    _check_size(archive)
    if archive.comment != _seal(archive):
        raise ValueError("it was changed after it was written")


def _check_size(archive):
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    texts = [size for name, size in sizes.items() if name.endswith(".json")]
    if sum(sizes.values()) > MAX_BYTES or max(texts, default=0) > MAX_JSON:
        raise ModelError(f"it unpacks to more than {MAX_BYTES} bytes, as no model does")


def _recipe(saved):
    if saved.pop("format", None) != FORMAT:
        raise ModelError(f"it has another format than {FORMAT}, from another skynb; train it anew")
    if set(saved) != {field.name for field in fields(Recipe)}:
        raise ModelError("its recipe lacks an entry or has one more; train it anew")
    if odd := _odd(saved):
        raise ModelError(f"its recipe has {odd[0]} {saved[odd[0]]!r:.80}; train it anew")
    for name, here in versions().items():
        made = str(saved["versions"].get(name))
        if made.split(".")[:2] != here.split(".")[:2]:
            raise ModelError(f"it was made with {name} {made}, here is {here}; train it anew")
    return Recipe(**saved)


def _odd(saved):
    """Return the entries of a recipe that are not what `Recipe` says."""

    def texts(value):
        known = isinstance(value, list) and len({*map(str, value)}) == len(value) > 0
        return known and all(isinstance(each, str) for each in value)

    def ordered(value):
        numbers = isinstance(value, list) and all(type(each) in (int, float) for each in value)
        return numbers and len(value) == 2 and value[0] <= value[1]

    highest = (saved["period_search"] or {"max_frequency": 1.0}).get("max_frequency")
    searched = (saved["period_search"] is None) == (saved["features"] is None)
    sound = {
        "kind": isinstance(saved["kind"], str),
        "options": isinstance(saved["options"], dict),
        "seed": type(saved["seed"]) is int and saved["seed"] >= 0,
        "classes": texts(saved["classes"]),
        "bands": texts(saved["bands"]),
        "features": saved["features"] is None or texts(saved["features"]),
        "period_search": searched and type(highest) in (int, float) and 0 <= highest < 1e4,
        "known": set(saved["known"]) == set(REASONS) and all(map(ordered, saved["known"].values())),
        "versions": isinstance(saved["versions"], dict),
    }
    return [name for name, each in sound.items() if not each]


def _decode(saved, archive):
    ((kind, value),) = saved.items()
    if kind == "array":
        return np.lib.format.read_array(io.BytesIO(archive.read(value)), allow_pickle=False)
    if kind == "estimator":
        return _estimator(archive.read(value))
    if kind == "dict":
        return {key: _decode(each, archive) for key, each in value.items()}
    if kind == "list":
        return [_decode(each, archive) for each in value]
    return {"value": value}[kind]


def _estimator(data):
    """Return the estimator in a skops file that holds only allowed types and sound trees."""
    import skops.io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _check_size(archive)
        unknown = _types(json.loads(archive.read("schema.json"))) - ALLOWED
    if unknown:
        raise ModelError(f"it holds the type {sorted(unknown)[0]}, not one of models.ALLOWED")
    estimator = skops.io.loads(data, trusted=sorted(ALLOWED))
    _check_trees(estimator)
    return estimator


def _types(node):
    """Return every type and unknown kind of node in the schema of a skops file."""
    found = set()
    if isinstance(node, dict):
        if "__loader__" in node:
            known = node["__loader__"] in _NODES
            found.add(f"{node['__module__']}.{node['__class__']}" if known else node["__loader__"])
        node = list(node.values())
    return found.union(*map(_types, node)) if isinstance(node, list) else found


def _check_trees(estimator):
    """Raise ModelError unless every tree can be walked without leaving it.

    scikit-learn follows the nodes of a tree without looking at their bounds.
    """
    n_features = getattr(estimator, "n_features_in_", 0)
    sound = [getattr(estimator, "_max_features", n_features) == n_features]
    special = ("is_categorical_", "_preprocessor")
    sound += [getattr(estimator, name, None) is None for name in special]
    several = getattr(estimator, "estimators_", [estimator])
    trees = [each.tree_ for each in several if hasattr(each, "tree_")]
    sound += [0 < tree.node_count <= tree.capacity for tree in trees]
    if all(sound):
        walks = [
            (t.children_left, t.children_right, t.feature, t.children_left != -1) for t in trees
        ]
        for nodes in (each.nodes for each in chain(*getattr(estimator, "_predictors", ()))):
            sound.append(len(nodes) > 0 and not nodes["is_categorical"].any())
            pointers = [nodes[name] for name in ("left", "right", "feature_idx")]
            walks.append((*pointers, nodes["is_leaf"] == 0))
        for left, right, feature, inner in walks:
            rows = np.flatnonzero(inner)
            children = np.stack([left[rows], right[rows]]).astype(np.int64)
            sound.append(np.all((children > rows) & (children < len(left))))
            sound.append(np.all((feature[rows] >= 0) & (feature[rows] < n_features)))
    if not all(sound):
        raise ModelError("a tree in it points outside itself; do not use it")
