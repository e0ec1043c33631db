"""Concluding from the jobs of a run whether a commit may be merged."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from bundle_examples import put_object
from release_examples import model_folder, release, stored_release

from mergeline.ci.bundle import ProposalSummary, write_bundle
from mergeline.ci.required_check import CommitFacts, Event, JobResult, Reproduced, decide
from mergeline.ci.required_check_run import check as check_run
from mergeline.ci.required_check_run import read_needs, read_reproduced
from mergeline.errors import ForgeError
from mergeline.files import pack_zip
from mergeline.github.git import Git
from mergeline.manifest.edit import promote, rollback
from mergeline.manifest.transitions import Change
from mergeline.release.proposal import ProposalStatus

DIGEST, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
SAME, NEW = CommitFacts(standing=Change.SAME), CommitFacts(standing=Change.OTHER, digest=DIGEST)
FORK = CommitFacts(standing=Change.SAME, fork=True)
BACK = CommitFacts(standing=Change.ROLLBACK, digest=OTHER)


def needs(
    state="proposed", outcome="applied", *, tests="success", reproduce="success", propose="success", plan="", **digests
):
    told = {"reproduced": DIGEST, "applied": DIGEST} | digests
    return {
        "plan": JobResult(
            result="success", outputs={name: "[]" if name == "models" else "false" for name in plan.split()}
        ),
        "tests": JobResult(result=tests),
        "reproduce": JobResult(result=reproduce, outputs={"state": state, "digest": told["reproduced"]}),
        "propose": JobResult(result=propose, outputs={"outcome": outcome, "digest": told["applied"]}),
    }


def concluded(jobs, event, commit):
    """What is concluded for one model, whose state and digest the job's outputs name here."""
    made = jobs["reproduce"].outputs if "reproduce" in jobs else {}
    state = made.get("state") if made.get("state") in set(ProposalStatus) else None
    return decide(jobs, event, {"flights": commit}, {"flights": Reproduced(state=state, digest=made.get("digest", ""))})


