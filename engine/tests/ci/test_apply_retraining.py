"""Fresh data that come along with a proposal: what may come is committed, and everything else is refused."""

import hashlib
import json
import threading
from datetime import UTC, datetime

import pandas as pd
import pytest
import yaml
from bundle_examples import put_object
from release_examples import lineage, model_folder, params

from mergeline.ci.build_bundle import build_bundle
from mergeline.ci.bundle import ApplyOutcome, ApplyResult, ProposalSummary
from mergeline.dataset.quarantine import REASON, FreshPart, Ingested, SortedRows
from mergeline.errors import DataError, ForgeError
from mergeline.github.git import Git
from mergeline.release.proposal import ProposalStatus
from mergeline.retrain.cool_down import Step
from mergeline.retrain.pull_request import Watch, attempts, is_done, prepare, read_watch
from mergeline.watch.challenge import Challenge, Challenged, Proof
from mergeline.watch.results import Outcome as Verdict

BRANCH = "retrain/flights"
OLD = {"2013-01.parquet": b"january", "2013-02.parquet": b"february"}
FRESH = "2013-03-01_2013-03-20.parquet"


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder(files):
    """The listing of a folder, and the files in it, as DVC's store names them."""
    entries = [{"md5": md5(content), "relpath": name} for name, content in sorted(files.items())]
    return json.dumps(entries).encode()


@pytest.fixture(scope="session")
def scene_with_data(made_scene, tmp_path_factory):
    """Main has two partitions."""
    scene = made_scene.copy(tmp_path_factory.mktemp("with-data") / "scene")
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


@pytest.fixture
def scene(scene_with_data, tmp_path):
    return scene_with_data.copy(tmp_path / "scene")


def bundle(scene, files=None, seed=2, **summary):
    """The proposal of a model that was trained on these data, on main."""
    files = {**OLD, FRESH: b"march"} if files is None else files
    listing = folder(files)
    data = f"md5:{md5(listing)}.dir"
    place = scene.folder / "models" / f"{seed}-{md5(listing)}"
    if not place.exists():
        model_folder(place, seed)
    own = lineage(seed).model_copy(update={"data": summary.pop("trained_on", data)})
    (place / "lineage.json").write_text(own.model_dump_json())
    scene.bundle(None, seed, **summary, folder=place, lineage=own)
    for name, content in files.items():
        if OLD.get(name) != content:
            put_object(scene.made / "objects", content)
    put_object(scene.made / "objects", listing, ".dir")
    (scene.made / "evidence.md").write_text("A gain of +0.02. @everyone")
    scene.resummarise(data=data)
    return data


NOW = datetime(2026, 3, 10, tzinfo=UTC)


def challenged(proof=Proof.PROVEN, rows=1000, bad=0):
    """What a challenge found, with one fresh partition where there are good rows."""
    partitions = ("2013-03-01_2013-03-20",) if rows else ()
    frame = pd.DataFrame({"late": [True] * rows})
    ingested = Ingested(partitions=partitions, rows=rows, known=0, late=0, quarantined=bad, reasons={"x: breaks": bad})
    result = Challenged(
        name="flights", version=1, digest="sha256:1", proof=proof, headline="as it is", reasons=(), trained=1,
        judged=rows, missing=0, first=None, last=None, metric="log_loss", champion=None, challenger=None, gain=None,
        ingested=ingested, made_at=NOW,
    )  # fmt: skip
    aside = pd.DataFrame({"late": [None] * bad, REASON: ["x: breaks"] * bad})
    sorted_rows = SortedRows(frame, aside, (), pd.Series([NOW] * rows), 0, 0)
    return Challenge(result, tuple(FreshPart(name, frame) for name in partitions), sorted_rows)


def prepared(scene, found, watch=None, *, name="flights", output=None):
    """Prepare a retraining on main's newest commit; returns it and the lines of progress."""
    lines = []
    scene.git.fetch("origin")
    scene.git.run("reset", "--quiet", "--hard", "origin/main")
    settings = params().model_copy(update={"name": name})
    watch = watch or Watch(Verdict.DRIFT, "amount has moved", scene.manifest("main").spec.stable.digest)
    done = prepare(scene.root, settings, lambda manifest: found, watch, now=NOW, tell=True, say=lines.append,
                   folder=output)  # fmt: skip
    return done, lines


