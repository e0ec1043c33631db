"""What DVC is told to push of a home."""

import pytest

from mergeline.release.push import _own


@pytest.fixture
def root(tmp_path):
    (tmp_path / ".dvc").mkdir()
    for name in ("params.yaml", "dvc.yaml", "data.dvc"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_of_the_only_model_it_is_told_no_names(root):
    assert _own(root) == []


def test_of_several_the_one_at_the_root_names_its_files_and_not_dvc_s_own_folder(root):
    for name in ("iris", "fraud"):
        (root / "models" / name).mkdir(parents=True)
        (root / "models" / name / "params.yaml").write_text("")
    assert _own(root) == ["dvc.yaml", "data.dvc"]
