import tarfile
from pathlib import PurePath

import pytest

from skynb import taxonomy

CRTS = ["EA", "EW", "RRab", "RRc", "RRd", "RS_CVn", "LPV", "beta_lyrae"]
CRTS += ["HADS", "ELL", "Cep_II", "PCEB", "Blazhko", "ACEP", "Hump", "LADS"]
SIMULATED = (*taxonomy.SEVEN, "flare", "DN", "SN", "QSO")


def test_the_path_of_a_class_runs_from_the_root_to_it():
    assert taxonomy.path("EW") == ["variable", "extrinsic", "eclipsing", "EW"]
    assert taxonomy.path("QSO") == ["variable", "intrinsic", "stochastic", "QSO"]
    assert taxonomy.path("eclipsing") == ["variable", "extrinsic", "eclipsing"]
    assert taxonomy.path("variable") == ["variable"]


def test_parents():
    assert taxonomy.parent("RS CVn") == "rotating"
    assert taxonomy.parent("RRab") == "pulsating"
    assert taxonomy.parent("flare") == "eruptive"
    assert taxonomy.parent("DN") == "cataclysmic"
    assert taxonomy.parent("SN Ia") == "transient"
    assert taxonomy.parent("pulsating") == "intrinsic"
    assert taxonomy.parent("variable") is None


def test_every_class_has_a_description_and_one_place():
    leaves = [
        (cls, text)
        for kind in taxonomy.TREE.values()
        for branch in kind.values()
        for cls, text in branch.items()
    ]
    assert tuple(cls for cls, _ in leaves) == taxonomy.CLASSES
    assert len(set(taxonomy.CLASSES)) == len(taxonomy.CLASSES)
    assert all(isinstance(text, str) and text for _, text in leaves)
    assert all(taxonomy.path(cls)[0] == "variable" for cls in taxonomy.CLASSES)


def test_the_branches_are_those_of_the_variability_tree():
    assert list(taxonomy.TREE) == ["extrinsic", "intrinsic"]
    assert list(taxonomy.TREE["extrinsic"]) == ["eclipsing", "rotating"]
    assert list(taxonomy.TREE["intrinsic"]) == [
        "pulsating",
        "eruptive",
        "cataclysmic",
        "stochastic",
        "transient",
    ]


def test_the_seven_and_the_simulated_are_classes():
    assert len(taxonomy.SEVEN) == 7
    assert set(SIMULATED) <= set(taxonomy.CLASSES)
    assert taxonomy.harmonize(SIMULATED, "simulated") == list(SIMULATED)


def test_survey_names_become_ours():
    assert taxonomy.harmonize(CRTS, "crts")[5:9] == ["RS CVn", "LPV", "EB", "HADS"]
    asas = ["RR_Lyrae_FM", "Beta_Persei", "Mira", "Semireg_PV", "SARG_A"]
    assert taxonomy.harmonize(asas, "asas") == ["RRab", "EA", "MIRA", "SRV", "SARG A"]
    ztf = ["RRlyr_ab", "RRlyr ab", "Blazkho", "ELCVn", "MSMS_EA"]
    assert taxonomy.harmonize(ztf, "ztf") == ["RRab", "RRab", "Blazhko", "EL CVn", "EA"]


@pytest.mark.parametrize("survey", taxonomy.SYNONYMS)
def test_harmonizing_twice_changes_nothing(survey):
    once = taxonomy.harmonize(taxonomy.SYNONYMS[survey], survey)
    assert taxonomy.harmonize(once, survey) == once
    assert taxonomy.harmonize(once) == once
    assert set(once) <= set(taxonomy.CLASSES)


def test_no_two_names_of_one_survey_are_read_alike():
    for survey, synonyms in taxonomy.SYNONYMS.items():
        names = [*synonyms, *taxonomy.CLASSES]
        keys = {taxonomy._key(name) for name in names}
        assert len(keys) == len(names), survey


def test_no_two_surveys_mean_different_things_by_one_name():
    meanings = {}
    for synonyms in taxonomy.SYNONYMS.values():
        for name, cls in synonyms.items():
            assert meanings.setdefault(taxonomy._key(name), cls) == cls


def test_unknown_names_are_refused_with_the_nearest_known():
    with pytest.raises(ValueError, match=r"unknown asas label 'RR_Lyr' in row 2; .*'RR_Lyrae_FM'"):
        taxonomy.harmonize(["Mira", "RR_Lyr"], "asas")
    with pytest.raises(ValueError, match=r"unknown survey 'kepler'; choose one of .*'crts'"):
        taxonomy.harmonize(["EA"], "kepler")
    with pytest.raises(ValueError, match=r"unknown class 'RRLyrab'; nearest known: .*'RRab'"):
        taxonomy.path("RRLyrab")


@pytest.mark.real
def test_every_crts_label_is_known(mirror):
    (archive,) = (mirror / "kvmu/lightcurve-classification/archive").glob("*.tar.gz")
    with tarfile.open(archive) as members:
        stems = [PurePath(name).stem for name in members.getnames() if name.endswith(".csv")]
    labels = {stem.split("-", 1)[1] for stem in stems}
    assert labels == set(CRTS)
    assert set(taxonomy.SEVEN) < set(taxonomy.harmonize(labels, "crts"))


@pytest.mark.real
def test_every_asas_label_is_known(mirror):
    (table,) = mirror.glob("cesium-ml/cesium-data/*/asas_training/asas_training_set_classes.dat")
    labels = {line.split(",")[1] for line in table.read_text().split()[1:]}
    assert len(labels) == 28
    assert len(set(taxonomy.harmonize(labels, "asas"))) == 28


@pytest.mark.real
def test_every_ztf_example_is_known(mirror):
    (home,) = mirror.glob("mcoughlin/ztfperiodic/*")
    workflows = [path.stem for path in (home / "workflows").glob("*.json")]
    lines = (home / "catalogs/labeling_guide.csv").read_text().strip().splitlines()[1:]
    guide = [line.split(",")[0] for line in lines if line.strip()]
    assert len(workflows) == 14
    assert len(guide) > 30
    assert taxonomy.harmonize(workflows, "ztf")
    assert taxonomy.harmonize(guide, "ztf")
