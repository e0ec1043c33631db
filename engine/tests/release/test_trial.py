"""Trying a pipeline on a sample, and loading the champion in a notebook."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import yaml
from release_examples import stored_release

import mergeline
from mergeline.errors import CodeError, ModelError
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.release import trial
from toy_data import orders, toy_params, train_toy, write_months
from toy_journal import write_journal

TEMPLATE = Path(__file__).parents[3]


class TestTry:
    def test_a_sample_is_fitted_and_scored_and_nothing_is_written(self, tmp_path):
        write_months(tmp_path / "data")
        made = trial.try_out(tmp_path, toy_params(), rows=150)
        assert (made.trained_on, made.scored_on) == (134, 134)
        assert 0.6 < made.metrics["roc_auc"] < 1
        assert made.served == "compiled"
        assert made.findings == ()
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def test_rows_that_break_the_schema_are_told_and_do_not_stop_it(self, tmp_path):
        write_months(tmp_path / "data")
        path = tmp_path / "data" / "2024-01.parquet"
        orders("2024-01").assign(items=0).to_parquet(path, index=False)
        made = trial.try_out(tmp_path, toy_params(), rows=150)
        assert any("items" in finding for finding in made.findings)

    def test_a_pipeline_that_no_proposal_takes_is_told_with_the_same_hint(self, tmp_path):
        write_months(tmp_path / "data")
        made = trial.try_out(tmp_path, toy_params(model={"factory": "toy.searches:with_lambda"}), rows=150)
        assert made.metrics
        assert "propose would refuse it" in made.findings[0]
        assert "hint: write it as a named function" in made.findings[0]

    def test_a_pipeline_that_raises_is_told(self, tmp_path):
        write_months(tmp_path / "data")
        with pytest.raises(CodeError, match="raised TypeError"):
            trial.try_out(tmp_path, toy_params(model={"arguments": {"depth": 3}}), rows=150)

    def test_a_tracking_server_that_is_away_costs_a_warning(self, tmp_path):
        write_months(tmp_path / "data")
        params = toy_params(tracking={"uri": "http://127.0.0.1:9", "timeout_seconds": 2})
        made = trial.try_out(tmp_path, params, rows=150)
        assert "was not recorded" in trial.log(made, tmp_path, params)


class TestChampion:
    @pytest.fixture
    def repository(self, tmp_path):
        params = toy_params()
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json", by_alias=True)))
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = ../store\n")
        (tmp_path / "deploy").mkdir()
        (tmp_path / "deploy" / "manifest.yaml").write_text(empty_manifest("orders"))
        return tmp_path

    def test_two_lines_give_the_model_that_production_serves(self, repository):
        folder = train_toy(repository)
        manifest = repository / "deploy" / "manifest.yaml"
        manifest.write_text(promote(manifest.read_text(), stored_release(repository / "store", folder, 1)))
        (repository / "notebooks").mkdir()
        champion = mergeline.load_champion(repository / "notebooks")
        frame = orders("2024-05", 20)
        assert np.isfinite(champion.predict(frame)).all()
        assert champion.pipeline.predict_proba(frame[champion.signature.names]).shape == (20, 2)

    def test_the_notebook_runs_before_and_after_something_was_asked(self, repository):
        folder = train_toy(repository)
        manifest = repository / "deploy" / "manifest.yaml"
        manifest.write_text(promote(manifest.read_text(), stored_release(repository / "store", folder, 1)))
        notebook = repository / "notebooks" / "explore.py"
        notebook.parent.mkdir()
        notebook.write_text((TEMPLATE / "notebooks" / "explore.py").read_text())
        found = runpy.run_path(str(notebook))
        assert (len(found["scores"]), len(found["answered"])) == (400, 0)
        write_journal(repository, orders("2024-04", 50))
        assert set(runpy.run_path(str(notebook))["answered"]["truth"]) == {"true", "false"}

    def test_before_there_is_one_it_says_so(self, repository):
        with pytest.raises(ModelError, match="nothing is released yet"):
            mergeline.load_champion(repository)