ACCEPTED = {
    "a proposal that was put on the branch": (needs(), Event.PULL, NEW),
    "a proposal that was there already": (needs(outcome="nothing"), Event.PULL, NEW),
    "a branch of its own that a person must open": (
        needs(outcome="pushed", tests="skipped", plan="tests"), Event.BRANCH, NEW,
    ),
    "no change of the model": (needs("unchanged", "nothing", applied=""), Event.PULL, SAME),
    "a held model that main itself makes": (needs("held", "nothing", applied=""), Event.PULL, SAME),
    "a rollback": (needs("held", "nothing", applied=""), Event.PULL, BACK),
    "a fork whose model is good": (needs(outcome="", propose="skipped"), Event.PULL, FORK),
    "a group that changes no model": (needs("unchanged", "", propose="skipped"), Event.GROUP, SAME),
    "a group whose manifest says what was made again": (needs(outcome="", propose="skipped"), Event.GROUP, NEW),
    "a group with a fork's change": (needs(outcome="", propose="skipped"), Event.GROUP, SAME),
    "a proposal without any files": (needs(outcome="nothing", applied=""), Event.PULL, SAME),
    "a branch of its own, whose code was tested on main": (needs(tests="skipped", plan="tests"), Event.BRANCH, NEW),
    "tests alone": (needs(reproduce="skipped", propose="skipped", plan="models"), Event.PULL, SAME),
    "words alone": (
        needs(tests="skipped", reproduce="skipped", propose="skipped", plan="tests models"), Event.PULL, SAME,
    ),
    "a workflow file that has no plan": ({k: v for k, v in needs().items() if k != "plan"}, Event.PULL, NEW),
}  # fmt: skip
REFUSED = {
    "tests that failed": (needs(tests="failure"), Event.PULL, NEW, "tests ended as failure"),
    "tests that were skipped": (needs(tests="skipped"), Event.PULL, NEW, "tests ended as skipped"),
    "tests that failed, whatever the plan says": (needs(tests="failure", plan="tests"), Event.PULL, NEW, "as failure"),
    "a model that was left out, and a manifest": (
        needs(reproduce="skipped", propose="skipped", plan="models"), Event.PULL, NEW, "not judged",
    ),
    "no plan": ({**needs(), "plan": JobResult(result="failure")}, Event.PULL, SAME, "plan ended as failure"),
    "a run that was cancelled": (needs(reproduce="cancelled"), Event.PULL, NEW, "ended as cancelled"),
    "no job at all": ({}, Event.PULL, SAME, "tests ended as cancelled"),
    "a rejected model": (needs("rejected", "nothing"), Event.PULL, SAME, "the model is rejected"),
    "an inconclusive model": (needs("inconclusive", "nothing"), Event.PULL, SAME, "the model is inconclusive"),
    "an error": (needs("failed", "nothing", reproduce="failure"), Event.PULL, SAME, "state failed"),
    "a state that nobody knows": (needs("fine"), Event.PULL, NEW, "state unknown"),
    "an outdated proposal": (needs(outcome="outdated"), Event.PULL, SAME, "outdated"),
    "a refused proposal": (needs(outcome="refused", propose="failure"), Event.PULL, SAME, "was refused"),
    "a proposal that was never put anywhere": (needs(outcome="", propose="skipped"), Event.PULL, SAME, "skipped"),
    "a manifest by hand": (needs("unchanged", "nothing", applied=""), Event.PULL, NEW, "not judged"),
    "a manifest by hand, and a lie": (needs(outcome="nothing", applied=""), Event.PULL, NEW, "not judged"),
    "another model than the one that was put there": (needs(applied=OTHER), Event.PULL, NEW, "not judged"),
    "a group with another model than was made": (
        needs(outcome="", propose="skipped", reproduced=OTHER), Event.GROUP, NEW, "not judged",
    ),
    "a group whose manifest nobody made": (
        needs("unchanged", "", propose="skipped"), Event.GROUP, NEW, "not judged",
    ),
    "a proposal of a model that cannot be served": (
        needs(), Event.PULL, NEW.model_copy(update={"unusable": "it names os.system"}), "cannot be served: it names",
    ),
    "a fork with a manifest": (
        needs(outcome="", propose="skipped"), Event.PULL, NEW.model_copy(update={"fork": True}), "not judged",
    ),
    "a fork with a rollback": (
        needs("held", "", propose="skipped"), Event.PULL, BACK.model_copy(update={"fork": True}), "not judged",
    ),
    "a fork with outputs": (
        needs(outcome="", propose="skipped"), Event.PULL, FORK.model_copy(update={"outputs": ("dvc.lock",)}),
        "a fork may not bring what the pipeline makes: dvc.lock",
    ),
}  # fmt: skip


class TestThePureConclusion:
    @pytest.mark.parametrize("kind", ACCEPTED)
    def test_it_accepts(self, kind):
        assert concluded(*ACCEPTED[kind]).accepted, concluded(*ACCEPTED[kind]).reasons

    @pytest.mark.parametrize("kind", REFUSED)
    def test_it_refuses_and_says_why(self, kind):
        jobs, event, commit, reason = REFUSED[kind]
        found = concluded(jobs, event, commit)
        assert not found.accepted
        assert reason.lower() in found.title.lower()
        assert any(line.startswith("❌") and reason in line for line in found.reasons)

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("a proposal that was put on the branch", "merging releases the model in the report"),
            ("no change of the model", "no model is changed"),
            ("a proposal without any files", "no model is changed"),
            ("a rollback", "takes production back"),
            ("a fork whose model is good", "merging releases nothing yet"),
        ],
    )
    def test_it_says_what_merging_does(self, kind, words):
        assert words in concluded(*ACCEPTED[kind]).title

    def test_of_several_models_each_has_its_lines_and_one_that_is_rejected_stops_them(self):
        commit = {"flights": NEW, "fraud": SAME, "iris": SAME}
        made = {"flights": Reproduced(state="proposed", digest=DIGEST), "fraud": Reproduced(state="rejected")}
        found = decide(needs(), Event.PULL, commit, made)
        assert (found.accepted, found.title) == (False, "Model fraud: the model is rejected")
        assert [line for line in found.reasons if "iris" in line] == []
        found = decide(needs(), Event.PULL, commit, made | {"fraud": Reproduced(state="unchanged")})
        assert (found.accepted, found.title) == (True, "Accepted: flights: merging releases the model in the report")

    def test_a_manifest_by_hand_of_a_model_that_nothing_else_touches_is_refused(self):
        made = {"flights": Reproduced(state="unchanged")}
        other = CommitFacts(standing=Change.OTHER, digest=OTHER, manifest="models/fraud/deploy/manifest.yaml")
        found = decide(needs("unchanged", "nothing", applied=""), Event.PULL, {"flights": SAME, "fraud": other}, made)
        assert not found.accepted
        assert "Release fraud: models/fraud/deploy/manifest.yaml names a model that was not judged" in found.title

    def test_one_of_several_whose_bundle_is_missing_counts_as_not_made(self):
        made = {"flights": Reproduced(state="proposed", digest=DIGEST), "fraud": Reproduced()}
        found = decide(needs(), Event.PULL, {"flights": NEW, "fraud": SAME}, made)
        assert "fraud: the model could not be made" in found.title

    def test_what_is_no_result_of_jobs_is_told(self):
        with pytest.raises(ForgeError, match="not the results of jobs"):
            read_needs('{"tests": {"result": "maybe"}}')
        with pytest.raises(ForgeError, match="NEEDS"):
            read_needs("")


