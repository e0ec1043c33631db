"""Applying a proposal: what is committed, what is refused, and who wins when several push at once."""

import concurrent.futures
import json
import os
import pickle
import shutil
import time

import pytest
import yaml
from bundle_examples import PIPELINE, Scene, lock_text, put_object, verdict_of
from release_examples import model_folder, push

from mergeline.ci.bundle import ApplyOutcome, ProposalStatus, read_outcomes
from mergeline.errors import ForgeError
from mergeline.files import pack_zip
from mergeline.github.git import Git
from mergeline.manifest.signatures import KEY_VARIABLE, make_key_pair
from mergeline.model.artifact import folder_digest
from mergeline.release.proposal import verdict_digest


@pytest.fixture(scope="session")
def asked(made_scene, tmp_path_factory):
    """A scene with an open pull request, that no test changes."""
    scene = made_scene.copy(tmp_path_factory.mktemp("asked") / "scene")
    scene.pull()
    return scene


@pytest.fixture
def scene(request, made_scene, tmp_path):
    """A scene of the test's own, with a pull request for those that take one."""
    source = request.getfixturevalue("asked") if "pull" in request.fixturenames else made_scene
    return source.copy(tmp_path / "scene")


@pytest.fixture
def pull(scene):
    return scene.forge.get(1)


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

    def test_without_the_key_nothing_is_written(self, signed, monkeypatch):
        monkeypatch.delenv(KEY_VARIABLE)
        pull = signed.pull()
        signed.bundle(pull)
        before = signed.refs()
        applied = signed.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "no private key" in applied.error.what
        assert signed.refs() == before


def link(scene):
    (scene.made / "report.md").unlink()
    (scene.made / "report.md").symlink_to("/etc/passwd")


def linked_folder(scene):
    (scene.made / "objects").rename(scene.folder / "moved")
    (scene.made / "objects").symlink_to(scene.folder / "moved")


def pipe(scene):
    (scene.made / "model-card.md").unlink(missing_ok=True)
    os.mkfifo(scene.made / "model-card.md")


def many(scene):
    for number in range(10_000):
        name = f"objects/files/md5/{number % 256:02x}/{number:030x}"
        (scene.made / name).parent.mkdir(parents=True, exist_ok=True)
        (scene.made / name).touch()


def many_folders(scene):
    for number in range(5_000):
        (scene.made / "objects/files/md5" / f"{number % 256:02x}" / f"{number:030x}").mkdir(parents=True)


def huge(scene):
    with (scene.made / "objects/files/md5/00" / ("0" * 30)).open("wb") as stream:
        stream.truncate(2 * 2**30)


def listing(*paths, md5="d41d8cd98f00b204e9800998ecf8427e"):
    def change(scene):
        entries = [{"relpath": path, "md5": md5} for path in paths]
        source = put_object(scene.made / "objects", json.dumps(entries).encode(), ".dir")
        scene.replace("dvc.lock", lock_text(source))

    return change


def write(name, content):
    return lambda scene: scene.replace(name, content)


def bomb(scene):
    levels = "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 12))
    scene.replace("dvc.lock", f"b0: &b0 [x]\n{levels}stages: {{}}\n")


def wrong_bytes(scene):
    name = next(path for path in (scene.made / "objects/files").rglob("*") if path.is_file())
    name.chmod(0o644)
    name.write_bytes(b"others")


def missing(scene):
    for path in (scene.made / "objects").rglob("*"):
        if path.is_file() and not path.name.endswith(".dir"):
            path.unlink()
            return


def tampered(scene):
    """Another model in place of the judged one: its objects are all there, and are what their names say."""
    shutil.rmtree(scene.made / "objects")
    source = push(scene.made / "objects", model_folder(scene.folder / "models" / f"other-{time.monotonic_ns()}", 99))
    scene.replace("dvc.lock", lock_text(source))


def forged(change):
    """A model that the gate is said to have accepted, with what `change` does to its folder."""

    def spoil(scene):
        folder = model_folder(scene.folder / "models" / f"forged-{time.monotonic_ns()}", 55)
        change(folder)
        shutil.rmtree(scene.made / "objects")
        scene.replace("dvc.lock", lock_text(push(scene.made / "objects", folder)))
        scene.replace("verdict.json", scene.verdict_of(folder_digest(folder)).model_dump_json())

    return spoil


