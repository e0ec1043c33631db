"""A model that is added to a repository."""

import pytest

from mergeline.errors import DataError, ToolError
from mergeline.template.new import ANSWERS_FILE, read_answers, require_column
from mergeline.template.new_model import new_model
from toy_data import orders


def test_where_dvc_refuses_the_data_no_file_of_the_model_is_left(tmp_path):
    (tmp_path / "pyproject.toml").write_text('packages = ["src/flights"]\n')
    with pytest.raises(ToolError, match="not inside of a DVC repository"):
        new_model(tmp_path, "flowers", "iris", file=None, target="", say=lambda _: None)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["pyproject.toml"]
    assert (tmp_path / "pyproject.toml").read_text() == 'packages = ["src/flights"]\n'


def test_ctrl_c_leaves_nothing_of_it_and_the_same_command_begins_again(tmp_path):
    (tmp_path / "pyproject.toml").write_text('packages = ["src/flights"]\n')
    for _ in range(2):

        def interrupt(step):
            if "store" in step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            new_model(tmp_path, "flowers", "iris", file=None, target="", say=interrupt)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["pyproject.toml"]


@pytest.fixture(params=["orders.csv", "orders.parquet"])
def file(request, tmp_path):
    path, frame = tmp_path / request.param, orders(rows=5)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def test_a_target_that_the_file_does_not_have_is_told_before_anything_is_made(tmp_path, file):
    steps = []
    with pytest.raises(DataError, match="no column 'retuned'") as told:
        new_model(tmp_path, "orders", "blank", file=file, target="retuned", say=steps.append)
    assert "--target=returned" in told.value.hint
    assert not steps
    assert list(tmp_path.iterdir()) == [file]


def test_a_name_with_signs_is_told_as_a_shell_takes_it(tmp_path):
    (tmp_path / "orders.csv").write_text("Good?,n\nyes,1\n")
    with pytest.raises(DataError) as told:
        require_column(tmp_path / "orders.csv", "Good??", "--data target")
    assert told.value.hint == "did you mean --data target='Good?'?"


@pytest.mark.parametrize("file", ["orders.csv"], indirect=True)
def test_a_new_repository_s_target_is_checked_with_the_other_answers(tmp_path, file):
    (tmp_path / ANSWERS_FILE).write_text("name: orders\nrecipe: blank\n")
    with pytest.raises(DataError, match="no column 'zzz'") as told:
        read_answers(tmp_path, {"file": str(file), "target": "zzz"})
    assert "one of: order, placed" in told.value.hint
