"""What `git revert` on a laptop, or GitHub's Revert button, makes of a release, a promotion and a rollback."""

import pytest
from test_environments import BOTH, PRODUCTION, STAGING, TwoEnvironments

from mergeline.ci.build_bundle import build_bundle
from mergeline.ci.bundle import ApplyOutcome
from mergeline.errors import StoreError
from mergeline.evaluate.results import Status
from mergeline.github.base import read_base
from mergeline.github.served_releases import PastStore, verify_history
from mergeline.manifest.edit import finish
from mergeline.manifest.signatures import KEY_VARIABLE, make_key_pair
from mergeline.manifest.transitions import Change
from mergeline.release.proposal import ProposalStatus
from mergeline.rollout.rollback import open_rollback


class Reverting(TwoEnvironments):
    """A person who reverts what was merged last, and opens the pull request for it."""

    def revert(self, branch="revert", since="origin/main^1"):
        """Revert the merges since a commit, the newest first, as GitHub's button and `git revert` do."""
        self.person.fetch("origin")
        self.person.run("switch", "--quiet", "--force-create", branch, "origin/main")
        for line in self.person.run("rev-list", "--first-parent", "--parents", f"{since}..origin/main").splitlines():
            commit, *parents = line.split()
            merge = ["-m", "1"] if len(parents) > 1 else []
            self.person.run("revert", "--no-edit", *merge, commit, settings=self.person.identity())
        return self.opened(branch)

    def opened(self, branch):
        self.person.push("origin", branch, expected=None)
        return self.forge.open_or_update(branch, "main", "Revert", "words")

    def merge_by(self, how, pull):
        """Merge it by one of the three buttons."""
        if how == "rebase":
            self.person.fetch("origin")
            self.person.run("switch", "--quiet", "--detach", "origin/main")
            self.person.run("cherry-pick", f"origin/main..{pull.head}", settings=self.person.identity())
            self.person.run("push", "--quiet", "origin", "HEAD:main")
        else:
            self.forge.merge(pull.number, squash=how == "squash")
        self.update()

    def finish(self):
        """Make the candidate stable, as the pull request at the end of a rollout does."""
        text = finish(self.forge.git.show("main", PRODUCTION))
        self.commit("main", PRODUCTION, text)
        self.update()

    def revert_below(self, release):
        """Revert a release that others have come after, and resolve the conflicts in favour of main."""
        self.person.fetch("origin")
        self.person.run("switch", "--quiet", "--force-create", "revert", "origin/main")
        self.person.attempt("revert", "--no-commit", "-m", "1", release)
        self.person.run("checkout", "--quiet", "origin/main", "--", "dvc.lock", "deploy", "code.py")
        self.write("notes.txt", "taken back")
        self.person.run("add", "notes.txt")
        self.person.run("commit", "--quiet", "-m", "Revert", settings=self.person.identity())
        return self.opened("revert")

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

    def judged(self, pull):
        """What the required check takes a pull request for, and what it finds unsound."""
        facts = self.facts(pull.head)
        return facts.standing, facts.unsound

    def sound(self, since=None):
        """Whether main may be deployed: its state, and what has happened since a commit."""
        state = all(check.status is not Status.FAIL for check in self.verified().values())
        return state and (since is None or verify_history(self.root, "flights", since)[0].status is Status.PASS)


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


@pytest.fixture(scope="module")
def rolled(made, tmp_path_factory):
    """The one environment, and version 3 rolls out as a canary."""
    place = tmp_path_factory.mktemp("rolling") / "scene"
    made[0].copy(place)
    scene = Reverting(place)
    steps = [{"weight": 5, "hold": "15m"}, {"weight": 50, "hold": "30m"}]
    scene.set_release(strategy="canary", steps=steps)
    scene.merge(scene.propose(3))
    return scene


@pytest.fixture
def rolling(rolled, tmp_path):
    rolled.copy(tmp_path / "scene")
    return Reverting(tmp_path / "scene")


@pytest.fixture
def one(made, tmp_path):
    made[0].copy(tmp_path / "scene")
    return Reverting(tmp_path / "scene")


@pytest.fixture
def both(made, tmp_path):
    made[1].copy(tmp_path / "scene")
    return Reverting(tmp_path / "scene")


