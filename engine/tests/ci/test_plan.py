"""What a merge leaves to do."""

import shutil
import subprocess
import sys

import pytest
import yaml
from release_examples import release

from mergeline.ci.plan import decide, is_being_set_up, nothing_yet, pipeline_is_current
from mergeline.documents import parse
from mergeline.manifest.edit import empty_manifest, lift_hold, promote, rollback
from mergeline.manifest.schema import Manifest

MANIFEST = "deploy/manifest.yaml"


def manifest(*versions, text=None):
    text = text or empty_manifest("flights")
    for version in versions:
        text = promote(text, release(version))
    return parse(text, Manifest, "manifest")


def planned(before, after, changed=(MANIFEST,), *, asked=False, locked="", current=True):
    return decide(before, after, changed, asked=asked, locked=locked, current=current, model="flights")


class TestReleased:
    def test_a_new_stable_model_is_released(self):
        plan = planned(manifest(1), manifest(1, 2))
        assert plan.released
        assert any("version 2" in reason for reason in plan.reasons)

    def test_the_first_model_is_released(self):
        assert planned(manifest(), manifest(1)).released
        assert planned(None, manifest(1)).released

    def test_a_rollback_is_a_release(self):
        text = promote(promote(empty_manifest("flights"), release(1)), release(2))
        assert planned(manifest(1, 2), manifest(text=rollback(text, "it failed"))).released

    def test_a_lifted_hold_releases_nothing_but_is_history(self):
        text = rollback(promote(promote(empty_manifest("flights"), release(1)), release(2)), "it failed")
        plan = planned(manifest(text=text), manifest(text=lift_hold(text, release(2).digest)))
        assert (plan.released, plan.page) == (False, True)

    def test_an_unrelated_merge_leaves_nothing_to_do(self):
        plan = planned(manifest(1), manifest(1), ("README.md",))
        assert (plan.released, plan.report, plan.image, plan.page, bool(plan.stale)) == (False,) * 5

    def test_words_about_the_same_model_release_nothing(self):
        other = manifest(1).model_dump()
        other["spec"]["stable"]["evidence"]["pull"] = 77
        assert not planned(manifest(1), Manifest.model_validate(other)).released

    def test_a_manifest_without_a_model_releases_nothing(self):
        assert not planned(None, manifest()).released

    def test_a_candidate_that_comes_or_goes_is_a_release(self):
        rolling = manifest(1).model_dump()
        rolling["spec"] |= {
            "candidate": release(2).model_dump(),
            "rollout": {"strategy": "canary", "steps": [{"weight": 5, "hold": "1m"}]},
        }
        with_candidate = Manifest.model_validate(rolling)
        assert planned(manifest(1), with_candidate).released
        assert planned(with_candidate, manifest(1)).released


class TestReport:
    def test_a_release_that_the_pipeline_made_is_judged_once_more(self):
        assert planned(manifest(1), manifest(1, 2), locked=release(2).source).report

    def test_a_rollback_is_not_since_the_pipeline_s_model_is_the_held_one(self):
        text = promote(promote(empty_manifest("flights"), release(1)), release(2))
        back = manifest(text=rollback(text, "it failed"))
        assert not planned(manifest(1, 2), back, locked=release(2).source).report

    def test_the_first_deployment_has_nothing_to_judge_against(self):
        plan = planned(None, manifest(1), None, locked=release(1).source)
        assert (plan.released, plan.report) == (True, False)


