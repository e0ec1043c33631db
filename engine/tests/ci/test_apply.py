"""Applying a proposal: what is committed, what is refused, and who wins when several push at once."""

import concurrent.futures
import json

import pytest
import yaml
from bundle_examples import PIPELINE, Scene, lock_text, rejected
from release_examples import model_folder, stored_release

from mergeline.ci.bundle import ApplyOutcome, read_outcomes
from mergeline.errors import ForgeError
from mergeline.evaluate.results import Status
from mergeline.github.git import Git
from mergeline.github.served_releases import verify_tree
from mergeline.home import Home
from mergeline.manifest.edit import promote
from mergeline.manifest.signatures import KEY_VARIABLE, make_key_pair, sign_folder, signature_path
from mergeline.release.proposal import ProposalStatus, verdict_digest
from mergeline.release_params import SigningParams


def store_names(scene, revision):
    out = scene.forge.git.run("ls-tree", "-r", "--name-only", revision, "--", "store")
    return {name.removeprefix("store/") for name in out.splitlines()}


def recommitted(scene, commit, parent):
    """The same files as in a commit, committed by a person and pushed in its place."""
    person = scene.person
    person.fetch("origin")
    made = person.run(
        "commit-tree", f"{commit}^{{tree}}", "-p", parent, "-m", "My own model", settings=person.identity()
    )
    person.run("push", "--quiet", "--force", "origin", f"{made}:refs/heads/change")
    return made


def verified(scene, branch, kind):
    """The checks of one kind that `verify` makes of a branch."""
    scene.git.fetch("origin")
    tree = scene.git.run("rev-parse", f"origin/{branch}")
    return [check for check in verify_tree(scene.git, Home(scene.root), tree) if check.name.endswith(kind)]


def unchanged(scene, pull):
    """Write the bundle of a branch that changes no input of the model."""
    scene.bundle(pull, state=ProposalStatus.UNCHANGED)
    (scene.made / "dvc.lock").unlink()


