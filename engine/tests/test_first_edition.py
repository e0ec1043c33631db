"""A repository that was made from the first edition is read as it is: what a team holds is a public format."""

from pathlib import Path

from mergeline.documents import parse
from mergeline.manifest.schema import Manifest
from mergeline.params import read_params
from mergeline.store.dvc_lock import locked_model

FOLDER = Path(__file__).parent / "first_edition"


def test_its_manifest_names_the_model_that_it_serves():
    spec = parse((FOLDER / "manifest.yaml").read_text(), Manifest, "manifest.yaml").spec
    assert spec.stable.version == 1
    assert spec.stable.digest.startswith("sha256:f2f86d2a6c74")
    assert spec.holds == ()


def test_its_params_are_valid():
    params = read_params(FOLDER / "params.yaml")
    assert (params.name, params.gate.metric, params.model.arguments["max_iter"]) == ("flights", "roc_auc", 30)


def test_its_lock_names_the_model_that_its_manifest_names():
    spec = parse((FOLDER / "manifest.yaml").read_text(), Manifest, "manifest.yaml").spec
    assert locked_model(FOLDER) == spec.stable.source
