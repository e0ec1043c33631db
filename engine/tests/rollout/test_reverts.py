"""What `git revert` on a laptop, or GitHub's Revert button, makes of a release, a promotion and a rollback."""

import pytest
from test_environments import BOTH, PRODUCTION, STAGING, TwoEnvironments

from mergeline.ci.bundle import ApplyOutcome, ProposalStatus
from mergeline.errors import StoreError
from mergeline.evaluate.results import Status
from mergeline.github.base import read_base
from mergeline.github.served_releases import PastStore, verify_history
from mergeline.manifest.change import Change
from mergeline.rollout.rollback import open_rollback


class Reverting(TwoEnvironments):
    """A person who reverts what was merged last, and opens the pull request for it."""

    def revert(self, branch="revert"):
        self.person.fetch("origin")
        self.person.run("switch", "--quiet", "--force-create", branch, "origin/main")
        merge = ["-m", "1"] if len(self.person.run("rev-list", "--parents", "-1", "HEAD").split()) > 2 else []
        self.person.run("revert", "--no-edit", *merge, "HEAD", settings=self.person.identity())
        self.person.push("origin", branch, expected=None)
        return self.forge.open_or_update(branch, "main", "Revert", "words")

    def apply_unchanged(self, pull):
        """What the job does with a branch that changes no model."""
        self.bundle(pull, 2, state=ProposalStatus.UNCHANGED)
        for path in self.made.iterdir():
            if path.name in ("dvc.lock", "verdict.json", "report.html"):
                path.unlink()
        for path in sorted(self.made.rglob("objects/**/*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        return self.apply(pull)

    def stored(self, release, revision="main"):
        return self.forge.git.blob(f"{revision}:store/{release.source}") is not None

    def sound(self):
        return all(check.status is not Status.FAIL for check in self.verified().values())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository of one environment with versions 1 and 2, and one of two with version 2 in both."""
    one = Reverting(tmp_path_factory.mktemp("one"))
    one.merge(one.propose(2))
    both = Reverting(tmp_path_factory.mktemp("both"))
    both.set_release(environments=list(BOTH))
    both.merge(both.propose(2))
    both.merge(both.promote().opened.kept.pull)
    return one, both


@pytest.fixture
def one(made, tmp_path):
    made[0].copy(tmp_path / "scene")
    return Reverting(tmp_path / "scene")


@pytest.fixture
def both(made, tmp_path):
    made[1].copy(tmp_path / "scene")
    return Reverting(tmp_path / "scene")


class TestARevertedRelease:
    def test_is_accepted_and_leaves_a_sound_state(self, one):
        before, gone = one.main(), one.at(PRODUCTION).stable
        pull = one.revert()
        facts = one.facts(pull.head)
        assert (facts.standing, facts.unsound) == (Change.ROLLBACK, ())
        one.merge(pull)
        assert one.at(PRODUCTION).stable.version == 1
        assert not one.stored(gone)
        assert one.sound()
        assert verify_history(one.root, "flights", before)[0].status is Status.PASS

    def test_gives_no_number_away_again(self, one):
        one.merge(one.revert())
        one.merge(one.propose(3))
        assert one.at(PRODUCTION).stable.version == 3

    def test_can_be_gone_back_to_though_its_objects_had_left_the_store(self, one):
        gone = one.at(PRODUCTION).stable
        one.merge(one.revert())
        one.merge(one.propose(3))
        opened = open_rollback(one.root, "version 3 is slow", 2)
        assert opened.sound
        one.merge(opened.kept.pull)
        assert one.at(PRODUCTION).stable == gone
        assert one.stored(gone)

    def test_is_read_from_the_history_as_the_champion_of_a_report(self, one, tmp_path):
        gone = one.at(PRODUCTION).stable
        one.merge(one.revert())
        PastStore(one.git, "store", "HEAD", "HEAD").fetch_folder(gone.source, tmp_path / "champion")
        assert (tmp_path / "champion" / "lineage.json").is_file()
        with pytest.raises(StoreError, match="not in the store"):
            PastStore(one.git, "store", "HEAD").fetch_folder(gone.source, tmp_path / "again")

    def test_of_staging_keeps_the_objects_that_production_serves(self, both):
        serving = both.at(PRODUCTION).stable
        both.person.fetch("origin")
        both.person.run("switch", "--quiet", "--force-create", "revert", "origin/main")
        release = both.person.run("log", "-1", "--format=%H", "--first-parent", "origin/main", "--", STAGING)
        merge = ["-m", "1"] if len(both.person.run("rev-list", "--parents", "-1", release).split()) > 2 else []
        both.person.run("revert", "--no-edit", *merge, release, settings=both.person.identity())
        both.person.push("origin", "revert", expected=None)
        pull = both.forge.open_or_update("revert", "main", "Revert", "words")

        facts = both.facts(pull.head)
        assert [check.name for check in facts.unsound] == ["stable: store"]
        applied = both.apply_unchanged(pull)
        assert applied.outcome is ApplyOutcome.APPLIED
        assert both.facts(applied.commit).unsound == ()
        assert both.apply_unchanged(pull).commit == applied.commit  # the same job once more

        both.merge(pull)
        assert both.stored(serving)
        assert both.at(STAGING).stable == serving  # its first proposal is gone: it starts from production again
        assert both.sound()


class TestARevertedPromotion:
    def test_takes_production_back_and_leaves_staging(self, both):
        before = both.main()
        pull = both.revert()
        facts = both.facts(pull.head)
        assert (facts.standing, facts.elsewhere, facts.unsound) == (Change.ROLLBACK, "", ())
        both.merge(pull)
        assert (both.at(STAGING).stable.version, both.at(PRODUCTION).stable.version) == (2, 1)
        assert both.sound()
        checks = verify_history(both.root, "flights", before, BOTH)
        assert all(check.status is Status.PASS for check in checks)


class TestARevertedRollback:
    def test_brings_the_model_back_and_takes_its_hold_off(self, both):
        both.merge(open_rollback(both.root, "it was slow", None).kept.pull)
        before = both.main()
        pull = both.revert()
        facts = both.facts(pull.head)
        assert (facts.standing, facts.elsewhere, facts.unsound) == (Change.ROLLBACK, "", ())
        both.merge(pull)
        assert (both.at(PRODUCTION).stable.version, both.at(PRODUCTION).holds) == (2, ())
        assert both.sound()
        assert verify_history(both.root, "flights", before, BOTH)[0].status is Status.PASS


class TestAManifestThatIsRestoredAlone:
    def test_is_refused_for_the_state_that_its_merge_would_make(self, one):
        earlier = one.forge.git.run("log", "--format=%H", "-2", "main", "--", PRODUCTION).split()[-1]
        commit = one.commit("restore", PRODUCTION, one.forge.git.show(earlier, PRODUCTION), start="origin/main")
        facts = one.facts(commit)
        assert facts.standing is Change.ROLLBACK
        assert [check.name for check in facts.unsound] == ["dvc.lock"]

    def test_what_was_wrong_before_is_not_held_against_a_branch_that_did_not_do_it(self, one):
        one.commit("main", "dvc.lock", one.forge.git.show("main", "dvc.lock").replace("md5: ", "md5: 0", 1))
        commit = one.commit("words", "README.md", "hello", start="origin/main")
        assert one.facts(commit).unsound == ()


def test_versions_count_in_the_history_of_every_environment(both):
    both.merge(both.revert())
    both.update()
    assert read_base(both.root, "flights", "origin/main", BOTH).given == 2
    assert read_base(both.root, "another", "origin/main", BOTH).given == 0