class TestOnAPullRequest:
    def test_the_branch_gets_one_commit_with_lock_manifest_and_objects(self, scene, pull):
        release = scene.bundle(pull)
        applied = scene.apply(pull)
        assert (applied.outcome, applied.digest) == (ApplyOutcome.APPLIED, release.digest)
        assert scene.forge.git.find("change") == applied.commit
        assert scene.forge.git.find("change^1") == pull.head
        assert scene.manifest("change").spec.stable == release
        assert scene.manifest("change").spec.previous == scene.manifest("main").spec.stable
        assert scene.forge.git.show("change", "dvc.lock").strip() == lock_text(release.source).strip()
        assert release.source in store_names(scene, "change")
        changed = scene.forge.git.run("diff", "--name-only", pull.head, "change").splitlines()
        assert [name for name in changed if not name.startswith("store/")] == ["deploy/manifest.yaml", "dvc.lock"]

    def test_the_outcome_lies_beside_the_folder_and_names_the_verdict(self, scene, pull):
        scene.bundle(pull)
        applied = scene.apply(pull)
        assert read_outcomes(scene.made) == {"": applied}
        assert json.loads((scene.made / "verdict.json").read_text())["challenger_digest"] == applied.digest
        assert applied.predicate == str(scene.made / "verdict.json")

    def test_the_same_proposal_twice_makes_one_commit(self, scene, pull):
        scene.bundle(pull)
        first = scene.apply(pull)
        again = scene.apply(pull)
        assert (again.outcome, again.commit) == (ApplyOutcome.NOTHING, first.commit)
        assert scene.forge.git.find("change") == first.commit

    def test_the_proposal_of_the_committed_proposal_makes_no_other_commit(self, scene, pull):
        scene.bundle(pull)
        first = scene.apply(pull)
        newer = scene.forge.get(pull.number)
        scene.bundle(newer)
        again = scene.apply(newer)
        assert (again.outcome, again.commit) == (ApplyOutcome.NOTHING, first.commit)

    def test_a_run_that_is_started_again_finds_its_own_commit_though_the_gate_measured_anew(self, scene, pull):
        scene.bundle(pull)
        first = scene.apply(pull)
        scene.bundle(pull, headline_of_verdict="Better, in 2 ms.")
        again = scene.apply(pull)
        assert (again.outcome, again.commit, again.digest) == (ApplyOutcome.NOTHING, first.commit, first.digest)
        assert again.predicate is None  # the commit's evidence names the first verdict, which is attested
        assert scene.forge.git.find("change") == first.commit

    def test_a_run_that_is_started_again_takes_no_persons_manifest_for_its_own(self, scene, pull):
        scene.bundle(pull)
        commit = scene.apply(pull).commit
        theirs = recommitted(scene, commit, pull.head)
        scene.bundle(pull, headline_of_verdict="Better, in 2 ms.")
        assert scene.apply(pull).outcome is ApplyOutcome.OUTDATED
        assert scene.forge.git.find("change") == theirs

    def test_a_model_that_was_proposed_elsewhere_gets_the_verdict_of_this_run_once(self, scene, pull):
        scene.bundle(pull, headline_of_verdict="Better, on my machine.")
        recommitted(scene, scene.apply(pull).commit, pull.head)
        for number, outcome in enumerate((ApplyOutcome.APPLIED, ApplyOutcome.NOTHING)):
            newer = scene.forge.get(pull.number)
            scene.bundle(newer, headline_of_verdict=f"Better, in {number} ms.")
            applied = scene.apply(newer)
            assert applied.outcome is outcome
            assert (applied.predicate is None) == (outcome is ApplyOutcome.NOTHING)
            assert (applied.commit == newer.head) == (outcome is ApplyOutcome.NOTHING)
        judged = scene.verdict_of(applied.digest).model_copy(update={"headline": "Better, in 0 ms."})
        assert scene.manifest("change").spec.stable.evidence.gate == verdict_digest(judged)
        assert scene.forge.git.run("diff", "--name-only", "change^1", "change") == "deploy/manifest.yaml"

    def test_a_persons_later_commit_does_not_make_the_evidence_anew(self, scene, pull):
        scene.bundle(pull)
        scene.apply(pull)
        scene.commit("change", "notes.txt", "mine")
        newer = scene.forge.get(pull.number)
        scene.bundle(newer, headline_of_verdict="Better, in 2 ms.")
        applied = scene.apply(newer)
        assert (applied.outcome, applied.commit) == (ApplyOutcome.NOTHING, newer.head)

    def test_a_push_whose_answer_is_lost_counts(self, scene, pull):
        scene.bundle(pull)
        hook = scene.forge.git.folder / "hooks" / "reference-transaction"  # runs once the branch has moved
        hook.parent.mkdir(exist_ok=True)
        hook.write_text('#!/bin/sh\n[ "$1" != committed ] || kill -9 $PPID\n')
        hook.chmod(0o755)
        applied = scene.apply(pull)
        hook.unlink()
        assert applied.outcome is ApplyOutcome.APPLIED
        assert scene.forge.git.find("change") == applied.commit != pull.head

    def test_a_pull_request_into_another_branch_is_refused(self, scene):
        scene.commit("release", start="origin/main")
        scene.commit("change", "code.py", "model: 2", start="origin/main")
        pull = scene.forge.open_or_update("change", "release", "Change", "words")
        scene.bundle(pull)
        before = scene.refs()
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "into release, not into main" in applied.error.what
        assert scene.refs() == before

    def test_what_the_gate_did_not_accept_is_nothing_to_commit(self, scene, pull):
        before = scene.refs()
        for state in (
            ProposalStatus.REJECTED,
            ProposalStatus.INCONCLUSIVE,
            ProposalStatus.FAILED,
            ProposalStatus.UNCHANGED,
        ):
            scene.bundle(pull)
            (scene.made / "dvc.lock").unlink()
            scene.resummarise(state=state)
            assert scene.apply(pull).outcome is ApplyOutcome.NOTHING
        assert scene.refs() == before

    def test_an_unchanged_model_takes_an_earlier_proposal_off_the_branch(self, scene, pull):
        scene.bundle(pull)
        scene.apply(pull)
        newer = scene.forge.get(pull.number)
        scene.keep_model(newer)
        applied = scene.apply(newer)
        assert (applied.outcome, applied.digest, applied.predicate) == (ApplyOutcome.APPLIED, None, None)
        assert scene.manifest("change").spec == scene.manifest("main").spec

    def test_a_commit_to_main_that_no_model_depends_on_is_merged_in(self, scene, pull):
        scene.bundle(pull)
        main = scene.commit("main", "README.md", "words")
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.APPLIED
        assert [scene.forge.git.find(f"change^{n}") for n in (1, 2)] == [pull.head, main]
        assert scene.forge.git.show("change", "README.md") == "words"

    def test_a_store_elsewhere_gets_the_objects_and_the_branch_does_not(self, tmp_path):
        scene = Scene(tmp_path, store="../../elsewhere")
        pull = scene.pull()
        release = scene.bundle(pull)
        assert scene.apply(pull).outcome is ApplyOutcome.APPLIED
        assert (scene.store / release.source).is_file()
        assert store_names(scene, "change") == set()

    def test_a_refused_proposal_puts_nothing_into_a_store_elsewhere(self, tmp_path):
        scene = Scene(tmp_path, store="../../elsewhere")
        pull = scene.pull()
        scene.bundle(pull)
        rejected(scene)
        before = sorted(scene.store.rglob("*"))
        assert scene.apply(pull).outcome is ApplyOutcome.REFUSED
        assert sorted(scene.store.rglob("*")) == before