def told(scene, pull, *, event="pull_request", outcome="nothing", state="unchanged", commit="", digest="", fork=False):
    """The environment of the job that concludes."""
    payload = scene.folder / "event.json"
    repository = {"full_name": "somebody/else" if fork else "team/flights"}
    head = {"sha": pull.head, "repo": repository}
    kinds = {
        "pull_request": {"pull_request": {"number": pull.number, "head": head}},
        "merge_group": {"merge_group": {"base_sha": scene.main()}},
        "workflow_dispatch": {"inputs": {"pull": str(pull.number)}},
        "push": {},
    }
    payload.write_text(json.dumps(kinds[event]))
    propose = {"result": "success", "outputs": {"outcome": outcome, "commit": commit, "digest": digest}}
    if fork or event == "merge_group":
        propose = {"result": "skipped", "outputs": {}}
    reproduce = {"result": "success", "outputs": {"state": state, "head": pull.head, "digest": digest}}
    plan = {"result": "success", "outputs": {"models": '["flights"]'}}
    summary = {"name": "flights", "state": state, "head": pull.head, "base": scene.main(), "digest": digest or None}
    write_bundle(scene.folder / "reproduced" / "flights", ProposalSummary(**summary))
    jobs = {"plan": plan, "tests": {"result": "success", "outputs": {}}, "reproduce": reproduce, "propose": propose}
    scene.git.run("reset", "--quiet", "--hard", "origin/main")
    return {
        "NEEDS": json.dumps(jobs),
        "GITHUB_EVENT_PATH": str(payload),
        "GITHUB_REPOSITORY": "team/flights",
        "GITHUB_SHA": pull.head,
    }


def check(root, environment):
    return check_run(root, environment, Path(environment["GITHUB_EVENT_PATH"]).with_name("reproduced"))


def checks(scene, commit):
    file = scene.forge.folder / "checks" / commit / "mergeline.yaml"
    return yaml.safe_load(file.read_text()) if file.exists() else None