def names_a_system_call(folder):
    node = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
    (folder / "model.skops").write_bytes(pack_zip({"schema.json": json.dumps(node).encode()}))


def is_of_another_project(folder):
    signature = json.loads((folder / "signature.json").read_text())
    (folder / "signature.json").write_text(json.dumps(signature | {"name": "shop"}))


def labels_everything(folder):
    signature = json.loads((folder / "signature.json").read_text())
    signature["output"]["threshold"] = 0
    (folder / "signature.json").write_text(json.dumps(signature))


def foreign_object(scene):
    put_object(scene.made / "objects", b"nobody asked for this")


def serving(scene):
    scene.bundle(scene.forge.get(1), 1)
    shutil.rmtree(scene.made / "objects")


def rejected(scene):
    digest = json.loads((scene.made / "proposal.json").read_text())["digest"]
    scene.replace("verdict.json", verdict_of(digest, accepted=False).model_dump_json())


HOSTILE = {
    "a link": (link, "neither a file nor a folder"),
    "a linked folder": (linked_folder, "neither a file nor a folder"),
    "a pipe": (pipe, "neither a file nor a folder"),
    "10,000 files": (many, "more than 4,000 files and folders"),
    "folders without end": (many_folders, "no such folder"),
    "a file of 2 GB": (huge, "too many: at most"),
    "a report of a million characters": (write("report.md", "x" * 1_000_000), "too many: at most"),
    "a report that is no text": (write("report.md", b"\xff\xfe\x00"), "not UTF-8"),
    "a workflow": (write(".github/workflows/model.yml", "on: push"), "no such folder"),
    "a manifest of its own": (write("deploy/manifest.yaml", "a: 1"), "no such folder"),
    "a file above the tree": (write("..manifest.yaml", "x"), "no such file"),
    "an entry of the run-cache": (write(f"objects/runs/{'a' * 2}/{'a' * 64}/{'b' * 64}", "cmd: x"), "no such folder"),
    "an object with another name": (write("objects/files/md5/zz/x", "x"), "no such folder"),
    "no proposal.json": (lambda scene: (scene.made / "proposal.json").unlink(), "there is no proposal.json"),
    "a proposal.json that nests": (write("proposal.json", "[" * 60_000), "not a proposal"),
    "a proposal.json of another kind": (write("proposal.json", '{"format": 2}'), "not a proposal"),
    "a model folder with ..": (listing("../../evil"), "the listing names"),
    "a model folder with a root": (listing("/etc/cron.d/evil"), "the listing names"),
    "a listing with a path for an md5": (listing("a", md5="../../../../../../etc/passwd"), "the listing names"),
    "a listing with one path twice": (listing("a/b", "a/./b"), "the listing names"),
    "a listing with a file that is a folder too": (listing("a", "a/b/c"), "as a file and as a folder"),
    "a listing with a path that ends early": (listing("a\0b"), "the listing names"),
    "a listing with a path in no script": (listing("\ud800"), "not a list of files"),
    "a listing with a name without end": (listing("a" * 300), "the listing names"),
    "a lock that is no YAML": (write("dvc.lock", "stages: ["), "not valid YAML"),
    "a lock that unfolds": (bomb, "aliases"),
    "a lock that nests": (write("dvc.lock", "stages: " + "[" * 5000), "more than 40 levels"),
    "a lock with a stage that nobody has": (
        lambda scene: scene.rewrite_lock(lambda tree: tree["stages"].update(deploy={"cmd": "x"})),
        "has no stage 'deploy'",
    ),
    "a lock whose stage ran another command": (
        lambda scene: scene.rewrite_lock(lambda tree: tree["stages"]["train"].update(cmd="train --fast")),
        "ran another command",
    ),
    "a lock that points to nowhere": (missing, "nowhere"),
    "bytes that are not what their name says": (wrong_bytes, "its name promises"),
    "a tampered model": (tampered, "has not accepted this model"),
    "a model that names a system call": (forged(names_a_system_call), "types that are not trusted: os.system"),
    "a pickle": (
        forged(lambda folder: (folder / "model.skops").write_bytes(pickle.dumps({}))),
        "not a pipeline that skops stores",
    ),
    "a model of another project": (forged(is_of_another_project), "signature of 'shop', not of 'flights'"),
    "a model that labels everything": (forged(labels_everything), "threshold is 0.0"),
    "a model with an odd file": (
        forged(lambda folder: (folder / "sitecustomize.py").write_text("1")),
        "no model has a file 'sitecustomize.py'",
    ),
    "a model with random trees": (
        forged(lambda folder: (folder / "scorer.onnx").write_bytes(b"x" * 99)),
        "parts of a scorer, and no scorer",
    ),
    "an object that no lock names": (foreign_object, "does not name this object"),
    "a lock without a model": (
        lambda scene: scene.rewrite_lock(lambda tree: tree["stages"]["train"]["outs"].clear()),
        "does not name this object",
    ),
    "a metric that is no number": (lambda scene: scene.resummarise(metrics={"roc_auc": "NaN"}), "metrics.roc_auc"),
    "a metric with a name of many lines": (lambda scene: scene.resummarise(metrics={"a\nb: c": 1.0}), "metrics"),
    "the proposal of the model that serves": (serving, "has this model already"),
    "a verdict against it": (rejected, "has not accepted"),
    "a verdict on another model": (
        write("verdict.json", verdict_of("sha256:" + "9" * 64).model_dump_json()),
        "has not accepted",
    ),
    "a verdict that is none": (write("verdict.json", "[]"), "not the gate's verdict"),
    "no verdict": (lambda scene: (scene.made / "verdict.json").unlink(), "there is no verdict.json"),
    "another pull request's number": (lambda scene: scene.resummarise(pull=9), "made for pull request 9"),
    "another commit": (lambda scene: scene.resummarise(head="a" * 40), "made for commit"),
    "another name": (lambda scene: scene.resummarise(name="shop"), "a proposal of shop"),
    "a base that is nowhere": (lambda scene: scene.resummarise(base="b" * 40), "no commit of main"),
    "a state that does not fit": (lambda scene: scene.resummarise(state="unchanged"), "dvc.lock names the model"),
}


