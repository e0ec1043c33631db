"""A model's way through two environments, on a local forge, and what each pull request on it may change."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from bundle_examples import Scene, verdict_of
from typer.testing import CliRunner

from mergeline.ci.required_check import Event
from mergeline.ci.required_check_run import Run, look
from mergeline.cli.verbs import app
from mergeline.documents import parse
from mergeline.errors import HoldError, ManifestError
from mergeline.evaluate.results import Status
from mergeline.github.base import read_base
from mergeline.github.served_releases import verify_history
from mergeline.manifest.schema import Manifest, manifest_path
from mergeline.manifest.transitions import Change
from mergeline.params import read_params
from mergeline.release.verify import verify
from mergeline.rollout.promote import Outcome, promote_by_pull_request
from mergeline.rollout.rollback import open_hold, open_lift, open_rollback
from mergeline.rollout.status import Serving

STAGING, PRODUCTION = "deploy/staging/manifest.yaml", "deploy/manifest.yaml"
BOTH = ("staging", "production")
LATER = datetime.now(UTC) + timedelta(days=30)


class TwoEnvironments(Scene):
    """The scene of one released model, whose params name staging and production."""

    def copied(self, folder):
        self.copy(folder)
        return TwoEnvironments(folder)

    def set_release(self, branch="main", **values):
        self.person.fetch("origin")
        text = self.person.show(f"origin/{branch}", "params.yaml")
        params = yaml.safe_load(text)
        params["release"] = {**params.get("release", {}), **values}
        return self.commit(branch, "params.yaml", yaml.safe_dump(params))

    def at(self, path, revision="main"):
        return parse(self.forge.git.show(revision, path), Manifest, path).spec

    def verdict_of(self, digest):
        """What the gate says of a model beside the one that staging serves."""
        stable = self.at(STAGING if self.forge.git.show("main", STAGING) else PRODUCTION).stable
        return verdict_of(digest, champion=stable.digest if stable else None)

    def propose(self, seed):
        """A pull request with the model of this seed, put on it as the workflow does."""
        pull = self.pull(f"change-{seed}", f"model: {seed}")
        self.bundle(pull, seed)
        applied = self.apply(pull)
        assert applied.commit, applied.error
        return self.forge.get(pull.number)

    def merge(self, pull):
        self.forge.merge(pull.number)
        self.update()

    def update(self):
        self.git.run("fetch", "--quiet", "origin")
        self.git.run("reset", "--quiet", "--hard", "origin/main")

    def promote(self, now=LATER, *, watched="steady", digest=None):
        """What a run of the schedule does."""

        def look(environment, manifest):
            return Serving(digest=digest or manifest.spec.stable.digest, ready=True), watched

        return promote_by_pull_request(self.root, look, now, "production")

    def facts(self, commit):
        self.git.fetch("origin")
        main = self.git.run("rev-parse", "origin/main")
        return look(self.git, self.root, Run(Event.PULL, commit=commit, base=main, own=commit, fork=False))["flights"]

    def verified(self):
        return {check.name: check for check in verify(self.root, read_params(self.root / "params.yaml"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The scene before and after its first proposal, made once."""
    started = TwoEnvironments(tmp_path_factory.mktemp("started"))
    started.set_release(environments=list(BOTH))
    staged = started.copied(tmp_path_factory.mktemp("staged"))
    staged.merge(staged.propose(2))
    return started, staged


@pytest.fixture
def scene(made, tmp_path):
    """Version 1 serves in production, and staging has just been put in front of it."""
    return made[0].copied(tmp_path / "scene")


@pytest.fixture
def staged(made, tmp_path):
    """Version 2 serves in staging, and version 1 in production."""
    return made[1].copied(tmp_path / "scene")