def apply_it(scene, branch=BRANCH):
    return scene.apply(branch=branch)


def refused(scene, words):
    before = scene.refs()
    applied = apply_it(scene)
    assert applied.outcome is ApplyOutcome.REFUSED
    assert words in applied.error.what
    assert scene.refs() == before


class TestTakenIn:
    def test_one_commit_has_the_data_the_model_and_the_evidence_in_its_pull_request(self, scene):
        bundle(scene)
        applied = apply_it(scene)
        assert applied.outcome is ApplyOutcome.APPLIED, applied.error
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
        bundle(scene)
        first = apply_it(scene)
        scene.commit("main", "notes.txt", "words")
        bundle(scene, {**OLD, FRESH: b"march, and more"}, 3)
        second = apply_it(scene)
        assert second.outcome is ApplyOutcome.APPLIED, second.error
        (pull,) = scene.forge.list_open()
        assert (pull.number, second.pull) == (first.pull, first.pull)
        assert scene.forge.git.find(f"{BRANCH}^") == scene.main()

    def test_the_same_twice_writes_nothing(self, scene):
        bundle(scene)
        apply_it(scene)
        before = scene.refs()
        assert apply_it(scene).outcome is ApplyOutcome.NOTHING
        assert scene.refs() == before

    def test_two_runs_at_once_keep_one_pull_request_and_lose_nothing(self, scene, tmp_path):
        bundle(scene)
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
        assert ApplyOutcome.REFUSED not in outcomes
        assert len(outcomes) == 2
        assert {ApplyOutcome.APPLIED, ApplyOutcome.NOTHING} & set(outcomes)
        assert len(scene.forge.list_open()) == 1
        assert scene.manifest(BRANCH).spec.stable.version == 2

    def test_a_persons_commit_on_it_is_never_thrown_away_and_the_pull_request_says_so(self, scene):
        bundle(scene)
        apply_it(scene)
        theirs = scene.commit(BRANCH, "notes.txt", "mine")
        bundle(scene, {**OLD, FRESH: b"march, and more"}, 3)
        applied = apply_it(scene)
        assert applied.outcome is ApplyOutcome.OUTDATED
        assert scene.forge.git.find(BRANCH) == theirs
        (pull,) = scene.forge.list_open()
        words = (scene.forge.folder / "pulls" / str(pull.number) / "comments" / "retraining.md").read_text()
        assert "people have committed to the branch" in words

    @pytest.mark.parametrize("squash", [False, True])
    def test_its_merge_and_its_branch_are_found_again_for_the_cool_down(self, scene, squash):
        git = Git(scene.root)
        bundle(scene)
        applied = apply_it(scene)
        git.fetch("origin")
        assert len(attempts(git, scene.main(), BRANCH, "data.dvc", applied.commit)) == 1
        assert attempts(git, scene.main(), BRANCH, "data.dvc", None) == ()
        scene.forge.merge(applied.pull, squash=squash)
        git.fetch("origin")
        for tip in (None, applied.commit):  # the branch may stay after its merge
            assert len(attempts(git, scene.main(), BRANCH, "data.dvc", tip)) == 1
        assert not scene.forge.list_open()

    def test_a_merge_from_githubs_own_button_is_found_and_others_of_that_name_are_not(self, scene):
        git = Git(scene.root)
        for title in (
            "Merge pull request #5 from octo/retrain/flights",
            "Merge pull request #6 from octo/my/retrain/flights",
        ):
            scene.commit("main", "data.dvc", f"# {title}")
            scene.person.run("commit", "--quiet", "--amend", "--message", title, settings=scene.person.identity())
            scene.person.run("push", "--quiet", "--force", "origin", "main")
        git.fetch("origin")
        assert len(attempts(git, scene.main(), BRANCH, "data.dvc", None)) == 1


