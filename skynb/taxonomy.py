"""The tree of variable objects: classes, their parents, and what each survey calls them.

The branches follow the variability tree of Eyer & Mowlavi (2008, J. Phys. Conf. Ser. 118, 012010),
the abbreviations the General Catalogue of Variable Stars (Samus et al. 2017, Astron. Rep. 61, 80)
where it has one.
"""

from difflib import get_close_matches

ROOT = "variable"

TREE = {
    "extrinsic": {
        "eclipsing": {
            "EA": "detached binary (Algol)",
            "EB": "semi-detached binary (beta Lyrae)",
            "EW": "contact binary (W Ursae Majoris)",
            "EL CVn": "main-sequence star and pre-helium white dwarf",
            "PCEB": "post-common-envelope binary: white dwarf or hot subdwarf and red dwarf",
            "DWD": "two white dwarfs",
        },
        "rotating": {
            "ELL": "tidally distorted star, no eclipse",
            "RS CVn": "spotted star in a close binary",
            "BY Dra": "spotted dwarf",
            "ACV": "chemically peculiar magnetic star (alpha2 Canum Venaticorum)",
            "ROT": "rotation, kind unknown",
            "spider": "star heated by its pulsar (redback, black widow)",
            "NSWD": "neutron star and white dwarf",
        },
    },
    "intrinsic": {
        "pulsating": {
            "RRab": "RR Lyrae, fundamental mode",
            "RRc": "RR Lyrae, first overtone",
            "RRd": "RR Lyrae, both modes",
            "Blazhko": "RR Lyrae, modulated",
            "DCEP": "classical Cepheid",
            "DCEP(B)": "classical Cepheid, several modes",
            "T2CEP": "type II Cepheid",
            "ACEP": "anomalous Cepheid",
            "RV Tau": "RV Tauri star",
            "DSCT": "delta Scuti star",
            "HADS": "high-amplitude delta Scuti star",
            "LADS": "low-amplitude delta Scuti star",
            "SX Phe": "SX Phoenicis star, metal-poor",
            "GDOR": "gamma Doradus star",
            "BCEP": "beta Cephei star",
            "Be": "pulsating Be star",
            "MIRA": "Mira, large-amplitude long-period giant",
            "SRV": "semi-regular giant",
            "LPV": "long-period variable, kind unknown",
            "LSP": "giant with a long secondary period",
            "SARG A": "small-amplitude red giant, type A",
            "SARG B": "small-amplitude red giant, type B",
            "RSG": "red supergiant",
            "ZZ": "pulsating white dwarf",
            "sdBV": "pulsating hot subdwarf",
            "BLAP": "blue large-amplitude pulsator",
            "hump": "periodic star with a hump in its light curve (Catalina)",
        },
        "eruptive": {
            "flare": "flaring dwarf (UV Ceti)",
            "RCB": "R Coronae Borealis star",
            "CTTS": "classical T Tauri star",
            "WTTS": "weak-lined T Tauri star",
            "HAeBe": "Herbig Ae/Be star",
            "SDOR": "S Doradus star, luminous blue variable",
        },
        "cataclysmic": {
            "DN": "dwarf nova",
            "CV": "cataclysmic variable, kind unknown",
        },
        "stochastic": {
            "QSO": "quasar",
            "AGN": "active galactic nucleus",
        },
        "transient": {
            "SN Ia": "thermonuclear supernova",
            "SN": "supernova, kind unknown",
        },
    },
}

# The classes of Mahabal et al. (2017, arXiv:1709.06257).
SEVEN = ("EW", "EA", "RRab", "RRc", "RRd", "RS CVn", "LPV")

