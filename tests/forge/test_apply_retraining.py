"""Fresh data that come along with a proposal: what may come is committed, and everything else is refused."""

import hashlib
import json
import threading

import pytest
import yaml
from handed_proposals import Scene, put_object
from release_examples import lineage, model_folder

from mergeline.forge.git import Git
from mergeline.forge.retraining import attempts
from mergeline.release.handover import HandedState
from mergeline.release.outcome import Outcome

BRANCH = "retrain/flights"
OLD = {"2013-01.parquet": b"january", "2013-02.parquet": b"february"}
FRESH = "2013-03-01_2013-03-20.parquet"


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder(files):
    """The listing of a folder, and the files in it, as DVC's store names them."""
    entries = [{"md5": md5(content), "relpath": name} for name, content in sorted(files.items())]
    return json.dumps(entries).encode()


@pytest.fixture
def scene(tmp_path):
    """Main has two partitions."""
    scene = Scene(tmp_path)
    listing = folder(OLD)
    for content in OLD.values():
        put_object(scene.store, content)
    put_object(scene.store, listing, ".dir")
    text = f"outs:\n- md5: {md5(listing)}.dir\n  size: 15\n  nfiles: 2\n  hash: md5\n  path: data\n"
    scene.commit("main", "data.dvc", text)
    scene.person.run("add", "--all")
    scene.person.commit("The data", ".")
    scene.person.push("origin", "main", expected=scene.main())
    return scene


def hand_over(scene, files=None, seed=2, **told):
    """The proposal of a model that was trained on these data, on main."""
    files = {**OLD, FRESH: b"march"} if files is None else files
    listing = folder(files)
    data = f"md5:{md5(listing)}.dir"
    place = scene.folder / "models" / f"{seed}-{md5(listing)}"
    if not place.exists():
        model_folder(place, seed)
    own = lineage(seed).model_copy(update={"data": told.pop("trained_on", data)})
    (place / "lineage.json").write_text(own.model_dump_json())
    scene.hand_over(None, seed, **told, folder=place, lineage=own)
    for name, content in files.items():
        if OLD.get(name) != content:
            put_object(scene.made / "objects", content)
    put_object(scene.made / "objects", listing, ".dir")
    (scene.made / "evidence.md").write_text("A gain of +0.02. @everyone")
    scene.retell(data=data)
    return data


def apply_it(scene, branch=BRANCH):
    return scene.apply(branch=branch)


def refused(scene, words):
    before = scene.refs()
    applied = apply_it(scene)
    assert applied.outcome is Outcome.REFUSED
    assert words in applied.error.what
    assert scene.refs() == before