class TestAProposal:
    def test_the_first_one_starts_staging_from_production_and_leaves_production_alone(self, scene):
        before = scene.at(PRODUCTION)
        pull = scene.propose(2)
        facts = scene.facts(pull.head)
        assert (facts.standing, facts.elsewhere, facts.unsound) == (Change.OTHER, "", ())
        assert facts.digest == scene.at(STAGING, pull.head).stable.digest
        scene.merge(pull)
        assert scene.at(PRODUCTION) == before
        assert (scene.at(STAGING).stable.version, scene.at(STAGING).previous) == (2, before.stable)

    def test_until_then_staging_is_a_copy_of_production(self, scene):
        scene.update()
        base = read_base(scene.root, "flights", "origin/main", BOTH)
        assert base.manifest.spec.stable == scene.at(PRODUCTION).stable
        assert base.path.as_posix() == STAGING
        checks = scene.verified()
        assert checks["staging: manifest"].value == "none yet"
        assert all(check.status is not Status.FAIL for check in checks.values())

    def test_the_next_one_is_judged_against_what_staging_serves_and_gets_the_next_version(self, staged):
        staged.merge(staged.propose(3))
        assert (staged.at(STAGING).stable.version, staged.at(STAGING).previous.version) == (3, 2)
        assert staged.at(PRODUCTION).stable.version == 1

    def test_it_goes_on_where_the_branch_changes_other_settings_of_its_environment(self, scene):
        scene.set_release(in_environment={"staging": {"rollout": {"strategy": "shadow", "steps": [
            {"weight": 10, "hold": "15m"}]}}})  # fmt: skip
        scene.merge(scene.propose(2))
        assert (scene.at(STAGING).stable.version, scene.at(STAGING).candidate.version) == (1, 2)
        assert scene.promote().verdict.outcome is Outcome.WAIT

    def test_a_branch_that_changes_the_environments_brings_no_model(self, scene):
        pull = scene.pull("sneaky", "model: 2")
        scene.set_release("sneaky", environments=["production"])
        pull = scene.forge.get(pull.number)
        scene.bundle(pull, 2)
        applied = scene.apply(pull)
        assert "changes the environments, and brings a model too" in applied.error.what


class TestAPromotion:
    def test_it_copies_the_release_and_brings_no_object_and_no_other_file(self, staged):
        found = staged.promote()
        pull = found.opened.kept.pull
        assert pull.title == "flights: version 2 to production"
        assert staged.forge.git.run("diff", "--name-only", "main", pull.head) == PRODUCTION
        assert staged.at(PRODUCTION, pull.head).stable == staged.at(STAGING).stable
        assert staged.at(PRODUCTION, pull.head).previous.version == 1
        proposal = staged.at(STAGING).stable.evidence.pull
        assert pull.body.startswith(
            "### 🚀 Merging this goes to production: it replaces version 1 by version 2 at once\n\n"
            f"report of version 2: #{proposal}\n\n"
        )
        assert found.opened.sound

    def test_its_merge_is_accepted_and_its_history_is_sound(self, staged):
        before = staged.main()
        pull = staged.promote().opened.kept.pull
        facts = staged.facts(pull.head)
        assert (facts.standing, facts.elsewhere, facts.unsound) == (Change.PROMOTION, "", ())
        staged.merge(pull)
        checks = verify_history(staged.root, "flights", before, BOTH)
        assert {check.name: check.status.value for check in checks} == {"history": "pass", "staging: history": "pass"}
        assert all(check.status is not Status.FAIL for check in staged.verified().values())
        assert staged.promote().verdict.outcome is Outcome.NOTHING

    def test_the_target_s_own_rollout_applies(self, staged):
        steps = [{"weight": 5, "hold": "15m"}, {"weight": 50, "hold": "30m"}]
        staged.set_release(in_environment={"production": {"rollout": {"strategy": "canary", "steps": steps}}})
        pull = staged.promote().opened.kept.pull
        found = staged.at(PRODUCTION, pull.head)
        assert (found.stable.version, found.candidate, found.rollout.strategy) == (
            1, staged.at(STAGING).stable, "canary"
        )  # fmt: skip
        words = "goes to production: it starts a canary of version 2: 5 % → 50 %; version 1 stays stable"
        assert pull.body.startswith(f"### 🚀 Merging this {words}\n")
        assert staged.facts(pull.head).standing is Change.PROMOTION

    def test_before_its_time_none_is_opened(self, staged):
        found = staged.promote(datetime.now(UTC))
        assert (found.verdict.outcome, found.opened) == (Outcome.WAIT, None)
        assert staged.forge.list_open() == ()

    def test_there_is_one_and_a_newer_model_takes_its_place_in_it(self, staged):
        first = staged.promote().opened.kept.pull
        assert not staged.promote().opened.kept.new
        staged.merge(staged.propose(3))
        second = staged.promote().opened.kept.pull
        assert (second.number, second.title) == (first.number, "flights: version 3 to production")
        assert [pull.number for pull in staged.forge.list_open()] == [first.number]
        staged.merge(second)
        assert staged.at(PRODUCTION).stable.version == 3

    def test_one_that_is_open_when_the_model_turns_bad_is_marked_until_it_is_good_again(self, staged):
        opened = staged.promote().opened
        pull = opened.kept.pull
        found = staged.promote(watched="degraded")
        check = staged.forge.folder / "checks" / opened.kept.commit / "mergeline.yaml"
        assert (found.verdict.outcome, found.reported) == (Outcome.REFUSE, pull.url)
        assert yaml.safe_load(check.read_text())["success"] is False
        assert staged.forge.has_comment(pull.number, "promotion")
        staged.promote()
        assert yaml.safe_load(check.read_text())["success"] is True

    def test_a_model_that_skipped_staging_is_refused_before_and_found_after_the_merge(self, staged):
        before = staged.main()
        release = staged.at(STAGING).stable
        text = staged.forge.git.show("main", PRODUCTION)
        stranger = text.replace(staged.at(PRODUCTION).stable.digest, "sha256:" + "5" * 64).replace(
            "version: 1", f"version: {release.version + 5}"
        )
        commit = staged.commit("by-hand", PRODUCTION, stranger, start="origin/main")
        assert staged.facts(commit).elsewhere == "production"
        staged.commit("main", PRODUCTION, stranger)
        staged.update()
        checks = {check.name: check for check in verify_history(staged.root, "flights", before, BOTH)}
        assert checks["history"].status is Status.FAIL

    def test_it_comes_in_no_proposal(self, staged):
        staged.commit("both", PRODUCTION, staged.forge.git.show(staged.promote().opened.kept.commit, PRODUCTION),
                      start="origin/main")  # fmt: skip
        commit = staged.commit("both", STAGING, staged.forge.git.show("main", STAGING).replace(
            staged.at(STAGING).stable.digest, "sha256:" + "6" * 64))  # fmt: skip
        assert staged.facts(commit).elsewhere == "production"

    def test_the_first_environment_and_an_unknown_one_are_no_targets(self, staged):
        with pytest.raises(ManifestError, match="the first environment"):
            promote_by_pull_request(staged.root, None, LATER, "staging")
        with pytest.raises(ManifestError, match="there is no environment 'prodction'") as caught:
            promote_by_pull_request(staged.root, None, LATER, "prodction")
        assert "did you mean production?" in caught.value.hint