class TestARevertedRelease:
    @pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
    def test_is_accepted_and_leaves_a_sound_state_however_it_was_merged(self, one, how):
        start = one.main()
        one.merge_by(how, one.propose(3))
        before, gone = one.main(), one.at(PRODUCTION).stable
        assert gone.version == 3
        pull = one.revert(since=start)
        assert one.judged(pull) == (Change.ROLLBACK, ())
        one.merge_by(how, pull)
        assert one.at(PRODUCTION).stable.version == 2
        assert not one.stored(gone)
        assert one.sound(since=before)

    def test_and_the_one_before_it_are_taken_back_by_one_pull_request(self, one):
        start = one.forge.git.run("rev-list", "--max-parents=0", "main")
        one.merge(one.propose(3))
        before = one.main()
        pull = one.revert(since=start)
        assert one.judged(pull) == (Change.ROLLBACK, ())
        one.merge(pull)
        assert (one.at(PRODUCTION).stable.version, one.at(PRODUCTION).previous) == (1, None)
        assert one.sound(since=before)

    def test_that_others_have_come_after_takes_no_object_with_it_that_a_rollback_needs(self, one):
        release = one.main()
        one.merge(one.propose(3))
        pull = one.revert_below(release)
        assert [check.name for check in one.facts(pull.head).unsound] == ["previous: store"]
        applied = one.apply_unchanged(pull)
        assert (applied.outcome, one.facts(applied.commit).unsound) == (ApplyOutcome.APPLIED, ())
        one.merge(pull)
        assert one.sound()
        assert open_rollback(one.root, "slow", None).sound

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


class TestWhileAModelRollsOut:
    def test_its_release_is_taken_back(self, rolling):
        before = rolling.main()
        pull = rolling.revert()
        assert rolling.judged(pull) == (Change.CONCLUSION, ())
        rolling.merge(pull)
        assert (rolling.at(PRODUCTION).stable.version, rolling.at(PRODUCTION).candidate) == (2, None)
        assert rolling.sound(since=before)

    def test_the_release_below_it_keeps_the_objects_of_what_serves(self, rolling):
        release = rolling.forge.git.run("rev-parse", "main^1^1")  # before the params, which made it roll out
        pull = rolling.revert_below(release)
        assert [check.name for check in rolling.facts(pull.head).unsound] == ["stable: store"]
        applied = rolling.apply_unchanged(pull)
        assert (applied.outcome, rolling.facts(applied.commit).unsound) == (ApplyOutcome.APPLIED, ())
        rolling.merge(pull)
        assert (rolling.at(PRODUCTION).stable.version, rolling.at(PRODUCTION).candidate.version) == (2, 3)
        assert rolling.sound()

    def test_it_and_the_release_below_it_are_taken_back_by_one_pull_request(self, rolling):
        before = rolling.main()
        pull = rolling.revert(since=rolling.forge.git.run("rev-list", "--max-parents=0", "main"))
        assert rolling.judged(pull) == (Change.ROLLBACK, ())
        rolling.merge(pull)
        assert (rolling.at(PRODUCTION).stable.version, rolling.at(PRODUCTION).candidate) == (1, None)
        assert rolling.sound(since=before)

    def test_the_end_of_its_rollout_is_taken_back_and_it_rolls_out_again(self, rolling):
        rolling.finish()
        before = rolling.main()
        pull = rolling.revert()
        assert rolling.judged(pull) == (Change.ROLLBACK, ())
        rolling.git.run("fetch", "--quiet", "origin")
        rolling.git.run("reset", "--quiet", "--hard", "origin/revert")
        made = build_bundle(rolling.root, rolling.folder / "handed", pull.number, None, lambda _: None)
        words = "takes production back to version 2, and starts a canary of version 3: 5 % → 50 %"
        assert (made.state, made.headline) == ("unchanged", words)
        rolling.merge(pull)
        assert (rolling.at(PRODUCTION).stable.version, rolling.at(PRODUCTION).candidate.version) == (2, 3)
        assert rolling.sound(since=before)


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


def test_switching_signing_on_signs_what_every_environment_names(made, tmp_path, monkeypatch):
    made[1].copy(tmp_path / "scene")
    scene = Reverting(tmp_path / "scene")
    private, public = make_key_pair(scene.folder / "keys")
    monkeypatch.setenv(KEY_VARIABLE, str(private))
    scene.merge(scene.propose(3))  # staging has version 3 after 2, production 2 after 1
    scene.commit("change", "deploy/signing.pub", public.read_text(), start="origin/main")
    scene.set_release("change", environments=list(BOTH), signing={"policy": "required"})
    pull = scene.forge.open_or_update("change", "main", "Sign", "words")
    applied = scene.apply_unchanged(pull)
    assert applied.outcome is ApplyOutcome.APPLIED, applied.error
    scene.merge(pull)
    found = {name: check.status for name, check in scene.verified().items() if name.endswith("signature")}
    names = ("stable: signature", "previous: signature", "staging: stable: signature")
    assert found == dict.fromkeys(names, Status.PASS)