# Names that differ from ours by more than capitals, spaces and punctuation.
SYNONYMS = {
    "crts": {"beta_lyrae": "EB", "Cep_II": "T2CEP"},
    "asas": {
        "Beta_Cephei": "BCEP", "Beta_Lyrae": "EB", "Beta_Persei": "EA", "ChemPeculiar": "ACV",
        "ClassT_Tauri": "CTTS", "Classical_Cepheid": "DCEP", "Delta_Scuti": "DSCT",
        "Ellipsoidal": "ELL", "Herbig_AEBE": "HAeBe", "MultiMode_Cepheid": "DCEP(B)",
        "PopII_Cepheid": "T2CEP", "Pulsating_Be": "Be", "RR_Lyrae_DM": "RRd", "RR_Lyrae_FM": "RRab",
        "RR_Lyrae_FO": "RRc", "RV_Tauri": "RV Tau", "S_Doradus": "SDOR", "Semireg_PV": "SRV",
        "W_Ursae_Maj": "EW", "Weakline_T_Tauri": "WTTS",
    },
    "ztf": {
        "AP": "ACV", "BetaLyr": "EB", "Blackwidow pulsar": "spider", "Blazkho": "Blazhko",
        "Cepheid": "DCEP", "CEPII": "T2CEP", "DAB": "ZZ", "DAV": "ZZ", "DeltaScuti": "DSCT",
        "ELMV": "ZZ", "MSMS EA": "EA", "PNNV": "ZZ", "Redback pulsar": "spider", "Rotator": "ROT",
        "RRlyr ab": "RRab", "RRlyr c": "RRc", "RRlyr d": "RRd", "WUma": "EW",
        "eclipsing WD+RD": "PCEB", "eclipsing dWD": "DWD", "eclipsing sdB+RD": "PCEB",
        "hotBLAP": "BLAP",
    },
    "simulated": {},
}  # fmt: skip


def _paths(tree, above=()):
    for name, below in tree.items():
        yield (*above, name)
        if isinstance(below, dict):
            yield from _paths(below, (*above, name))


PATHS = {names[-1]: names for names in _paths({ROOT: TREE})}
CLASSES = tuple(name for name, names in PATHS.items() if len(names) == 4)


def _key(label):
    return "".join(letter for letter in str(label).casefold() if letter.isalnum())


def harmonize(labels, survey="any"):
    """Return the class names of this package for a survey's labels, as a list of str.

    Capitals, spaces and punctuation do not matter, and our own names are always understood.

    Parameters
    ----------
    labels : iterable of str
        The survey's labels.
    survey : str
        ``crts``, ``asas``, ``ztf``, ``simulated``, or ``any`` for all their names together.

    Raises
    ------
    ValueError
        For an unknown survey, and for an unknown label (the nearest known ones are listed).

    Examples
    --------
    >>> harmonize(["beta_lyrae", "RS_CVn"], "crts")
    ['EB', 'RS CVn']
    """
    if survey != "any" and survey not in SYNONYMS:
        raise ValueError(f"unknown survey {survey!r}; choose one of {['any', *SYNONYMS]}")
    names = {name: name for name in CLASSES}
    for each in SYNONYMS if survey == "any" else [survey]:
        names |= SYNONYMS[each]
    known = {_key(name): cls for name, cls in names.items()}
    labels = list(labels)
    for row, label in enumerate(labels, start=1):
        if _key(label) not in known:
            said = f"unknown {survey} label {label!r} in row {row}"
            raise ValueError(f"{said}; nearest known: {_nearest(label, names)}")
    return [known[_key(label)] for label in labels]


def _nearest(name, names):
    keys = {_key(known): known for known in names}
    return [keys[key] for key in get_close_matches(_key(name), keys, n=3, cutoff=0)]


def path(cls):
    """Return the names from the root of the tree down to ``cls``, as a list of str.

    Examples
    --------
    >>> path("EW")
    ['variable', 'extrinsic', 'eclipsing', 'EW']
    """
    if cls not in PATHS:
        raise ValueError(f"unknown class {cls!r}; nearest known: {_nearest(cls, PATHS)}")
    return list(PATHS[cls])


def parent(cls):
    """Return the branch on which ``cls`` sits, None for the root.

    Examples
    --------
    >>> parent("RRab")
    'pulsating'
    """
    return [None, *path(cls)][-2]