class TestAmongSeveralModels:
    @pytest.fixture
    def two(self, staged, monkeypatch):
        """Another model in models/churn, whose version 2 has served in staging for two days; its root's has not."""
        home, show = "models/churn", lambda path: staged.person.show("origin/main", path)
        staged.person.fetch("origin")
        staged.person.run("reset", "--quiet", "--hard", "origin/main")
        for path in ("params.yaml", "dvc.yaml", "dvc.lock", PRODUCTION, STAGING):
            staged.write(f"{home}/{path}", show(path).replace("flights", "churn"))
        monkeypatch.setenv("GIT_COMMITTER_DATE", (datetime.now(UTC) - timedelta(days=2)).isoformat())
        staged.commit("main", f"{home}/notes.txt")  # adds its own file alone
        staged.person.run("add", "--all")
        staged.person.run("commit", "--quiet", "--amend", "--no-edit", settings=staged.person.identity())
        staged.person.run("push", "--quiet", "--force", "origin", "main")
        monkeypatch.delenv("GIT_COMMITTER_DATE")
        staged.update()
        monkeypatch.chdir(staged.root)
        return staged

    def promote(self, *arguments):
        done = CliRunner().invoke(app, ["promote", *arguments, "--json"], catch_exceptions=False)
        return {one.get("model", ""): one for one in json.loads(done.stdout)}

    def test_each_is_promoted_when_its_own_time_has_come_in_its_own_pull_request(self, two):
        found = self.promote("--all", "--pull-request")
        assert (found["flights"]["outcome"], found["churn"]["outcome"]) == ("wait", "promote")
        [pull] = two.forge.list_open()
        assert (pull.number, pull.branch) == (found["churn"]["pull"], "promote/churn-production")
        two.git.fetch("origin")
        changed = two.git.run("diff", "--name-only", f"origin/main...{pull.head}")
        assert changed == f"models/churn/{PRODUCTION}"
        main = two.git.run("rev-parse", "origin/main")
        facts = look(two.git, two.root, Run(Event.PULL, commit=pull.head, base=main, own=pull.head, fork=False))
        assert (facts["churn"].standing, facts["churn"].elsewhere) == (Change.PROMOTION, "")
        two.merge(pull)
        assert two.at(f"models/churn/{PRODUCTION}").stable.version == 2
        assert two.at(PRODUCTION).stable.version == 1
        assert self.promote("--all", "--pull-request")["churn"]["outcome"] == "nothing"

    def test_in_a_home_its_model_alone_is_looked_at_and_what_watch_found_of_it_stops_it(self, two, monkeypatch):
        monkeypatch.chdir(two.root / "models" / "churn")
        watched = Path("build/watch/watch.json")
        watched.parent.mkdir(parents=True)
        digest = two.at(f"models/churn/{STAGING}").stable.digest
        watched.write_text(json.dumps({"outcome": "degraded", "headline": "", "digest": digest}))
        assert self.promote()[""]["outcome"] == "refuse"
        watched.write_text(json.dumps({"outcome": "steady", "headline": "", "digest": digest}))
        assert self.promote()[""]["outcome"] == "promote"
        assert two.git.run("status", "--porcelain", "--untracked-files=no") == f" M models/churn/{PRODUCTION}"

    def test_of_every_model_what_watch_found_is_in_a_folder_of_its_name(self, two):
        watched = Path("build/watch/churn/watch.json")
        watched.parent.mkdir(parents=True)
        digest = two.at(f"models/churn/{STAGING}").stable.digest
        watched.write_text(json.dumps({"outcome": "degraded", "headline": "", "digest": digest}))
        assert self.promote("--all")["churn"]["outcome"] == "refuse"