class TestTakenIn:
    def test_one_commit_has_the_data_the_model_and_the_evidence_in_its_pull_request(self, scene):
        hand_over(scene)
        applied = apply_it(scene)
        assert applied.outcome is Outcome.APPLIED, applied.error
        (pull,) = scene.forge.list_open()
        assert (pull.branch, pull.title) == (BRANCH, "flights: version 2, retrained")
        assert set(pull.labels) == {"model", "retraining"}
        assert "A gain of +0.02" in pull.body
        assert "@everyone" not in pull.body
        (out,) = yaml.safe_load(scene.forge.git.show(BRANCH, "data.dvc"))["outs"]
        listing = folder({**OLD, FRESH: b"march"})
        assert out == {"md5": f"{md5(listing)}.dir", "size": 20, "nfiles": 3, "hash": "md5", "path": "data"}
        stored = set(scene.forge.git.run("ls-tree", "-r", "--name-only", BRANCH).split())
        assert f"store/files/md5/{md5(b'march')[:2]}/{md5(b'march')[2:]}" in stored
        assert scene.manifest(BRANCH).spec.stable.version == 2

    def test_it_is_made_again_on_main_and_one_pull_request_is_kept(self, scene):
        hand_over(scene)
        first = apply_it(scene)
        scene.commit("main", "notes.txt", "words")
        hand_over(scene, {**OLD, FRESH: b"march, and more"}, 3)
        second = apply_it(scene)
        assert second.outcome is Outcome.APPLIED, second.error
        (pull,) = scene.forge.list_open()
        assert (pull.number, second.pull) == (first.pull, first.pull)
        assert scene.forge.git.find(f"{BRANCH}^") == scene.main()

    def test_the_same_twice_writes_nothing(self, scene):
        hand_over(scene)
        apply_it(scene)
        before = scene.refs()
        assert apply_it(scene).outcome is Outcome.NOTHING
        assert scene.refs() == before

    def test_two_runs_at_once_keep_one_pull_request_and_lose_nothing(self, scene, tmp_path):
        hand_over(scene)
        roots = [Git.clone(scene.forge.url, tmp_path / f"run-{n}").folder for n in range(2)]
        outcomes = []
        threads = [
            threading.Thread(target=lambda root=root: outcomes.append(scene.apply(branch=BRANCH, root=root).outcome))
            for root in roots
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Outcome.REFUSED not in outcomes
        assert len(outcomes) == 2
        assert {Outcome.APPLIED, Outcome.NOTHING} & set(outcomes)
        assert len(scene.forge.list_open()) == 1
        assert scene.manifest(BRANCH).spec.stable.version == 2

    def test_a_persons_commit_on_it_is_never_thrown_away_and_the_pull_request_says_so(self, scene):
        hand_over(scene)
        apply_it(scene)
        theirs = scene.commit(BRANCH, "notes.txt", "mine")
        hand_over(scene, {**OLD, FRESH: b"march, and more"}, 3)
        applied = apply_it(scene)
        assert applied.outcome is Outcome.OUTDATED
        assert scene.forge.git.find(BRANCH) == theirs
        (pull,) = scene.forge.list_open()
        words = (scene.forge.folder / "pulls" / str(pull.number) / "comments" / "retraining.md").read_text()
        assert "people have committed to the branch" in words

    @pytest.mark.parametrize("squash", [False, True])
    def test_its_merge_and_its_branch_are_found_again_for_the_cool_down(self, scene, squash):
        git = Git(scene.root)
        hand_over(scene)
        applied = apply_it(scene)
        git.fetch("origin")
        assert len(attempts(git, scene.main(), BRANCH, "data.dvc", applied.commit)) == 1
        assert attempts(git, scene.main(), BRANCH, "data.dvc", None) == ()
        scene.forge.merge(applied.pull, squash=squash)
        git.fetch("origin")
        for tip in (None, applied.commit):  # the branch may stay after its merge
            assert len(attempts(git, scene.main(), BRANCH, "data.dvc", tip)) == 1
        assert not scene.forge.list_open()


class TestRefused:
    def test_a_partition_that_changes(self, scene):
        hand_over(scene, {**OLD, "2013-01.parquet": b"other", FRESH: b"march"})
        refused(scene, "it changes or takes away 2013-01.parquet")

    def test_a_partition_that_goes(self, scene):
        hand_over(scene, {"2013-02.parquet": OLD["2013-02.parquet"], FRESH: b"march"})
        refused(scene, "it changes or takes away 2013-01.parquet")

    @pytest.mark.parametrize(
        "name", ["2012-12.parquet", "2013-02.csv", "sub/2013-03.parquet", "2013-03.py", "2013-01-31.parquet"]
    )
    def test_a_file_that_is_no_newer_partition(self, scene, name):
        hand_over(scene, {**OLD, name: b"march"})
        refused(scene, "is no partition that comes after 2013-02")

    def test_a_listing_that_leaves_the_folder(self, scene):
        hand_over(scene, {**OLD, "../2013-03.parquet": b"march"})
        refused(scene, "the listing names")

    def test_no_new_partition_or_too_many(self, scene):
        hand_over(scene, {**OLD, **{f"2014-{n:03d}.parquet": bytes([n]) for n in range(101)}})
        refused(scene, "it brings 101 partitions")

    def test_a_new_partition_that_is_nowhere(self, scene):
        hand_over(scene)
        name = f"objects/files/md5/{md5(b'march')[:2]}/{md5(b'march')[2:]}"
        (scene.made / name).unlink()
        refused(scene, "a new partition is not in the proposal")

    def test_bytes_that_are_not_what_their_name_says(self, scene):
        hand_over(scene)
        scene.replace(f"objects/files/md5/{md5(b'march')[:2]}/{md5(b'march')[2:]}", b"april")
        refused(scene, "its name promises")

    def test_a_model_that_was_trained_on_other_data(self, scene):
        hand_over(scene, trained_on="md5:" + "0" * 32 + ".dir")
        refused(scene, "the model was trained on md5:000")

    def test_a_lock_that_was_run_on_other_data(self, scene):
        hand_over(scene)
        scene.rewrite_lock(
            lambda tree: tree["stages"]["train"]["deps"].append({"path": "data", "md5": "1" * 32 + ".dir"})
        )
        refused(scene, "stage train was run on other data")

    def test_on_a_persons_pull_request(self, scene):
        hand_over(scene)
        pull = scene.pull()
        scene.retell(pull=pull.number, head=pull.head)
        before = scene.refs()
        applied = scene.apply(pull)
        assert applied.outcome is Outcome.REFUSED
        assert scene.refs() == before


def test_a_retraining_that_the_gate_rejects_is_told_in_one_issue_of_its_own(scene):
    for _ in range(2):
        hand_over(scene)
        scene.retell(state=HandedState.REJECTED)
        for name in ("files/dvc.lock", "files/deploy/manifest.yaml"):
            (scene.made / name).unlink()
        assert apply_it(scene).outcome is Outcome.NOTHING
    (issue,) = (scene.forge.folder / "issues").iterdir()
    told = yaml.safe_load(issue.read_text())
    assert (issue.stem, told["title"]) == ("retrain-flights", "flights: a retrained model is rejected")
