"""Applying a proposal to a branch of its own, as the schedule does."""

import yaml

from mergeline.ci.bundle import ApplyOutcome
from mergeline.release.proposal import ProposalStatus


class TestOnABranchOfItsOwn:
    BRANCH = "propose/stale-lock"

    def test_its_pull_request_is_opened_and_named_in_the_evidence(self, scene):
        scene.commit("main", "code.py", "merged from a fork")
        scene.bundle(None)
        applied = scene.apply(branch=self.BRANCH)
        (pull,) = scene.forge.list_open()
        assert (applied.outcome, applied.pull, applied.commit) == (ApplyOutcome.APPLIED, pull.number, pull.head)
        assert (pull.title, pull.branch) == ("flights: version 2", self.BRANCH)
        assert scene.manifest(pull.head).spec.stable.evidence.pull == pull.number
        assert scene.forge.git.find(f"{pull.head}^1") == scene.main()
        scene.forge.merge(pull.number)
        assert scene.manifest("main").spec.stable.version == 2

    def test_the_same_again_changes_nothing(self, scene):
        scene.bundle(None)
        first = scene.apply(branch=self.BRANCH)
        again = scene.apply(branch=self.BRANCH)
        assert (again.outcome, again.commit) == (ApplyOutcome.NOTHING, first.commit)
        assert len(scene.forge.list_open()) == 1

    def test_another_model_goes_into_the_same_pull_request_on_the_newest_main(self, scene):
        scene.bundle(None)
        first = scene.apply(branch=self.BRANCH)
        main = scene.commit("main", "code.py", "newer")
        scene.bundle(None, 3)
        second = scene.apply(branch=self.BRANCH)
        assert (second.outcome, second.pull) == (ApplyOutcome.APPLIED, first.pull)
        assert scene.forge.git.find(f"{second.commit}^1") == main

    def test_a_persons_commit_on_it_is_never_thrown_away(self, scene):
        scene.bundle(None)
        scene.apply(branch=self.BRANCH)
        theirs = scene.commit(self.BRANCH, "notes.txt", "mine")
        scene.bundle(None, 3)
        applied = scene.apply(branch=self.BRANCH)
        assert applied.outcome is ApplyOutcome.OUTDATED
        assert "people have committed" in applied.error.what
        assert scene.forge.git.find(self.BRANCH) == theirs

    def test_the_automations_commit_with_a_persons_hand_in_it_is_the_persons(self, scene):
        scene.bundle(None)
        scene.apply(branch=self.BRANCH)
        scene.person.fetch("origin")
        scene.person.run("switch", "--quiet", "--force-create", self.BRANCH, f"origin/{self.BRANCH}")
        scene.write("notes.txt", "mine")
        scene.person.run("add", "notes.txt")
        scene.person.run("commit", "--quiet", "--amend", "--no-edit", settings=scene.person.identity())
        scene.person.push("origin", self.BRANCH, expected=scene.person.remote_head("origin", self.BRANCH))
        theirs = scene.forge.git.find(self.BRANCH)
        scene.bundle(None, 3)
        assert scene.apply(branch=self.BRANCH).outcome is ApplyOutcome.OUTDATED
        assert scene.forge.git.find(self.BRANCH) == theirs

    def test_what_the_gate_rejects_is_told_in_an_issue_until_it_passes(self, scene):
        for state in (ProposalStatus.REJECTED, ProposalStatus.FAILED):
            scene.bundle(None)
            (scene.made / "dvc.lock").unlink()
            scene.resummarise(state=state)
            assert scene.apply(branch=self.BRANCH).outcome is ApplyOutcome.NOTHING
            issue = yaml.safe_load((scene.forge.folder / "issues" / "stale-lock.yaml").read_text())
            assert issue["is_open"]
            assert issue["title"] == f"flights: what main makes is {state}"
            assert ("## Good" in issue["body"]) == (state is ProposalStatus.REJECTED)
        assert scene.forge.list_open() == ()
        scene.bundle(None)
        assert scene.apply(branch=self.BRANCH).outcome is ApplyOutcome.APPLIED
        assert not yaml.safe_load((scene.forge.folder / "issues" / "stale-lock.yaml").read_text())["is_open"]

    def test_the_base_branch_is_no_branch_of_its_own(self, scene):
        scene.bundle(None)
        before = scene.refs()
        assert scene.apply(branch="main").outcome is ApplyOutcome.REFUSED
        assert scene.refs() == before
