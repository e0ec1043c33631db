import pytest

from mergeline.errors import ForgeError
from mergeline.github.actions import Job
from mergeline.github.client import GitHubClient, PullRequestsOffError
from mergeline.github.forge import GitHubForge, open_github
from mergeline.github.git import Git
from mergeline.github.git_objects import FILE, store_text, tree_of, with_entries
from mergeline.github.open_proposal import open_forge
from mergeline.github.own_branch import UnopenedError, Words, keep_branch
from mergeline.github.pull_requests import Pulls, PullState

TOKEN = "ghs_nobody"  # noqa: S105 - nobody's


class TestChoosing:
    def test_a_clone_of_a_github_repository_gets_its_forge(self, models, monkeypatch):
        monkeypatch.setenv("GITHUB_TOKEN", models.hub.token("alice"))
        number = models.pull()

        forge: Pulls = open_forge(models.clone)

        assert isinstance(forge, GitHubForge)
        assert [pull.number for pull in forge.list_open()] == [number]

    def test_without_a_token_it_is_said_how_to_get_one(self, models):
        with pytest.raises(ForgeError, match="no token") as caught:
            open_github(models.clone)

        assert "gh auth token" in caught.value.hint

    def test_another_remote_is_no_github(self, tmp_path):
        git = Git.init(tmp_path)
        git.run("remote", "add", "origin", "https://git.example.org/a/b.git")

        assert open_github(git, Job(token=TOKEN)) is None


class TestPullRequests:
    def test_the_same_proposal_twice_makes_one_pull_request(self, models):
        models.push("topic", "b\n")
        forge = models.forge()

        first = forge.open_or_update("topic", "main", "Version 2", "Because.", ["model"])
        second = forge.open_or_update("topic", "main", "Version 3", "Because of more.", ["model"])

        assert first.number == second.number
        assert (second.title, second.body, second.labels) == ("Version 3", "Because of more.", ("model",))
        assert first.labels == ("model",)
        assert forge.list_open() == (second,)

    def test_a_label_is_put_on_and_taken_off_once(self, models):
        models.push("topic", "b\n")
        number = models.forge().open_or_update("topic", "main", "Version 2", "Because.", ["model"]).number
        for on, labels in ((True, {"model", "stale"}), (False, {"model"})):
            for _ in range(2):
                models.forge().label(number, "stale", on=on)
                assert set(models.forge().get(number).labels) == labels

    def test_labels_of_people_stay(self, models):
        number = models.pull()
        path = f"/repos/{models.name}/issues/{number}/labels"
        models.hub.api.must("POST", f"/repos/{models.name}/labels", {"name": "urgent"}, token=models.hub.token("alice"))
        models.hub.api.must("POST", path, {"labels": ["urgent"]}, token=models.hub.token("alice"))

        pull = models.forge().open_or_update("topic", "main", "T", "b", ["model"])

        assert set(pull.labels) == {"urgent", "model"}
        assert set(models.forge().get(number).labels) == {"urgent", "model"}

    def test_the_branch_of_the_same_name_in_a_fork_is_another_one(self, models):
        theirs, _ = models.fork_pull(branch="topic")
        models.push("topic", "mine\n")

        mine = models.forge().open_or_update("topic", "main", "Mine", "b")

        assert mine.number != theirs
        assert models.forge().get(theirs).fork
        assert not mine.fork
        assert models.forge().find("topic") == mine

    def test_a_branch_without_a_pull_request_has_none(self, models):
        assert models.forge().find("nothing") is None

    def test_a_merged_one_says_so_with_its_commit(self, models):
        number = models.pull()

        status, commit = models.hub.merge(models.name, number, by="alice", squash=True)

        found = models.forge().get(number)
        assert (status, found.state, found.merge_commit) == (200, PullState.MERGED, commit)
        assert models.forge().list_declined("topic") == ()

    def test_a_closed_one_says_so_and_is_declined(self, models):
        number = models.pull()

        models.close(number)

        found = models.forge().get(number)
        assert (found.state, found.merge_commit) == (PullState.CLOSED, None)
        assert models.forge().list_declined("topic") == (found,)

    def test_a_pull_request_that_is_not_there_is_told_with_what_may_hide_it(self, models):
        with pytest.raises(ForgeError, match="reading pull request 99.*may not see it") as caught:
            models.forge().get(99)

        assert "pull-requests: read" in caught.value.hint

    def test_nothing_between_the_branches_is_told_in_githubs_words(self, models):
        models.push("even", "a\n")

        with pytest.raises(ForgeError, match="No commits between main and even"):
            models.forge().open_or_update("even", "main", "T", "b")

    def test_a_pull_request_is_found_by_the_run_that_a_fork_started(self, models):
        number, fork = models.fork_pull()
        head = models.hub.pull(models.name, number)["head"]["sha"]

        assert models.forge().find_by_head(fork, "theirs", head).number == number
        assert models.forge().find_by_head(fork, "theirs", "0" * 40) is None
        assert models.forge().find_by_head(models.name, "theirs", head) is None


