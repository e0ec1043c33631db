"""The pull request that ends a rollout, and what people are told, on a local forge."""

import threading

import pytest
import yaml
from bundle_examples import Scene
from release_examples import model_folder, stored_release

from mergeline.errors import ManifestError
from mergeline.evaluate.results import Status
from mergeline.github.git import Git
from mergeline.github.served_releases import verify_history
from mergeline.manifest.edit import finish, promote
from mergeline.release_params import Rollout
from mergeline.rollout.end import Assessed, Decision, Ending, end_by_pull_request, end_here
from mergeline.rollout.status import Measured, ServerStatus

CANARY = Rollout.model_validate({"strategy": "canary", "steps": [{"weight": 5, "hold": "15m"}]})
SEEN = (
    ServerStatus(
        where="http://server/status",
        current=True,
        phase="passed",
        analyses=(Measured(name="errors", value=0.001, samples=900, outcome="successful"),),
    ),
)


def saying(ending, reason="every step is passed", seen=SEEN):
    return lambda manifest, text: Assessed(Decision(ending=ending, reason=reason, reasons=("a server: so",)), seen)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Version 1 is stable, and version 2 rolls out."""
    scene = Scene(tmp_path_factory.mktemp("made"))
    folder = model_folder(scene.folder / "models" / "2", 2)
    candidate = stored_release(scene.store, folder, 2)
    scene.commit("main", "deploy/manifest.yaml", promote(scene.base_text(), candidate, CANARY))
    scene.person.run("add", "--all")
    scene.person.commit("The candidate's objects", ".")
    scene.person.push("origin", "main", expected=scene.main())
    return scene, candidate


@pytest.fixture
def scene(made, tmp_path):
    """The same, for the test alone."""
    scene = made[0].copy(tmp_path / "scene")
    scene.candidate = made[1]
    return scene


def spec(scene, revision="main"):
    return scene.manifest(revision).spec


def check_of(scene, commit):
    return yaml.safe_load((scene.forge.folder / "checks" / commit / "mergeline.yaml").read_text())


def issue(scene):
    return yaml.safe_load((scene.forge.folder / "issues" / "rollout-flights.yaml").read_text())


def rollout_comment(scene, pull):
    return (scene.forge.folder / "pulls" / str(pull.number) / "comments" / "rollout.md").read_text()


class TestPassed:
    def test_a_pull_request_makes_the_candidate_stable_and_has_the_check_and_the_evidence(self, scene):
        before = scene.main()
        done = end_by_pull_request(scene.root, saying(Ending.FINISH))
        (pull,) = scene.forge.list_open()
        assert (pull.branch, pull.title) == ("rollout/flights-2", "flights: version 2 becomes stable")
        assert spec(scene, pull.head).stable == scene.candidate
        assert spec(scene, pull.head).candidate is None
        assert scene.forge.git.run("diff", "--name-only", "main", pull.head) == "deploy/manifest.yaml"
        assert check_of(scene, pull.head)["success"] is True
        assert all(check.status is not Status.FAIL for check in done.opened.checks)
        assert "errors" in pull.body
        assert "every step is passed" in pull.body
        assert "production" in pull.labels
        scene.forge.merge(pull.number)
        assert spec(scene).previous.version == 1
        Git(scene.root).run("pull", "--quiet", "origin", "main")
        assert verify_history(scene.root, "flights", before)[0].status == "pass"

    def test_the_same_again_writes_nothing(self, scene):
        end_by_pull_request(scene.root, saying(Ending.FINISH))
        before = scene.refs()
        again = end_by_pull_request(scene.root, saying(Ending.FINISH))
        assert scene.refs() == before
        assert not again.opened.kept.new
        assert len(scene.forge.list_open()) == 1

    def test_two_runs_at_once_make_one_pull_request_and_its_commit_has_the_check(self, scene, tmp_path):
        roots = [Git.clone(scene.forge.url, tmp_path / f"run-{n}").folder for n in range(2)]
        errors = []

        def run(root):
            try:
                end_by_pull_request(root, saying(Ending.FINISH))
            except Exception as error:  # noqa: BLE001 - a thread's error would be lost
                errors.append(error)

        threads = [threading.Thread(target=run, args=(root,)) for root in roots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        (pull,) = scene.forge.list_open()
        assert spec(scene, pull.head).stable == scene.candidate
        assert check_of(scene, pull.head)["success"] is True

    def test_a_candidate_that_fails_after_all_turns_the_same_pull_request_around(self, scene):
        end_by_pull_request(scene.root, saying(Ending.FINISH))
        end_by_pull_request(scene.root, saying(Ending.ABORT, "guard errors: 12 of 12 failed"))
        (pull,) = scene.forge.list_open()
        assert pull.title == "flights: version 2 is aborted"
        assert spec(scene, pull.head).stable.version == 1
        assert spec(scene, pull.head).candidate is None

    def test_a_persons_commit_on_its_branch_stays_and_the_pull_request_is_told(self, scene):
        end_by_pull_request(scene.root, saying(Ending.FINISH))
        theirs = scene.commit("rollout/flights-2", "notes.txt", "why")
        done = end_by_pull_request(scene.root, saying(Ending.ABORT, "errors"))
        assert scene.forge.git.find("rollout/flights-2") == theirs
        (pull,) = scene.forge.list_open()
        assert done.reported == pull.url
        assert "people have committed" in rollout_comment(scene, pull)


class TestFailed:
    def test_a_pull_request_takes_it_off_and_holds_it(self, scene):
        end_by_pull_request(scene.root, saying(Ending.ABORT, "guard errors: 12 of 12 failed"))
        (pull,) = scene.forge.list_open()
        found = spec(scene, pull.head)
        assert (found.stable.version, found.candidate) == (1, None)
        (hold,) = found.holds
        assert (hold.digest, hold.pull, hold.version) == (scene.candidate.digest, pull.number, 2)
        assert hold.reason == "guard errors: 12 of 12 failed"
        scene.forge.merge(pull.number)
        assert (
            end_by_pull_request(
                scene.root,
                lambda manifest, text: (
                    pytest.fail("asked")
                    if manifest.spec.candidate
                    else Assessed(Decision(ending=Ending.NOTHING, reason="nothing rolls out"))
                ),
            ).opened
            is None
        )

    def test_what_a_server_says_does_nothing_in_the_pull_request(self, scene):
        end_by_pull_request(scene.root, saying(Ending.ABORT, "<!-- x --> @everyone ``` #12"))
        (pull,) = scene.forge.list_open()
        assert "@everyone" not in pull.body
        assert "<!--" not in pull.body


class TestAttention:
    def test_people_are_told_in_one_issue_that_is_closed_when_it_goes_on(self, scene):
        for _ in range(2):
            done = end_by_pull_request(scene.root, saying(Ending.ATTENTION, "paused: errors is inconclusive"))
        assert done.reported.endswith("rollout-flights.yaml")
        assert scene.forge.list_open() == ()
        assert (issue(scene)["number"], issue(scene)["is_open"]) == (1, True)
        assert "mergeline rollout abort" in issue(scene)["body"]
        end_by_pull_request(scene.root, saying(Ending.WAIT, "progressing, step 2 of 3"))
        assert issue(scene)["is_open"] is False
        assert issue(scene)["notes"] == ["It goes on: progressing, step 2 of 3."]

    def test_where_a_pull_request_is_open_its_comment_says_so_once(self, scene):
        end_by_pull_request(scene.root, saying(Ending.FINISH))
        for _ in range(2):
            end_by_pull_request(scene.root, saying(Ending.ATTENTION, "the labels cannot tell"))
        (pull,) = scene.forge.list_open()
        assert scene.forge.has_comment(pull.number, "rollout")
        assert not (scene.forge.folder / "issues").exists()

    def test_a_pull_request_that_is_open_while_it_goes_on_again_is_marked_until_it_holds(self, scene):
        end_by_pull_request(scene.root, saying(Ending.FINISH))
        before = scene.refs()
        done = end_by_pull_request(scene.root, saying(Ending.WAIT, "progressing, step 2 of 3"))
        (pull,) = scene.forge.list_open()
        assert done.reported == pull.url
        assert scene.refs() == before
        assert "Do not merge this now: progressing, step 2 of 3." in rollout_comment(scene, pull)
        end_by_pull_request(scene.root, saying(Ending.FINISH))
        assert "Do not merge" not in rollout_comment(scene, pull)

    def test_a_pull_request_that_a_person_asked_for_is_not_marked(self, scene):
        end_by_pull_request(scene.root, saying(Ending.FINISH, "a person decided", ()))
        assert end_by_pull_request(scene.root, saying(Ending.WAIT)).reported == ""

    def test_waiting_writes_nothing(self, scene):
        before = scene.refs()
        assert end_by_pull_request(scene.root, saying(Ending.WAIT)).opened is None
        assert scene.refs() == before
        assert not (scene.forge.folder / "issues").exists()


class TestByHand:
    @pytest.mark.parametrize(
        ("ending", "reason", "words"),
        [
            (Ending.FINISH, "a person decided", "A person asks to make version 2 stable: a person decided."),
            (Ending.ABORT, "it is slow", "A person asks to abort version 2: it is slow."),
        ],
    )
    def test_what_a_person_asks_for_is_not_called_a_finding(self, scene, ending, reason, words):
        end_by_pull_request(scene.root, saying(ending, reason, ()))
        (pull,) = scene.forge.list_open()
        assert words in pull.body

    def test_the_work_tree_alone_changes(self, scene):
        Git(scene.root).run("pull", "--quiet", "origin", "main")
        before = scene.refs()
        assert end_here(scene.root, Ending.FINISH, "")[1] == finish(scene.base_text())
        assert yaml.safe_load(end_here(scene.root, Ending.ABORT, "slow")[1])["spec"]["holds"][0]["reason"] == "slow"
        assert scene.refs() == before
        with pytest.raises(ManifestError, match="needs a reason"):
            end_here(scene.root, Ending.ABORT, " ")