class TestOnARepository:
    def test_the_commit_of_the_proposal_gets_the_check(self, scene):
        pull = scene.pull()
        scene.bundle(pull)
        applied = scene.apply(pull)
        values = {"outcome": "applied", "state": "proposed", "commit": applied.commit, "digest": applied.digest}
        assert check(scene.root, told(scene, pull, **values)).accepted
        assert checks(scene, applied.commit)["success"] is True
        assert checks(scene, pull.head) is None  # the job itself is the check there

    def test_a_refused_proposal_is_a_red_check_where_it_was_asked_for(self, scene):
        pull = scene.pull()
        environment = told(scene, pull, event="workflow_dispatch", outcome="refused", state="proposed")
        assert not check(scene.root, environment).accepted
        assert checks(scene, pull.head)["success"] is False

    def test_a_pull_request_without_a_model_is_green(self, scene):
        pull = scene.pull()
        assert check(scene.root, told(scene, pull)).accepted

    def test_a_model_that_is_written_into_the_manifest_by_hand_is_red(self, scene):
        pull = scene.pull()
        scene.commit("change", "deploy/manifest.yaml", promote(scene.base_text(), release(2)))
        pull = scene.forge.get(pull.number)
        for state, digest in (("unchanged", ""), ("proposed", "")):
            found = check(scene.root, told(scene, pull, state=state, digest=digest))
            assert not found.accepted
            assert "not judged" in found.title

    def test_a_version_that_somebody_edited_is_named_with_the_right_one_and_the_way_back(self, scene):
        first = scene.pull()
        scene.bundle(first)
        scene.apply(first)
        scene.forge.merge(first.number)
        version = scene.manifest("main").spec.stable.version
        text = scene.base_text().replace(f"version: {version}", "version: 7", 1)
        assert text != scene.base_text()
        scene.commit("number", "deploy/manifest.yaml", text, start="origin/main")
        pull = scene.forge.open_or_update("number", "main", "Number", "words")
        found = check(scene.root, told(scene, pull))
        digest = scene.manifest("main").spec.stable.digest.removeprefix("sha256:")[:12]
        assert f"{digest} was version {version}, and is 7" in found.title
        assert "git checkout origin/main -- deploy/manifest.yaml" in "\n".join(found.refused)

    def test_a_judged_model_that_names_a_system_call_is_red(self, scene):
        pull = scene.pull()
        scene.bundle(pull)
        applied = scene.apply(pull)
        folder = model_folder(scene.folder / "forged", 3)
        node = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "protocol": 2}
        (folder / "model.skops").write_bytes(pack_zip({"schema.json": json.dumps(node).encode()}))
        forged = stored_release(scene.person.folder / "store", folder, 2)
        scene.person.run("fetch", "--quiet", "origin")
        scene.person.run("switch", "--quiet", "--force-create", "change", applied.commit)
        scene.person.run("add", "--force", "store")
        scene.write("deploy/manifest.yaml", promote(scene.base_text(), forged))
        commit = scene.person.commit("Another model", "store", "deploy")
        scene.person.push("origin", "change", expected=applied.commit)
        values = {"outcome": "nothing", "state": "proposed", "commit": commit, "digest": forged.digest}
        found = check(scene.root, told(scene, scene.forge.get(pull.number), **values))
        assert not found.accepted
        assert "types that are not trusted: os.system" in found.title

    def test_words_in_the_manifest_are_no_release(self, scene):
        pull = scene.pull()
        text = scene.base_text().replace("annotations: {}", "annotations: {owner: us}")
        scene.commit("change", "deploy/manifest.yaml", text)
        assert check(scene.root, told(scene, scene.forge.get(pull.number))).accepted

    def test_a_rollback_to_what_was_served_is_green_and_to_a_stranger_is_red(self, scene):
        pull = scene.pull()
        scene.bundle(pull)
        scene.apply(pull)
        scene.forge.merge(pull.number)
        scene.commit(
            "back", "deploy/manifest.yaml", rollback(scene.base_text(), "too many alarms"), start="origin/main"
        )
        back = scene.forge.open_or_update("back", "main", "Back", "words")
        assert check(scene.root, told(scene, back, state="held")).accepted
        known = scene.manifest("main").spec.previous.digest
        text = rollback(scene.base_text(), "too many alarms").replace(known, OTHER, 1)
        scene.commit("back", "deploy/manifest.yaml", text)
        assert not check(scene.root, told(scene, scene.forge.get(back.number), state="held")).accepted

    def test_a_manifest_that_cannot_be_read_is_red(self, scene):
        pull = scene.pull()
        scene.commit("change", "deploy/manifest.yaml", "stable: [")
        assert not check(scene.root, told(scene, scene.forge.get(pull.number))).accepted

    def test_a_fork_may_bring_code_and_data_and_no_outputs(self, scene):
        pull = scene.pull()
        assert check(scene.root, told(scene, pull, fork=True, state="proposed")).accepted
        row = put_object(scene.person.folder / "store", b"one more row")
        table = json.dumps([{"relpath": "2013-04.csv", "md5": "".join(row.split("/")[-2:])}]).encode()
        data = put_object(scene.person.folder / "store", table, ".dir")
        named = yaml.safe_dump({"outs": [{"md5": "".join(data.split("/")[-2:]), "path": "data"}]})
        for name in (row, data):
            scene.person.run("add", f"store/{name}")
        scene.person.commit("Data", "store")
        scene.person.push("origin", "change", expected=pull.head)
        scene.commit("change", "data.dvc", named)
        pull = scene.forge.get(pull.number)
        assert check(scene.root, told(scene, pull, fork=True, state="proposed")).accepted
        scene.commit("change", "store/files/md5/00/11", "a model, perhaps")
        found = check(scene.root, told(scene, scene.forge.get(pull.number), fork=True, state="proposed"))
        assert not found.accepted
        assert "store/files/md5/00/11" in found.title

    def test_a_forks_data_file_that_names_no_outputs_is_told(self, scene):
        scene.commit("theirs", "odd.dvc", "outs: 5\n", start="origin/main")
        pull = scene.forge.open_or_update("theirs", "main", "Theirs", "words")
        found = check(scene.root, told(scene, pull, fork=True))
        assert (found.accepted, found.title) == (False, "a file of DVC names another place than the one beside it")

    @pytest.mark.parametrize("fork", [True, False])
    def test_a_branch_that_is_behind_main_is_not_blamed_for_what_main_released(self, scene, fork):
        scene.commit("behind", "notes.txt", "mine", start="origin/main")
        behind = scene.forge.open_or_update("behind", "main", "Notes", "words")
        pull = scene.pull()
        scene.bundle(pull)
        scene.apply(pull)
        scene.forge.merge(pull.number)
        assert check(scene.root, told(scene, behind, fork=fork)).accepted

    def test_in_a_shallow_checkout_it_fetches_what_it_needs(self, scene):
        pull = scene.pull()
        shallow = scene.folder / "shallow"
        scene.git.run("clone", "--quiet", "--depth=1", f"file://{scene.forge.url}", str(shallow))
        environment = told(scene, pull, fork=True, state="proposed")
        git = Git(shallow)
        assert git.find(pull.head) is None
        git.run("remote", "set-url", "origin", scene.forge.url)
        assert check(shallow, environment).accepted

    def test_somebody_who_pushes_during_a_dispatched_run_makes_no_fork_of_the_branch(self, scene):
        pull = scene.pull()
        scene.bundle(pull)
        applied = scene.apply(pull)
        values = {"outcome": "applied", "state": "proposed", "commit": applied.commit, "digest": applied.digest}
        environment = told(scene, pull, event="workflow_dispatch", **values)
        scene.commit("change", "notes.txt", "meanwhile", start="origin/change")
        assert scene.forge.get(pull.number).head != applied.commit
        assert check(scene.root, environment).accepted

    def test_the_command_that_a_fork_is_given_takes_back_what_it_changed_and_added(self, scene):
        scene.commit("theirs", "store/files/md5/00/11", "a model, perhaps", start="origin/main")
        scene.commit("theirs", "dvc.lock", "stages: {}")
        pull = scene.forge.open_or_update("theirs", "main", "Theirs", "words")
        scene.commit("other", "dvc.lock", "stages: {train: {}}", start="origin/main")
        scene.forge.merge(scene.forge.open_or_update("other", "main", "Main moves on", "words").number)
        found = check(scene.root, told(scene, pull, fork=True))
        assert not found.accepted
        assert "git" not in found.title
        (command,) = re.findall(r"`git fetch UPSTREAM main && git ([^`]+)`", found.summary)
        scene.person.run("fetch", "--quiet", "origin", "theirs")
        scene.person.run("switch", "--quiet", "--detach", "FETCH_HEAD")
        scene.person.run("fetch", "--quiet", "origin", "main")
        scene.person.run(*shlex.split(command))
        scene.person.run("commit", "--quiet", "--message", "Take it back", settings=scene.person.identity())
        scene.person.run("push", "--quiet", "origin", "HEAD:theirs")
        assert check(scene.root, told(scene, scene.forge.get(pull.number), fork=True)).accepted

    def test_a_group_is_compared_with_what_it_would_be_merged_into(self, scene):
        pull = scene.pull()
        release_made = scene.bundle(pull)
        scene.apply(pull)
        group = scene.forge.get(pull.number)
        environment = told(scene, group, event="merge_group", state="proposed", digest=release_made.digest)
        assert check(scene.root, environment).accepted
        environment = told(scene, group, event="merge_group", state="proposed", digest=OTHER)
        assert not check(scene.root, environment).accepted


def test_a_plan_that_failed_names_no_model(tmp_path):
    failed = {"plan": JobResult(result="failure", outputs={"models": ""})}
    assert read_reproduced(failed, tmp_path, "") == {}
    assert not decide(failed, Event.PULL, {"": SAME}, {}).accepted
