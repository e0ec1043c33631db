"""A forged branch: what it commits beside its bundle, and commits that look like the automation's own."""

import pytest
import yaml
from bundle_examples import PIPELINE
from release_examples import lineage, model_folder

from mergeline.ci.bundle import ApplyOutcome
from mergeline.github.own_branch import message


class TestBranches:
    """What a branch commits beside its bundle."""

    @pytest.fixture
    def pull(self, scene):
        return scene.pull()

    def test_a_configuration_that_dvc_reads_and_nobody_commits_moves_no_store(self, scene, pull):
        scene.commit("change", ".dvc/config.local", "['remote \"store\"']\n    url = s3://elsewhere\n")
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        before = scene.refs()
        applied = scene.apply(pull)
        assert (applied.outcome, applied.error.where) == (ApplyOutcome.REFUSED, ".dvc/config.local")
        assert scene.refs() == before

    def test_a_model_of_other_data_than_the_branchs_is_refused(self, scene, pull):
        scene.commit("change", "data.dvc", f"outs:\n- md5: {'5' * 32}.dir\n  path: data\n")
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "the model was trained on md5:" in applied.error.what
        own = lineage(2).model_copy(update={"data": f"md5:{'5' * 32}.dir"})
        folder = model_folder(scene.folder / "models" / "mine", 2)
        (folder / "lineage.json").write_text(own.model_dump_json())
        scene.bundle(pull, folder=folder, lineage=own)
        assert scene.apply(pull).outcome is ApplyOutcome.APPLIED

    def test_a_forged_commit_of_the_automation_keeps_no_figures_that_nobody_measured(self, scene, pull):
        scene.bundle(pull)
        commit = scene.apply(pull).commit
        text = scene.forge.git.show(commit, "deploy/manifest.yaml")
        assert "roc_auc: 0.8}" in text
        scene.commit("change", "deploy/manifest.yaml", text.replace("roc_auc: 0.8}", "roc_auc: 0.99}"))
        as_own(scene, "Version 2")
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.APPLIED
        assert scene.manifest("change").spec.stable.evidence.metrics == {"roc_auc": 0.8}

    @pytest.mark.parametrize("name", ["code.py", ".github/workflows/model.yml", "params.yaml"])
    def test_a_forged_commit_of_the_automation_brings_nothing_else(self, scene, pull, name):
        scene.bundle(pull)
        scene.apply(pull)
        was = scene.forge.git.show("change", name) or ""
        scene.commit("change", name, f"{was}\n# and what nobody has judged\n")
        tip = as_own(scene, "Version 2", parent=pull.head)
        scene.bundle(pull, headline_of_verdict="Better, in 2 ms.")
        applied = scene.apply(pull)
        assert (applied.outcome, applied.commit) == (ApplyOutcome.OUTDATED, None)
        assert scene.forge.git.find("change") == tip

    def test_a_bundle_of_another_pull_request_with_the_same_files_is_refused(self, scene, pull):
        other = scene.pull("other", "model: 2")
        scene.bundle(other)
        before = scene.refs()
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "made for" in applied.error.what
        assert scene.refs() == before

    def test_a_dependency_that_git_would_take_for_a_pattern_hides_no_change_of_main(self, scene, pull):
        scene.commit("change", "dvc.yaml", PIPELINE.replace("[code.py]", "[code.py, ':(exclude)*']"))
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        scene.commit("main", "params.yaml", f"{(scene.person.folder / 'params.yaml').read_text()}# other params\n")
        assert scene.apply(pull).outcome is ApplyOutcome.OUTDATED

    @pytest.mark.parametrize("name", ["a\0b", "a" * 200_000], ids=["with NUL", "without end"])
    def test_a_name_that_no_file_can_have_is_refused_in_words(self, scene, pull, name):
        values = yaml.safe_load((scene.person.folder / "params.yaml").read_text())
        values["data"]["path"] = name
        scene.commit("change", "params.yaml", yaml.safe_dump(values))
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "git cannot be asked for that" in applied.error.what

    def test_a_pipeline_that_is_none_is_refused(self, scene, pull):
        scene.commit("change", "dvc.yaml", "stages: {train: 3}\n")
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED


def as_own(scene, title, parent=None):
    """Make the branch's tip look like a commit of the automation, as anybody can; returns it."""
    tree = scene.person.run("rev-parse", "HEAD^{tree}")
    arguments = ["-p", parent or scene.person.run("rev-parse", "HEAD^")]
    words = message(title, "sha256:" + "0" * 64, tree)
    commit = scene.person.run("commit-tree", tree, *arguments, "-F", "-", stdin=words, settings=scene.person.identity())
    scene.person.run("push", "--quiet", "--force", "origin", f"{commit}:refs/heads/change")
    return commit
