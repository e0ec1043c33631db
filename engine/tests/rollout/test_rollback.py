"""The pull request of a rollback, and of a lifted hold, on a local forge."""

import time

import pytest
import yaml
from bundle_examples import Scene

from mergeline.ci.build_bundle import build_bundle
from mergeline.errors import ForgeError, HoldError, ManifestError, SignatureError
from mergeline.github.git import Git
from mergeline.github.own_branch import OutdatedError
from mergeline.github.served_releases import known_releases, verify_history
from mergeline.manifest.schema import parse_manifest
from mergeline.manifest.signatures import KEY_VARIABLE, make_key_pair, signature_path
from mergeline.rollout.rollback import open_hold, open_lift, open_rollback, roll_back_here


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three versions were released one after the other: seeds 1, 2 and 3."""
    scene = Scene(tmp_path_factory.mktemp("made"))
    for seed in (2, 3):
        release_next(scene, seed)
    return scene


@pytest.fixture
def scene(made, tmp_path):
    """The same, for the test alone."""
    return made.copy(tmp_path / "scene")


def release_next(scene, seed):
    pull = scene.pull(f"change-{seed}", f"model: {seed}")
    release = scene.bundle(pull, seed)
    assert scene.apply(pull).commit
    scene.forge.merge(pull.number)
    scene.git.run("fetch", "--quiet", "origin")
    scene.git.run("reset", "--quiet", "--hard", "origin/main")
    return release


def spec(scene, revision="main"):
    return scene.manifest(revision).spec


def check_of(scene, commit):
    return yaml.safe_load((scene.forge.folder / "checks" / commit / "mergeline.yaml").read_text())


class TestRollback:
    def test_the_previous_model_comes_back_and_what_failed_is_held(self, scene):
        failed, previous = spec(scene).stable, spec(scene).previous
        start = time.monotonic()
        opened = open_rollback(scene.root, "charged twice", None)
        assert time.monotonic() - start < 10
        (pull,) = scene.forge.list_open()
        assert pull.head == opened.kept.commit
        words = "### ⏪ Merging this takes production back to version 2, and holds version 3\n\nreport of version 2: #"
        assert pull.body.startswith(words)
        (hold,) = spec(scene, pull.head).holds
        assert (hold.digest, hold.reason, hold.pull) == (failed.digest, "charged twice", pull.number)
        assert spec(scene, pull.head).stable == previous
        scene.forge.merge(pull.number)
        assert spec(scene).stable == previous

    def test_its_commit_changes_the_manifest_alone_and_has_the_required_check(self, scene):
        opened = open_rollback(scene.root, "charged twice", None)
        changed = scene.forge.git.run("diff", "--name-only", "main", opened.kept.commit)
        assert changed == "deploy/manifest.yaml"
        assert opened.sound
        assert check_of(scene, opened.kept.commit)["success"] is True

    def test_a_version_is_found_in_the_history(self, scene):
        first = next(found for found in known_releases(scene.git, "origin/main", "flights") if found.version == 1)
        opened = open_rollback(scene.root, "both were bad", 1)
        assert spec(scene, opened.kept.commit).stable == first
        assert opened.sound

    def test_an_unknown_version_names_those_there_are(self, scene):
        with pytest.raises(ManifestError, match="never served version 9") as caught:
            open_rollback(scene.root, "charged twice", 9)
        assert caught.value.hint == "there are: 1, 2, 3"

    def test_no_version_is_given_away_twice(self, scene):
        for version in (1, 2):
            opened = open_rollback(scene.root, "back and forth", version)
            scene.forge.merge(opened.kept.pull.number)
            scene.git.run("fetch", "--quiet", "origin")
        assert release_next(scene, 4).version == 4

    def test_a_held_model_does_not_come_back(self, scene):
        opened = open_rollback(scene.root, "charged twice", 2)
        scene.forge.merge(opened.kept.pull.number)
        with pytest.raises(HoldError, match="version 3 is under a hold: charged twice"):
            open_rollback(scene.root, "was good after all", 3)

    def test_what_serves_is_no_version_to_go_back_to(self, scene):
        with pytest.raises(ManifestError, match="version 3 is what is served already"):
            open_rollback(scene.root, "charged twice", 3)

    def test_it_needs_a_reason(self, scene):
        before = scene.refs()
        with pytest.raises(ManifestError, match="needs a reason"):
            open_rollback(scene.root, " ", None)
        assert scene.refs() == before

    def test_while_another_model_rolls_out_there_is_none(self, scene):
        text = scene.base_text()
        source = yaml.safe_load(text)["spec"]["stable"] | {"version": 4, "digest": "sha256:" + "4" * 64}
        text = text.replace("strategy: replace", "strategy: shadow").replace(
            "  previous:\n",
            f"  candidate: {yaml.safe_dump(source, default_flow_style=True, width=10_000)}  previous:\n",
        )
        scene.commit("main", "deploy/manifest.yaml", text)
        with pytest.raises(ManifestError, match="version 4 is still rolling out"):
            open_rollback(scene.root, "charged twice", None)

    def test_the_same_again_updates_the_one_pull_request(self, scene):
        first = open_rollback(scene.root, "charged twice", None)
        second = open_rollback(scene.root, "charged twice", None)
        other = open_rollback(scene.root, "charged three times", None)
        assert (second.kept.commit, second.kept.new) == (first.kept.commit, False)
        assert other.kept.pull.number == first.kept.pull.number
        assert len(scene.forge.list_open()) == 1

    def test_another_target_than_that_of_the_open_one_is_refused(self, scene):
        opened = open_rollback(scene.root, "charged twice", None)
        with pytest.raises(ForgeError, match=f"pull request {opened.kept.pull.number} is open already") as caught:
            open_rollback(scene.root, "charged twice", 1)
        assert "version 2" in caught.value.what
        assert spec(scene, scene.forge.get(opened.kept.pull.number).head).stable.version == 2

    def test_what_else_is_open_to_be_released_is_named(self, scene):
        scene.commit("notes", "notes.txt", "mine", start="origin/main")
        scene.forge.open_or_update("notes", "main", "Notes", "words")
        scene.commit("next", "code.py", "model: 9", start="origin/main")
        model = scene.forge.open_or_update("next", "main", "Next", "words", ["model"])
        opened = open_rollback(scene.root, "charged twice", None)
        assert [pull.number for pull in opened.beside] == [model.number]
        assert f"outdated once this is merged: #{model.number}\n" in opened.kept.pull.body

    def test_a_run_by_hand_from_another_branch_is_refused(self, scene, monkeypatch):
        before = scene.refs()
        monkeypatch.setenv("GITHUB_EVENT_NAME", "workflow_dispatch")
        monkeypatch.setenv("GITHUB_REF", "refs/heads/topic")
        with pytest.raises(ForgeError, match="started from refs/heads/topic, and runs from main alone"):
            open_rollback(scene.root, "charged twice", None)
        assert scene.refs() == before
        monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
        assert open_rollback(scene.root, "charged twice", None).sound

    def test_a_persons_commit_on_its_branch_stays(self, scene):
        opened = open_rollback(scene.root, "charged twice", None)
        theirs = scene.commit(opened.kept.pull.branch, "notes.txt", "why")
        with pytest.raises(OutdatedError, match="people have committed"):
            open_rollback(scene.root, "charged three times", None)
        assert scene.forge.git.find(opened.kept.pull.branch) == theirs

    def test_a_model_that_is_damaged_in_the_store_gets_a_red_check(self, scene):
        previous = spec(scene).previous
        scene.commit("main", f"store/{previous.source}", "[]")
        opened = open_rollback(scene.root, "charged twice", None)
        assert not opened.sound
        assert check_of(scene, opened.kept.commit)["success"] is False

    def test_after_it_the_next_model_can_be_proposed(self, scene):
        opened = open_rollback(scene.root, "charged twice", None)
        scene.forge.merge(opened.kept.pull.number)
        back = spec(scene).stable
        release_next(scene, 4)
        assert (spec(scene).stable.version, spec(scene).previous) == (4, back)
        assert [hold.reason for hold in spec(scene).holds] == ["charged twice"]

    def test_without_a_pull_request_the_work_tree_alone_changes(self, scene):
        before = scene.refs()
        _, text = roll_back_here(scene.root, "charged twice", 1)
        assert yaml.safe_load(text)["spec"]["stable"]["version"] == 1
        assert scene.refs() == before


class TestARevertedRelease:
    def test_the_branch_changes_no_model_that_is_to_be_judged_and_its_merge_is_sound(self, scene):
        before, served = scene.main(), spec(scene).stable
        scene.person.fetch("origin")
        scene.person.run("switch", "--quiet", "--force-create", "undo", "origin/main")
        merge = ["-m", "1"] if len(scene.person.run("rev-list", "--parents", "-1", "HEAD").split()) > 2 else []
        scene.person.run("revert", "--no-edit", *merge, "HEAD", settings=scene.person.identity())
        scene.person.push("origin", "undo", expected=None)
        scene.git.run("fetch", "--quiet", "origin")
        scene.git.run("reset", "--quiet", "--hard", "origin/undo")
        made = build_bundle(scene.root, scene.folder / "handed", 9, None, lambda _: None)
        assert (made.state, made.error) == ("unchanged", None)
        assert made.headline == "takes production back to version 2"
        assert verify_history(scene.root, "flights", before)[0].status == "pass"
        assert spec(scene, "undo").stable.version == 2 != served.version


class TestSigning:
    """Versions 1 to 3 were released before the policy asked for signatures."""

    @pytest.fixture
    def required(self, scene, monkeypatch):
        private, public = make_key_pair(scene.folder / "keys")
        monkeypatch.setenv(KEY_VARIABLE, str(private))
        values = yaml.safe_load((scene.person.folder / "params.yaml").read_text())
        scene.commit("main", "deploy/signing.pub", public.read_text())
        scene.commit("main", "params.yaml", yaml.safe_dump({**values, "release": {"signing": {"policy": "required"}}}))
        scene.git.run("fetch", "--quiet", "origin")
        scene.git.run("reset", "--quiet", "--hard", "origin/main")
        return scene

    def test_an_unsigned_version_is_signed_by_the_rollback_to_it_once(self, required):
        opened = open_rollback(required.root, "both were bad", 1)
        assert opened.sound, opened.checks
        path = signature_path(spec(required, opened.kept.commit).stable.digest)
        assert required.forge.git.blob(f"{opened.kept.commit}:{path}")
        assert open_rollback(required.root, "both were bad", 1).kept.commit == opened.kept.commit

    def test_without_the_key_it_is_refused_with_what_to_do(self, required, monkeypatch):
        monkeypatch.delenv(KEY_VARIABLE)
        for go in (open_rollback, roll_back_here):
            with pytest.raises(SignatureError, match="no private key") as caught:
                go(required.root, "both were bad", 1)
            assert KEY_VARIABLE in caught.value.hint
        assert not required.forge.list_open()
        assert open_hold(required.root, "sha256:" + "9" * 64, "leaks").kept.pull  # which changes nothing that serves

    def test_in_the_work_tree_it_is_signed_too(self, required):
        _, text = roll_back_here(required.root, "both were bad", 1)
        digest = parse_manifest(text).spec.stable.digest
        assert (required.root / signature_path(digest)).is_file()


class TestLift:
    def test_the_hold_goes_in_a_pull_request(self, scene):
        failed = spec(scene).stable
        scene.forge.merge(open_rollback(scene.root, "charged twice", None).kept.pull.number)
        opened = open_lift(scene.root, failed.digest)
        assert spec(scene, opened.kept.commit).holds == ()
        assert "charged twice" in opened.kept.pull.body
        assert check_of(scene, opened.kept.commit)["success"] is True

    def test_a_hold_that_is_not_there_is_told(self, scene):
        with pytest.raises(ManifestError, match="is not under a hold"):
            open_lift(scene.root, "sha256:" + "9" * 64)


class TestHistory:
    def test_releases_and_rollbacks_are_sound(self, scene):
        first = scene.forge.git.run("rev-list", "--max-parents=0", "main")
        scene.forge.merge(open_rollback(scene.root, "both were bad", 1).kept.pull.number)
        Git(scene.root).run("pull", "--quiet", "origin", "main")
        assert verify_history(scene.root, "flights", first)[0].status == "pass"

    def test_a_release_that_was_judged_against_another_champion_is_found(self, scene):
        before = scene.main()
        text = scene.base_text()
        for role, version in (("stable", 3), ("previous", 2)):
            assert yaml.safe_load(text)["spec"][role]["version"] == version
        blind = text.replace("version: 3", "version: 4").replace(
            yaml.safe_load(text)["spec"]["stable"]["digest"], "sha256:" + "5" * 64
        )
        scene.commit("main", "deploy/manifest.yaml", blind)
        Git(scene.root).run("pull", "--quiet", "origin", "main")
        (found,) = verify_history(scene.root, "flights", before)
        assert found.status == "fail"
        assert "version 4 was judged against version 2, and replaced version 3" in found.value

    def test_a_commit_that_nobody_knows_is_told(self, scene):
        assert verify_history(scene.root, "flights", "0" * 40)[0].status == "skip"