class TestAHold:
    def test_in_production_keeps_a_model_of_staging_where_it_is(self, staged):
        digest = staged.at(STAGING).stable.digest
        staged.merge(open_hold(staged.root, digest, "its scores leak").kept.pull)
        assert staged.promote().verdict.outcome is Outcome.REFUSE
        assert staged.verified()["staging: held in production"].status is Status.WARN

    def test_in_production_refuses_the_model_in_a_proposal_too(self, staged):
        staged.merge(staged.promote().opened.kept.pull)
        staged.merge(open_rollback(staged.root, "it was slow", None).kept.pull)
        staged.merge(staged.propose(3))
        pull = staged.pull("again", "model: 2")
        staged.bundle(pull, 2)
        assert "under a hold in production: it was slow" in staged.apply(pull).error.what

    def test_comes_off_wherever_it_is(self, staged):
        digest = staged.at(STAGING).stable.digest
        staged.merge(open_rollback(staged.root, "slow", None, "staging").kept.pull)
        staged.merge(open_hold(staged.root, digest, "slow here too").kept.pull)
        staged.merge(open_lift(staged.root, digest).kept.pull)
        assert (staged.at(STAGING).holds, staged.at(PRODUCTION).holds) == ((), ())

    def test_is_listed_once_with_where_it_is_and_comes_off_by_its_first_digits(self, staged, monkeypatch):
        digest = staged.at(STAGING).stable.digest
        staged.merge(staged.promote().opened.kept.pull)
        for environment in BOTH:
            staged.merge(open_rollback(staged.root, "slow", None, environment).kept.pull)
        monkeypatch.chdir(staged.root)
        for path in (STAGING, PRODUCTION):  # the same hold in both, as where staging began from production
            text = (staged.root / path).read_text()
            (staged.root / path).write_text(re.sub(r", pull: \d+(?=\}$)", "", text, flags=re.MULTILINE))
        run = CliRunner().invoke
        assert run(app, ["hold", "list"]).stdout == f"{digest}  slow, in production, staging\n"
        done = run(app, ["hold", "remove", digest.removeprefix("sha256:")[:12]])
        assert f"removed: {digest}" in done.stdout
        assert run(app, ["hold", "list"]).stdout == "no model is held\n"

    def test_a_promotion_of_what_is_held_is_no_accepted_change(self, staged):
        opened = staged.promote().opened
        staged.merge(open_rollback(staged.root, "slow", None, "staging").kept.pull)
        assert staged.facts(opened.kept.commit).elsewhere == "production"


class TestARollback:
    def test_takes_one_environment_back_and_leaves_the_other(self, staged):
        staged.merge(staged.promote().opened.kept.pull)
        opened = open_rollback(staged.root, "it was slow", None, "staging")
        assert opened.kept.pull.title == "flights: back to version 1 in staging"
        assert staged.facts(opened.kept.commit).standing is Change.ROLLBACK
        staged.merge(opened.kept.pull)
        assert (staged.at(STAGING).stable.version, staged.at(PRODUCTION).stable.version) == (1, 2)

    def test_of_production_is_the_one_that_is_meant_where_none_is_named(self, staged):
        staged.merge(staged.promote().opened.kept.pull)
        opened = open_rollback(staged.root, "it was slow", None)
        assert opened.kept.pull.branch == "rollback/flights-2"
        staged.merge(opened.kept.pull)
        assert (staged.at(STAGING).stable.version, staged.at(PRODUCTION).stable.version) == (2, 1)
        assert all(check.status is not Status.FAIL for check in staged.verified().values())

    def test_to_a_model_that_another_environment_holds_is_refused(self, staged):
        staged.merge(staged.propose(3))
        staged.merge(open_hold(staged.root, staged.at(STAGING).previous.digest, "leaks").kept.pull)
        with pytest.raises(HoldError, match="under a hold in production: leaks"):
            open_rollback(staged.root, "slow", None, "staging")


class TestWhereManifestsAre:
    def test_production_keeps_the_one_it_had(self):
        assert manifest_path().as_posix() == PRODUCTION
        assert manifest_path(BOTH).as_posix() == STAGING
        assert manifest_path(BOTH, "production").as_posix() == PRODUCTION
        assert manifest_path(("live",), "live").as_posix() == PRODUCTION