class TestHostile:
    @pytest.fixture(scope="class")
    def target(self, made_scene, tmp_path_factory):
        """One scene for all: whatever is refused leaves it as it was."""
        scene = made_scene.copy(tmp_path_factory.mktemp("hostile") / "scene")
        scene.bundle(scene.pull())
        shutil.copytree(scene.made, scene.folder / "sound")
        scene.before = scene.refs(), scene.git.run("status", "--porcelain")
        return scene

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_it_is_refused_with_a_reason_and_nothing_is_written(self, target, kind):
        spoil, reason = HOSTILE[kind]
        shutil.rmtree(target.made, ignore_errors=True)
        shutil.copytree(target.folder / "sound", target.made)
        (target.made / "objects/files/md5/00").mkdir(parents=True, exist_ok=True)
        spoil(target)
        start = time.monotonic()
        applied = target.apply(target.forge.get(1), fresh=False)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert reason in f"{applied.error.where}: {applied.error.what}"
        assert (target.refs(), target.git.run("status", "--porcelain")) == target.before
        assert time.monotonic() - start < 20

    def test_a_sound_proposal_is_taken(self, scene, pull):
        scene.bundle(pull)
        assert scene.apply(pull).outcome is ApplyOutcome.APPLIED

    def test_a_model_under_a_hold_is_refused(self, scene, pull):
        release = scene.bundle(pull)
        held = scene.base_text().replace("holds: []", f"holds: [{{digest: {release.digest}, reason: it lost money}}]")
        scene.commit("main", "deploy/manifest.yaml", held)
        scene.resummarise(base=scene.main())
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "it lost money" in applied.error.what

    def test_words_in_the_folder_do_not_reach_the_commit(self, scene, pull):
        scene.bundle(pull, headline="[skip ci]\n\nCo-authored-by: me <a@b>")
        applied = scene.apply(pull)
        assert "skip ci" not in scene.forge.git.run("log", "-1", "--format=%B", applied.commit)


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