class TestPermissions:
    @pytest.mark.parametrize(
        ("lacking", "do"),
        [
            ("pull-requests: write", lambda forge, number, head: forge.open_or_update("topic", "main", "New", "b")),
            ("pull-requests: write", lambda forge, number, head: forge.comment(number, "report", "x")),
            ("checks: write", lambda forge, number, head: forge.check(head, "m", success=True, title="t", summary="s")),
            ("issues: write", lambda forge, number, head: forge.open_or_update_issue("drift", "t", "b")),
        ],
    )
    def test_what_the_token_lacks_is_named_as_in_a_workflow_file(self, models, tmp_path, lacking, do):
        number = models.pull()
        head = models.hub.pull(models.name, number)["head"]["sha"]
        file = tmp_path / ".github" / "workflows" / "model.yml"
        file.parent.mkdir(parents=True)
        file.write_text("jobs:\n  propose:\n    permissions:\n      contents: read # a comment\n")
        granted = dict.fromkeys(("contents", "pull-requests", "issues", "checks"), "read")
        forge = models.forge(
            granted, root=tmp_path, actions=True, job="propose", workflow_file=".github/workflows/model.yml"
        )

        with pytest.raises(ForgeError, match=f"the token lacks `{lacking}`") as caught:
            do(forge, number, head)

        assert f"add `{lacking}` to `permissions:` of the job `propose`" in caught.value.hint
        assert "declares `contents: read`" in caught.value.hint

    def test_the_permissions_that_a_job_declares_are_enough(self, models):
        models.push("topic", "b\n")
        head = models.clone.run("rev-parse", "topic")

        pull = models.forge({"contents": "read", "pull-requests": "write"}).open_or_update("topic", "main", "T", "b")
        models.forge({"contents": "read", "pull-requests": "write"}).comment(pull.number, "report", "x")
        models.forge({"contents": "read", "checks": "write"}).check(head, "m", success=True, title="t", summary="s")

    def test_a_token_that_is_no_token_is_told(self, models):
        forge = models.forge(token=TOKEN)

        with pytest.raises(ForgeError, match="Bad credentials") as caught:
            forge.list_open()

        assert "expired" in caught.value.hint

    def test_where_actions_may_open_none_an_issue_asks_a_person_once(self, models):
        models.push("propose/flights", "b\n")
        models.hub.hub.settings[models.name].actions_may_open_pulls = False
        forge = models.forge()

        errors = []
        for _ in range(2):
            with pytest.raises(PullRequestsOffError) as caught:
                forge.open_or_update("propose/flights", "main", "Version 2", "Because.")
            errors.append(caught.value)

        issues = models.hub.api.pages(f"/repos/{models.name}/issues?state=all", token=models.hub.token("alice"))
        assert [issue["title"] for issue in issues] == ["Open the pull request: Version 2"]
        assert f"/{models.name}/compare/main...propose/flights?expand=1" in issues[0]["body"]
        assert f"issue #{issues[0]['number']} asks a person" in errors[0].what
        assert errors[0].what == errors[1].what
        assert "can_approve_pull_request_reviews=true" in errors[0].hint

    def test_a_branch_that_a_person_must_open_is_pushed_and_its_issue_closes_once_it_is_open(self, models):
        job, settings, branch = models.job(), models.hub.hub.settings[models.name], "propose/flights"
        models.monkeypatch.setenv("GITHUB_TOKEN", job.token)
        git, forge, main = models.clone, models.forge(token=job.token), models.clone.find("main")
        tree = with_entries(git, tree_of(git, main), {"made": f"{FILE} blob {store_text(git, 'made')}"})
        words = Words(branch, "Version 2", "Because.", "version 2")
        settings.actions_may_open_pulls = False

        with pytest.raises(UnopenedError, match="asks a person to open it") as caught:
            keep_branch(git, forge, main, words, lambda _: tree)

        assert caught.value.commit == git.remote_head("origin", branch)
        (issue,) = self.issues(models)
        assert issue["state"] == "open"
        number = models.hub.open_pull(models.name, branch, by="alice", title="Version 2")["number"]
        kept = keep_branch(git, forge, main, words, lambda _: tree)
        assert (kept.pull.number, kept.commit, kept.new) == (number, caught.value.commit, False)
        assert [issue["state"] for issue in self.issues(models)] == ["closed"]

    @staticmethod
    def issues(models):
        found = models.hub.api.pages(f"/repos/{models.name}/issues?state=all", token=models.hub.token("alice"))
        return [issue for issue in found if not issue.get("pull_request")]

    def test_where_not_even_an_issue_may_be_opened_both_are_told(self, models):
        models.push("topic", "b\n")
        models.hub.hub.settings[models.name].actions_may_open_pulls = False

        with pytest.raises(PullRequestsOffError, match="not permitted.*no issue could be opened.*`issues: write`"):
            models.forge({"contents": "read", "pull-requests": "write"}).open_or_update("topic", "main", "T", "b")