class TestSigning:
    @pytest.fixture
    def signed(self, scene, monkeypatch):
        private, public = make_key_pair(scene.folder / "keys")
        monkeypatch.setenv(KEY_VARIABLE, private.read_text())
        values = yaml.safe_load((scene.person.folder / "params.yaml").read_text())
        values["release"] = {"signing": {"policy": "required"}}
        scene.commit("main", "deploy/signing.pub", public.read_text())
        scene.commit("main", "params.yaml", yaml.safe_dump(values))
        return scene

    def test_the_model_is_signed_by_the_job_that_applies_it(self, signed):
        pull = signed.pull()
        signed.bundle(pull)
        applied = signed.apply(pull)
        stable = signed.manifest("change").spec.stable
        assert applied.outcome is ApplyOutcome.APPLIED
        assert signed.forge.git.show("change", stable.signature)
        assert signed.apply(pull).commit == applied.commit

    @pytest.mark.parametrize("place", ["deploy/signing.pub", "deploy/mine.pub"])
    def test_a_branch_that_signs_with_a_key_of_its_own_is_refused(self, signed, place):
        private, public = make_key_pair(signed.folder / "theirs")
        signed.bundle(signed.pull())
        signed.commit("change", place, public.read_text())
        signing = SigningParams(policy="required", public_key=place)
        name = sign_folder(signed.folder / "models" / "2", signed.person.folder, signing, private)
        signed.commit("change", name, (signed.person.folder / name).read_text())
        values = yaml.safe_load((signed.person.folder / "params.yaml").read_text())
        values["release"] = {"signing": signing.model_dump()}
        signed.commit("change", "params.yaml", yaml.safe_dump(values))
        pull = signed.forge.get(1)
        signed.bundle(pull)
        before = signed.refs()
        applied = signed.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "changes the key that models are signed by" in applied.error.what
        assert signed.refs() == before

    def test_what_is_released_already_is_signed_with_the_new_model(self, signed):
        pull = signed.pull()
        signed.bundle(pull)
        signed.apply(pull)
        assert {check.status for check in verified(signed, "change", "signature")} == {Status.PASS}
        assert len(verified(signed, "change", "signature")) == 2

    def test_a_branch_that_changes_no_model_gets_the_missing_signatures_once(self, signed):
        signed.commit("change", start="origin/main")
        pull = signed.forge.open_or_update("change", "main", "Sign", "words")
        assert {check.status for check in verified(signed, "change", "signature")} == {Status.FAIL}
        unchanged(signed, pull)
        applied = signed.apply(pull)
        assert (applied.outcome, applied.digest) == (ApplyOutcome.APPLIED, None)
        assert {check.status for check in verified(signed, "change", "signature")} == {Status.PASS}
        assert signed.forge.git.run("diff", "--name-only", "main", "change").splitlines() == [
            signature_path(signed.manifest("main").spec.stable.digest),
            "notes.txt",
        ]
        newer = signed.forge.get(pull.number)
        unchanged(signed, newer)
        assert signed.apply(newer).outcome is ApplyOutcome.NOTHING

    def test_a_model_that_a_branch_merely_names_is_not_signed(self, signed):
        signed.commit("change", start="origin/main")
        theirs = stored_release(signed.folder / "mine", model_folder(signed.folder / "theirs", 7), 2)
        for path in (signed.folder / "mine").rglob("*"):
            if path.is_file():
                name = path.relative_to(signed.folder / "mine").as_posix()
                target = signed.person.folder / "store" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                signed.person.run("add", f"store/{name}")
        signed.person.run("commit", "--quiet", "-m", "Objects", settings=signed.person.identity())
        signed.person.run("push", "--quiet", "origin", "change")
        signed.commit("change", "deploy/manifest.yaml", promote(signed.base_text(), theirs))
        pull = signed.forge.open_or_update("change", "main", "Mine", "words")
        unchanged(signed, pull)
        signed.apply(pull)
        assert signed.forge.git.blob(f"change:{signature_path(theirs.digest)}") is None
        assert signed.forge.git.blob(f"change:{signature_path(signed.manifest('main').spec.stable.digest)}")

    def test_without_the_key_nothing_is_written(self, signed, monkeypatch):
        monkeypatch.delenv(KEY_VARIABLE)
        pull = signed.pull()
        signed.bundle(pull)
        before = signed.refs()
        applied = signed.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "no private key" in applied.error.what
        assert signed.refs() == before