class TestPrepared:
    def test_a_proven_gain_is_laid_out_and_a_second_time_made_anew(self, scene, tmp_path):
        for _ in range(2):
            done, _ = prepared(scene, challenged(), output=tmp_path / "out")
        assert (done.step, done.folder) == (Step.PROPOSE, tmp_path / "out")
        assert [path.name for path in (done.folder / "partitions").iterdir()] == [FRESH]
        assert "amount has moved" in (done.folder / "evidence.md").read_text()

    @pytest.mark.parametrize("name", ["partitions/thesis.parquet", "notes.txt"])
    def test_a_folder_of_somebodys_own_is_left_alone(self, scene, tmp_path, name):
        theirs = tmp_path / "out" / name
        theirs.parent.mkdir(parents=True)
        theirs.write_text("mine")
        with pytest.raises(DataError, match="holds something else"):
            prepared(scene, challenged(), output=tmp_path / "out")
        assert theirs.read_text() == "mine"
        assert not (tmp_path / "out" / "challenge.json").exists()

    def test_a_file_among_the_partitions_that_is_none_is_left_alone(self, scene, tmp_path):
        prepared(scene, challenged(), output=tmp_path / "out")
        theirs = tmp_path / "out" / "partitions" / "notes.txt"
        theirs.write_text("mine")
        with pytest.raises(DataError, match="holds something else"):
            prepared(scene, challenged(), output=tmp_path / "out")
        assert theirs.exists()

    @pytest.mark.parametrize(("proof", "rows"), [(Proof.TOO_FEW, 0), (Proof.TOO_FEW, 20), (Proof.PROVEN, 100)])
    def test_too_many_bad_rows_are_the_error_and_lie_in_quarantine(self, scene, proof, rows):
        with pytest.raises(DataError, match="break the schema") as caught:
            prepared(scene, challenged(proof, rows, bad=50))
        assert "run mergeline retrain" in caught.value.hint
        lines = (scene.root / "build" / "quarantine" / "quarantine.jsonl").read_text().splitlines()
        assert len(lines) == 50
        assert not (scene.forge.folder / "issues").exists()

    def test_missing_labels_are_told_in_an_issue(self, scene):
        done, _ = prepared(scene, challenged(Proof.TOO_FEW))
        assert done.step is Step.TOO_FEW
        assert (scene.forge.folder / "issues" / "retraining-flights.yaml").exists()

    def test_drift_of_another_model_opens_no_issue(self, scene):
        prepared(scene, challenged(Proof.TOO_FEW), Watch(Verdict.DRIFT, "amount has moved", "sha256:" + "9" * 64))
        assert not (scene.forge.folder / "issues").exists()

    @pytest.mark.parametrize(("proof", "step"), [(Proof.TOO_FEW, Step.TOO_FEW), (Proof.PROVEN, Step.PROPOSE)])
    def test_a_forge_that_takes_no_issue_stops_nothing(self, scene, proof, step):
        done, lines = prepared(scene, challenged(proof), name="FLIGHTS")  # no key of an issue has capital letters
        assert done.step is step
        assert any("no issue says which labels are missing" in line for line in lines) is (step is Step.TOO_FEW)

    def test_what_is_not_committed_is_an_error(self, scene):
        scene.git.fetch("origin")
        scene.git.run("reset", "--quiet", "--hard", "origin/main")
        (scene.root / "code.py").write_text("2")
        with pytest.raises(ForgeError, match="not committed: code.py"):
            prepare(scene.root, params(), lambda manifest: challenged(), Watch(), now=NOW, tell=False, say=print)


def test_rows_are_not_lost_where_main_moves_on_before_they_are_taken_in(scene, tmp_path):
    scene.git.fetch("origin")
    scene.git.run("reset", "--quiet", "--hard", "origin/main")
    scene.commit("main", "notes.txt", "words")
    made = build_bundle(scene.root, tmp_path / "handed", None, None, lambda line: None, tmp_path / "laid-out")
    assert (made.state, made.error.what) == (ProposalStatus.FAILED, "main moved on since the rows were laid out")