class TestChecks:
    def test_the_same_check_twice_is_one_that_shows_the_last_result(self, models):
        commit = models.push("topic", "b\n")
        forge = models.forge()

        forge.check(commit, "mergeline", success=False, title="rejected", summary="It lost.")
        forge.check(commit, "mergeline", success=True, title="accepted", summary="It won.")
        forge.check(commit, "mergeline", success=True, title="accepted", summary="It won.")

        path = f"/repos/{models.name}/commits/{commit}/check-runs"
        runs = models.hub.api.must("GET", path, token=models.hub.token("alice"))["check_runs"]
        told = [(run["name"], run["conclusion"], run["output"]["title"], run["output"]["summary"]) for run in runs]
        assert told == [("mergeline", "success", "accepted", "It won.")]

    def test_a_check_of_the_same_name_that_is_not_ours_is_left_alone(self, models):
        commit = models.push("topic", "b\n")
        path = f"/repos/{models.name}/check-runs"
        theirs = {"name": "mergeline", "head_sha": commit, "status": "completed", "conclusion": "failure"}
        made = models.hub.api.must("POST", path, theirs, token=models.job().token)

        models.forge().check(commit, "mergeline", success=True, title="accepted", summary="It won.")

        again = models.hub.api.must("GET", f"{path}/{made['id']}", token=models.hub.token("alice"))
        assert again["conclusion"] == "failure"


class TestIssues:
    def test_one_issue_a_key_is_kept_up_to_date_and_closed_with_a_note(self, models):
        forge = models.forge()

        first = forge.open_or_update_issue("drift", "Drift", "In May.", ["watch"])
        second = forge.open_or_update_issue("drift", "Drift", "In May and June.")
        other = forge.open_or_update_issue("drift-2", "Another", "b")
        closed = forge.close_issue("drift", "Steady again.")

        assert first.number == second.number != other.number
        assert second.body == "In May and June."
        assert (closed.number, closed.is_open) == (first.number, False)
        assert models.comments(first.number)[-1]["body"].endswith("Steady again.")
        assert forge.close_issue("drift", "Steady again.") is None
        assert forge.open_or_update_issue("drift", "Drift", "In July.").number != first.number

    def test_an_issue_of_a_person_with_a_copied_marker_is_left_alone(self, models):
        body = {"title": "Mine", "body": "<!-- mergeline:drift -->\n\nmine"}
        models.hub.api.must("POST", f"/repos/{models.name}/issues", body, token=models.hub.token("bob"))

        ours = models.forge().open_or_update_issue("drift", "Drift", "b")

        assert ours.number == 2


def test_the_token_reaches_git_and_neither_the_configuration_nor_the_remote(models, monkeypatch, tmp_path):
    token = models.job({"contents": "write"}).token
    monkeypatch.setenv("GITHUB_TOKEN", token)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "advice.detachedHead")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "false")

    # what actions/checkout leaves unless it is told not to
    models.clone.run("config", f"http.{models.hub.url}/.extraheader", "AUTHORIZATION: basic d3Jvbmc6d3Jvbmc=")
    models.clone.switch("topic", start="main")
    (models.clone.folder / "file").write_text("by the job\n")
    commit = models.clone.commit("by the job", "file")
    models.clone.push("origin", "topic", expected=None)

    assert models.clone.remote_head("origin", "topic") == commit
    assert token not in (models.clone.folder / ".git" / "config").read_text()


def test_a_push_without_the_permission_is_refused(models, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", models.job({"contents": "read"}).token)
    models.clone.switch("topic", start="main")
    (models.clone.folder / "file").write_text("by the job\n")
    models.clone.commit("by the job", "file")

    with pytest.raises(ForgeError, match="403"):
        models.clone.push("origin", "topic", expected=None)


def test_a_client_without_a_token_is_not_made():
    with pytest.raises(ForgeError, match="no token"):
        GitHubClient(Job(), "acme/models")