class TestWhoComesFirst:
    def test_a_person_who_pushed_before_keeps_the_branch(self, scene, pull):
        scene.bundle(pull)
        theirs = scene.commit("change", "notes.txt", "one more thing")
        applied = scene.apply(pull)
        assert (applied.outcome, applied.commit) == (ApplyOutcome.OUTDATED, None)
        assert "pushed" in applied.error.what
        assert scene.forge.git.find("change") == theirs

    def test_a_person_who_pushes_while_it_is_written_keeps_the_branch(self, scene, pull):
        scene.bundle(pull)
        hook = scene.root / ".git" / "hooks" / "pre-push"  # git calls it between its look at the branch and its push
        hook.parent.mkdir(exist_ok=True)
        scene.person.run("switch", "--quiet", "change")
        scene.write("notes.txt", "at the same moment")
        theirs = scene.person.commit("Notes", "notes.txt")
        hook.write_text(
            "#!/bin/sh\nunset GIT_DIR GIT_WORK_TREE GIT_PREFIX\n"
            f"exec git -C {scene.person.folder} push --quiet origin change\n"
        )
        hook.chmod(0o755)
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.OUTDATED
        assert scene.forge.git.find("change") == theirs

    def test_two_jobs_at_once_make_one_commit(self, scene, pull):
        scene.bundle(pull)
        roots = [Git.clone(scene.forge.url, scene.folder / f"job{n}").folder for n in range(2)]
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            done = list(threads.map(lambda root: scene.apply(pull, root=root), roots))
        assert ApplyOutcome.APPLIED in {applied.outcome for applied in done}
        assert {applied.outcome for applied in done} <= {
            ApplyOutcome.APPLIED,
            ApplyOutcome.NOTHING,
            ApplyOutcome.OUTDATED,
        }
        assert scene.forge.git.find("change^1") == pull.head

    @pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
    def test_of_two_pull_requests_the_second_is_made_again_against_the_new_champion(self, scene, order):
        pulls = {name: scene.pull(name, f"model by {name}") for name in order}
        for seed, name in enumerate(order, start=2):
            scene.bundle(pulls[name], seed)
            assert scene.apply(pulls[name]).outcome is ApplyOutcome.APPLIED
        first, second = (scene.forge.get(pulls[name].number) for name in order)
        scene.forge.merge(first.number)
        released = scene.manifest("main").spec.stable
        with pytest.raises(ForgeError, match="conflicts"):
            scene.forge.merge(second.number)
        scene.bundle(second, 3, base=scene.forge.git.find("main^1"))
        stale = scene.apply(second)
        assert stale.outcome is ApplyOutcome.OUTDATED
        assert "deploy/manifest.yaml" in stale.error.what
        scene.person.fetch("origin")  # the person takes main's side where both changed the same file
        scene.person.run("switch", "--quiet", order[1])
        scene.person.run("reset", "--quiet", "--hard", f"origin/{order[1]}")
        merge = ("merge", "--quiet", "-X", "theirs", "origin/main", "--no-edit")
        scene.person.run(*merge, settings=scene.person.identity())
        scene.person.push("origin", order[1], expected=second.head)
        second = scene.forge.get(second.number)
        scene.bundle(second, 3)
        assert scene.apply(second).outcome is ApplyOutcome.APPLIED
        scene.forge.merge(second.number)
        spec = scene.manifest("main").spec
        assert (spec.stable.version, spec.previous) == (3, released)

    def test_the_generated_files_of_two_pull_requests_are_no_conflict(self, scene):
        one, two = scene.pull("one"), scene.pull("two")
        scene.commit("two", "code.py", "model: 1", start="origin/main~0")
        scene.commit("two", "other.py", "mine", start="origin/main")
        two = scene.forge.open_or_update("two", "main", "Two", "words")
        for seed, pull in ((2, one), (3, two)):
            scene.bundle(pull, seed)
            assert scene.apply(pull).outcome is ApplyOutcome.APPLIED
        scene.forge.merge(one.number)
        two = scene.forge.get(two.number)
        scene.bundle(two, 3)
        applied = scene.apply(two)
        assert applied.outcome is ApplyOutcome.APPLIED
        assert scene.forge.git.find(f"{applied.commit}^2") == scene.main()
        scene.forge.merge(two.number)
        spec = scene.manifest("main").spec
        assert (spec.stable.version, spec.previous.version) == (3, 2)

    def test_a_conflict_in_what_people_write_is_told(self, scene, pull):
        scene.commit("main", "code.py", "main's own")
        scene.bundle(pull)
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "conflicts with main in code.py" in applied.error.what

    def test_main_with_another_input_is_outdated(self, scene, pull):
        scene.bundle(pull)
        scene.commit("main", "params.yaml", (scene.person.folder / "params.yaml").read_text() + "# a word\n")
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.OUTDATED
        assert "params.yaml changed" in applied.error.what

    def test_main_with_a_file_that_only_the_branch_takes_for_an_input_is_outdated(self, scene, pull):
        scene.commit("change", "dvc.yaml", PIPELINE.replace("[code.py]", "[code.py, extra.py]"))
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        scene.commit("main", "extra.py", "main's own")
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.OUTDATED
        assert "extra.py changed" in applied.error.what

    def test_a_pull_request_that_is_closed_takes_nothing(self, scene, pull):
        scene.bundle(pull)
        scene.forge.close(pull.number)
        assert scene.apply(pull).outcome is ApplyOutcome.OUTDATED