def test_a_proposal_that_an_error_stopped_is_not_done(scene):
    told = {"name": "flights", "head": scene.main(), "base": scene.main()}
    nothing = ApplyResult(outcome=ApplyOutcome.NOTHING)
    ends = {state: is_done(ProposalSummary(**told, state=state), nothing) for state in ProposalStatus}
    assert [state for state, done in ends.items() if not done] == [ProposalStatus.FAILED]


def test_the_drift_evidence_names_its_model(tmp_path):
    path = tmp_path / "watch.json"
    assert read_watch(path) == Watch()
    path.write_text(json.dumps({"outcome": "drift", "headline": "so", "digest": "sha256:1"}))
    assert read_watch(path) == Watch(Verdict.DRIFT, "so", "sha256:1")
    path.write_text(json.dumps({"outcome": "drift", "headline": "so"}))
    with pytest.raises(DataError, match="not what mergeline watch writes"):
        read_watch(path)


class TestRefused:
    def test_a_partition_that_changes(self, scene):
        bundle(scene, {**OLD, "2013-01.parquet": b"other", FRESH: b"march"})
        refused(scene, "it changes or takes away 2013-01.parquet")

    def test_a_partition_that_goes(self, scene):
        bundle(scene, {"2013-02.parquet": OLD["2013-02.parquet"], FRESH: b"march"})
        refused(scene, "it changes or takes away 2013-01.parquet")

    @pytest.mark.parametrize(
        "name", ["2012-12.parquet", "2013-02.csv", "sub/2013-03.parquet", "2013-03.py", "2013-01-31.parquet"]
    )
    def test_a_file_that_is_no_newer_partition(self, scene, name):
        bundle(scene, {**OLD, name: b"march"})
        refused(scene, "is no partition that comes after 2013-02")

    def test_a_listing_that_leaves_the_folder(self, scene):
        bundle(scene, {**OLD, "../2013-03.parquet": b"march"})
        refused(scene, "the listing names")

    def test_no_new_partition_or_too_many(self, scene):
        bundle(scene, {**OLD, **{f"2014-{n:03d}.parquet": bytes([n]) for n in range(101)}})
        refused(scene, "it brings 101 partitions")

    def test_a_new_partition_that_is_nowhere(self, scene):
        bundle(scene)
        name = f"objects/files/md5/{md5(b'march')[:2]}/{md5(b'march')[2:]}"
        (scene.made / name).unlink()
        refused(scene, "a new partition is not in the proposal")

    def test_bytes_that_are_not_what_their_name_says(self, scene):
        bundle(scene)
        scene.replace(f"objects/files/md5/{md5(b'march')[:2]}/{md5(b'march')[2:]}", b"april")
        refused(scene, "its name promises")

    def test_a_model_that_was_trained_on_other_data(self, scene):
        bundle(scene, trained_on="md5:" + "0" * 32 + ".dir")
        refused(scene, "the model was trained on md5:000")

    def test_a_lock_that_was_run_on_other_data(self, scene):
        bundle(scene)
        scene.rewrite_lock(
            lambda tree: tree["stages"]["train"]["deps"].append({"path": "data", "md5": "1" * 32 + ".dir"})
        )
        refused(scene, "stage train was run on other data")

    def test_on_a_persons_pull_request(self, scene):
        bundle(scene)
        pull = scene.pull()
        scene.resummarise(pull=pull.number, head=pull.head)
        before = scene.refs()
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert scene.refs() == before


def test_a_retraining_that_the_gate_rejects_is_told_in_one_issue_of_its_own(scene):
    for _ in range(2):
        bundle(scene)
        scene.resummarise(state=ProposalStatus.REJECTED)
        (scene.made / "dvc.lock").unlink()
        assert apply_it(scene).outcome is ApplyOutcome.NOTHING
    (issue,) = (scene.forge.folder / "issues").iterdir()
    told = yaml.safe_load(issue.read_text())
    assert (issue.stem, told["title"]) == ("retrain-flights", "flights: a retrained model is rejected")
