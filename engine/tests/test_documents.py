"""Errors of params.yaml: each names the line, the key and the nearest right one."""

from pathlib import Path

import pytest

from mergeline.errors import ParamsError
from mergeline.params import read_params

PARAMS = (Path(__file__).parents[2] / "params.yaml").read_text()


def broken(tmp_path, old, new):
    assert old in PARAMS
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace(old, new, 1))
    line = PARAMS[: PARAMS.index(old)].count("\n") + 1
    with pytest.raises(ParamsError) as caught:
        read_params(path)
    return str(caught.value), line


class TestParamsInTheRepository:
    def test_params_in_the_repository_are_valid(self):
        assert read_params(Path(__file__).parents[2] / "params.yaml").name == "flights"

    def test_every_key_has_a_comment_on_its_line_or_the_one_that_follows(self):
        lines = [line for line in PARAMS.splitlines() if ":" in line.split("#")[0]]
        bare = [line for line in lines if "#" not in line and line.split("#")[0].rstrip()[-1] != ":"]
        assert [line.strip() for line in bare if not line.strip().startswith("[")] == []


class TestBrokenParams:
    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("holdout: 1", "holdot: 1", "unknown key `split.holdot`"),
            ("holdout: 1", "holdot: 1", "did you mean `holdout`?"),
            ("  margin: 0.005", "  margin: -1", "`gate.margin`: input should be greater than 0 (found -1)"),
            ("  seed: 7", "  seed: seven", "`model.seed`: input should be a valid integer"),
            ("task: binary", "task: clustering", "`task`: input should be 'binary', 'multiclass' or 'regression'"),
            ("metric: roc_auc ", "metric: auc ", "`gate.metric`: no metric 'auc' for a binary task"),
            ("metadata: [] ", "metadata: [late] ", "`data.metadata`: column 'late' has two roles"),
            (
                "factory: flights.model:pipeline",
                "factory: flights.model",
                "`model.factory`: string should match pattern",
            ),
            ('policy: "off"', "policy: maybe", "`release.signing.policy`: input should be 'off' or 'required'"),
            ("leak_score: 0.95", "leak_score: 95", "`validation.leak_score`: input should be less than or equal to 1"),
            ("max_records: 1000", "max_records: 0", "`serve.max_records`"),
        ],
    )
    def test_message_names_line_key_and_rule(self, tmp_path, old, new, says):
        message, line = broken(tmp_path, old, new)
        assert f"params.yaml:{line}:" in message
        assert says in message

    def test_a_missing_key_is_named(self, tmp_path):
        message, _ = broken(tmp_path, "  target: late ", "  # ")
        assert "`data.target` is missing" in message

    def test_a_repeated_key_is_refused(self, tmp_path):
        message, _ = broken(tmp_path, "task: binary", "task: binary\ntask: regression")
        assert 'duplicate key "task"' in message

    def test_broken_yaml_names_its_line(self, tmp_path):
        message, line = broken(tmp_path, "task: binary", "task: [binary")
        assert "not valid YAML" in message
        assert f"params.yaml:{line + 2}" in message

    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "params.yaml").write_text("")
        with pytest.raises(ParamsError, match="expected keys and values"):
            read_params(tmp_path / "params.yaml")

    def test_a_missing_file_says_how_to_get_it_back(self, tmp_path):
        with pytest.raises(ParamsError, match="git checkout"):
            read_params(tmp_path / "params.yaml")

    def test_bytes_that_are_no_text_are_refused(self, tmp_path):
        (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ParamsError, match="cannot be read"):
            read_params(tmp_path / "params.yaml")

    def test_every_problem_is_told_at_once(self, tmp_path):
        text = PARAMS.replace("holdout: 1", "holdout: 0", 1).replace("  seed: 7", "  seed: x", 1)
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(ParamsError) as caught:
            read_params(tmp_path / "params.yaml")
        assert "split.holdout" in str(caught.value)
        assert "model.seed" in str(caught.value)


class TestNumbers:
    def test_scientific_notation_is_a_number(self, tmp_path):
        (tmp_path / "params.yaml").write_text(PARAMS.replace("learning_rate: 0.1", "learning_rate: 1e-3"))
        assert read_params(tmp_path / "params.yaml").model.arguments["learning_rate"] == 0.001

    def test_a_section_that_dvc_watches_must_be_there(self, tmp_path):
        text = PARAMS.replace("\nvalidation:", "\nvalidatoin:")
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(ParamsError, match="did you mean `validation`"):
            read_params(tmp_path / "params.yaml")
