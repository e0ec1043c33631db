"""A model that is added to a repository."""

import pytest

from mergeline.errors import ToolError
from mergeline.template.new_model import new_model


def test_where_dvc_refuses_the_data_no_file_of_the_model_is_left(tmp_path):
    (tmp_path / "pyproject.toml").write_text('packages = ["src/flights"]\n')
    with pytest.raises(ToolError, match="not inside of a DVC repository"):
        new_model(tmp_path, "flowers", "iris", file=None, target="", say=lambda _: None)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["pyproject.toml"]
    assert (tmp_path / "pyproject.toml").read_text() == 'packages = ["src/flights"]\n'