class TestImage:
    @pytest.mark.parametrize("path", ["engine/src/mergeline/serve/run.py", "uv.lock", "deploy/service/bentofile.yaml"])
    def test_what_it_holds_changed(self, path):
        assert planned(manifest(1), manifest(1), (path,)).image

    @pytest.mark.parametrize("path", [MANIFEST, "params.yaml", "dvc.lock", "srcs/x.py", "store/files/md5/aa/bb", ""])
    def test_a_model_or_a_param_is_not_in_it(self, path):
        assert not planned(manifest(1), manifest(1, 2), (path,)).image

    def test_the_first_one_is_built_where_somebody_asks_for_it(self):
        assert planned(None, manifest(1), None, asked=True).image
        plan = planned(None, manifest(1), None)
        assert (plan.image, plan.page) == (False, True)
        assert any("MERGELINE_IMAGE" in reason for reason in plan.reasons)

    @pytest.mark.parametrize("path", ["engine/dev/build_image.py", "engine/src/mergeline/image/build.py"])
    def test_what_puts_it_together_counts_though_it_stays_outside(self, path):
        assert planned(manifest(1), manifest(1), (path,)).image


def test_a_pipeline_that_is_behind_is_stale():
    [stale] = planned(manifest(1), manifest(1), (), current=False).stale
    assert (stale.model, stale.branch) == ("flights", "propose/stale-lock")


def test_of_several_each_stale_one_has_a_branch_of_its_own():
    plan = decide(manifest(1), manifest(1), (), locked="", current=False, model="fraud", several=True)
    assert [(stale.model, stale.branch) for stale in plan.stale] == [("fraud", "propose/stale-lock-fraud")]


@pytest.mark.slow
@pytest.mark.xdist_group("plan")
class TestPipelineIsCurrent:
    @pytest.fixture(scope="class")
    def project(self, tmp_path_factory):
        """A pipeline of one stage over stored data, that has run, in a clone that has not fetched the data."""
        root = tmp_path_factory.mktemp("project")
        (root / "data").mkdir()
        (root / "data" / "rows.csv").write_text("1\n")
        (root / "params.yaml").write_text("depth: 3\n")
        stage = {"cmd": "cp data/rows.csv model", "deps": ["data"], "params": ["depth"], "outs": ["model"]}
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
        commands = (["init", "--no-scm", "--quiet"], ["add", "--quiet", "data"], ["repro", "--quiet"])
        code = f"import sys; from dvc.cli import main; sys.exit(any(main(command) for command in {commands}))"
        subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True)
        shutil.rmtree(root / "data")
        shutil.rmtree(root / ".dvc" / "cache")
        (root / "model").unlink()
        return root

    def test_one_whose_lock_fits_its_inputs_needs_no_data_to_say_so(self, project):
        assert pipeline_is_current(project)

    def test_a_changed_param_leaves_it_behind(self, project, tmp_path):
        clone = tmp_path / "clone"
        shutil.copytree(project, clone)
        (clone / "params.yaml").write_text("depth: 4\n")
        assert not pipeline_is_current(clone)

    def test_changed_data_leave_it_behind(self, project, tmp_path):
        clone = tmp_path / "clone"
        shutil.copytree(project, clone)
        text = (clone / "data.dvc").read_text()
        md5 = yaml.safe_load(text)["outs"][0]["md5"]
        (clone / "data.dvc").write_text(text.replace(md5, f"{'0' * 32}.dir"))
        assert not pipeline_is_current(clone)

    def test_one_that_cannot_be_read_is_not_current(self, project, tmp_path):
        clone = tmp_path / "clone"
        shutil.copytree(project, clone)
        (clone / "dvc.yaml").write_text("stages: [")
        assert not pipeline_is_current(clone)


def test_a_copy_of_the_template_that_nobody_has_adopted_releases_nothing(tmp_path):
    copy, template = {"repository": {"is_template": False}}, {"repository": {"is_template": True}}
    assert not is_being_set_up(tmp_path, copy)
    (tmp_path / "copier.yml").touch()
    assert is_being_set_up(tmp_path, copy)
    assert not is_being_set_up(tmp_path, template)
    assert not is_being_set_up(tmp_path, {})
    plan = nothing_yet()
    assert (plan.released, plan.report, plan.image, plan.page, plan.stale) == (False, False, False, False, ())
