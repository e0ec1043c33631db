"""The local GitHub does as GitHub does, where the workflows' tests rely on it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_github.github import local_github
from local_github.pages import write_pages
from local_github.scratch import Clone, git_with_token

NAME = "acme/models"
RULES = {
    "enforcement": "active",
    "conditions": {"ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []}},
    "rules": [
        {"type": "pull_request", "parameters": {"required_approving_review_count": 0}},
        {"type": "required_status_checks",
         "parameters": {"strict_required_status_checks_policy": True, "required_status_checks": [{"context": "gate"}]}},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def github(tools, tmp_path_factory):
    """One local GitHub for these tests; each makes a repository of its own."""
    with local_github(tmp_path_factory.mktemp("github"), tools) as running:
        yield running
        assert running.hub.errors == []


@pytest.fixture
def name(github):
    """An empty repository."""
    found = f"{NAME}-{len(github.hub.repositories)}"
    github.create(found)
    return found


@pytest.fixture
def clone(github, name, tmp_path):
    """alice's clone, with one commit on main."""
    folder = tmp_path / "start"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
    author = ["-c", "user.name=alice", "-c", "user.email=alice@example.com"]
    (folder / "model.txt").write_text("first\n")
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "first"], cwd=folder, check=True)
    push = ("push", "--quiet", github.remote(name), "HEAD:refs/heads/main")
    assert git_with_token(github, folder, github.token("alice"), *push)[0] == 0
    return Clone.make(github, tmp_path / "clone", name, "alice")


def change(clone, branch, text="second\n", path="model.txt"):
    """Push a branch with one more commit."""
    (clone.folder / path).parent.mkdir(parents=True, exist_ok=True)
    (clone.folder / path).write_text(text)
    return clone.push(branch, f"change {path}")


def pass_check(github, name, commit, conclusion="success"):
    """Put the required check on a commit."""
    token = github.job_token(name, {"checks": "write"})
    body = {"name": "gate", "head_sha": commit, "status": "completed", "conclusion": conclusion}
    github.api.must("POST", f"/repos/{name}/check-runs", body, token=token)


class TestPushing:
    def test_the_api_has_the_commits_under_the_names_that_git_gave(self, github, name, clone):
        commit = change(clone, "topic")
        found = github.api.must("GET", f"/repos/{name}/commits/topic")
        assert found["sha"] == commit
        assert found["commit"]["tree"]["sha"] == clone.git("rev-parse", f"{commit}^{{tree}}")

    def test_a_token_without_contents_write_is_refused(self, github, name, clone):
        token = github.job_token(name, {"contents": "read"})
        code, words = git_with_token(github, clone.folder, token, "push", "origin", "HEAD:refs/heads/topic")
        assert code
        assert "denied to github-actions[bot]" in words

    def test_an_unknown_token_is_refused(self, github, clone):
        code, words = git_with_token(github, clone.folder, "ghs_wrong", "push", "origin", "HEAD:refs/heads/topic")
        assert code
        assert "401" in words or "could not read Username" in words or "Authentication failed" in words

    def test_a_person_who_is_no_member_is_refused(self, github, clone):
        code, words = git_with_token(
            github, clone.folder, github.token("bob"), "push", "origin", "HEAD:refs/heads/topic"
        )
        assert code
        assert "denied to bob" in words

    def test_a_protected_branch_takes_no_push(self, github, name, clone):
        github.hub.settings[name].rulesets.append(RULES)
        change(clone, "topic")
        code, words = clone.attempt("push", "origin", "topic:main")
        assert code
        assert "Changes must be made through a pull request" in words

    def test_a_jobs_token_changes_no_workflow_file(self, github, name, clone):
        token = github.job_token(name, {"contents": "write"})
        (clone.folder / ".github" / "workflows").mkdir(parents=True)
        (clone.folder / ".github" / "workflows" / "own.yml").write_text("on: push\n")
        clone.git("add", "--all")
        clone.git("commit", "--quiet", "--message", "a workflow")
        code, words = git_with_token(github, clone.folder, token, "push", "origin", "HEAD:refs/heads/topic")
        assert code
        assert "without `workflows` permission" in words

    def test_what_a_jobs_token_pushes_starts_nothing(self, github, name, clone):
        github.hub.events.clear()
        (clone.folder / "model.txt").write_text("by a job\n")
        clone.git("commit", "--quiet", "--all", "--message", "by a job")
        token = github.job_token(name, {"contents": "write"})
        assert git_with_token(github, clone.folder, token, "push", "origin", "HEAD:refs/heads/topic")[0] == 0
        assert github.hub.events == []


class TestTokens:
    def test_a_job_may_do_what_it_declares_and_no_more(self, github, name, clone):
        change(clone, "topic")
        number = github.open_pull(name, "topic", by="alice", title="Topic")["number"]
        path = f"/repos/{name}/issues/{number}/comments"
        refused = github.api.call("POST", path, {"body": "hello"}, token=github.job_token(name, {"contents": "write"}))
        assert (refused.status, refused.body["message"]) == (403, "Resource not accessible by integration")
        assert "pull_requests=write" in refused.headers["x-accepted-github-permissions"]
        token = github.job_token(name, {"pull-requests": "write"})
        assert github.api.must("POST", path, {"body": "hello"}, token=token)["user"]["login"] == "github-actions[bot]"

    def test_a_token_of_one_repository_is_of_no_use_in_another(self, github, name, clone):
        other = f"{name}-other"
        github.create(other)
        token = github.job_token(other, {"contents": "write"})
        assert git_with_token(github, clone.folder, token, "push", "origin", "HEAD:refs/heads/topic")[0]


class TestPullRequests:
    def test_opening_one_starts_the_workflows_on_the_merged_commit(self, github, name, clone):
        github.hub.events.clear()
        commit = change(clone, "topic")
        pull = github.open_pull(name, "topic", by="alice", title="Topic")
        push, opened = github.hub.events
        assert (push.name, opened.name, opened.action) == ("push", "pull_request", "opened")
        assert opened.head == commit
        repository = github.hub.repositories[name]
        assert repository.git.find(f"refs/pull/{pull['number']}/merge") == opened.commit
        assert repository.contains(opened.commit, commit)

    def test_a_second_one_for_the_same_branch_is_refused(self, github, name, clone):
        change(clone, "topic")
        github.open_pull(name, "topic", by="alice", title="Topic")
        with pytest.raises(AssertionError, match="A pull request already exists for acme:topic"):
            github.open_pull(name, "topic", by="alice", title="Topic")

    def test_one_without_commits_is_refused(self, github, name, clone):
        clone.git("push", "--quiet", "origin", "HEAD:refs/heads/same")
        with pytest.raises(AssertionError, match="No commits between main and same"):
            github.open_pull(name, "same", by="alice", title="Same")

    def test_a_push_to_the_branch_synchronises_it(self, github, name, clone):
        change(clone, "topic")
        number = github.open_pull(name, "topic", by="alice", title="Topic")["number"]
        github.hub.events.clear()
        newer = change(clone, "topic", "third\n")
        assert [event.action for event in github.hub.events] == [None, "synchronize"]
        assert github.pull(name, number)["head"]["sha"] == newer

    def test_one_that_conflicts_starts_nothing(self, github, name, clone):
        change(clone, "topic", "mine\n")
        clone.update()
        change(clone, "other", "theirs\n")
        clone.git("push", "--quiet", "origin", "other:main")
        github.hub.events.clear()
        pull = github.open_pull(name, "topic", by="alice", title="Topic")
        assert github.hub.events == []
        assert github.pull(name, pull["number"])["mergeable_state"] == "dirty"

    def test_a_forks_event_says_so(self, github, name, clone, tmp_path):
        fork = github.fork(name, "bob").name
        theirs = Clone.make(github, tmp_path / "bob", fork, "bob")
        change(theirs, "topic")
        github.open_pull(name, "bob:topic", by="bob", title="From a fork")
        event = github.hub.events[-1]
        assert event.fork
        assert event.payload["pull_request"]["head"]["repo"]["full_name"] == fork

    def test_the_merge_is_a_true_merge_of_both_sides(self, github, name, clone):
        change(clone, "topic")
        number = github.open_pull(name, "topic", by="alice", title="Topic")["number"]
        clone.update()
        change(clone, "other", "beside\n", "beside.txt")
        clone.git("push", "--quiet", "origin", "other:main")
        status, commit = github.merge(name, number, by="alice")
        assert status == 200
        git = github.hub.repositories[name].git
        assert (git.show(commit, "model.txt"), git.show(commit, "beside.txt")) == ("second\n", "beside\n")
        assert github.pull(name, number)["merge_commit_sha"] == commit

    def test_it_waits_for_the_required_check(self, github, name, clone):
        github.hub.settings[name].rulesets.append(RULES)
        commit = change(clone, "topic")
        number = github.open_pull(name, "topic", by="alice", title="Topic")["number"]
        assert github.merge(name, number, by="alice")[0] == 405
        pass_check(github, name, commit, "failure")
        assert github.merge(name, number, by="alice")[0] == 405
        pass_check(github, name, commit)
        assert github.merge(name, number, by="alice")[0] == 200

    def test_a_branch_behind_main_is_not_merged(self, github, name, clone):
        commit = change(clone, "topic")
        number = github.open_pull(name, "topic", by="alice", title="Topic")["number"]
        clone.update()
        change(clone, "other", "beside\n", "beside.txt")
        clone.git("push", "--quiet", "origin", "other:main")
        github.hub.settings[name].rulesets.append(RULES)
        pass_check(github, name, commit)
        status, reason = github.merge(name, number, by="alice")
        assert (status, "not up to date" in reason) == (405, True)

    def test_the_merge_queue_asks_for_the_checks_of_what_main_would_be(self, github, name, clone):
        change(clone, "topic")
        number = github.open_pull(name, "topic", by="alice", title="Topic")["number"]
        event = github.hub.queue(name, number, github.hub.who(github.token("alice"), name))
        assert (event.name, event.action) == ("merge_group", "checks_requested")
        assert github.hub.repositories[name].git.show(event.head, "model.txt") == "second\n"
        assert github.pull(name, number)["state"] == "open"


class TestPages:
    def test_a_page_shows_words_checks_and_changes_of_a_pull_request(self, github, name, clone, tmp_path):
        commit = change(clone, "topic", "a < b\n")
        number = github.open_pull(name, "topic", by="alice", title="<i>Topic</i>", body="> [!NOTE]\n> Look.")["number"]
        pass_check(github, name, commit)
        write_pages(github, name, tmp_path / "pages")
        page = (tmp_path / "pages" / f"pull-{number}.html").read_text()
        assert "&lt;i&gt;Topic" in page
        assert '<div class="alert note">' in page
        assert "<strong>gate</strong>" in page
        assert '<span class="add">+a &lt; b</span>' in page


class TestLiving:
    def test_two_run_side_by_side(self, tools, tmp_path):
        with local_github(tmp_path / "one", tools) as one, local_github(tmp_path / "two", tools) as two:
            one.create("acme/only-here")
            assert one.api.call("GET", "/repos/acme/only-here").status == 200
            assert two.api.call("GET", "/repos/acme/only-here").status == 404

    def test_its_servers_end_with_a_parent_that_is_killed(self, tools, tmp_path):
        script = (
            "import os, signal, sys\nfrom pathlib import Path\nfrom local_github.github import local_github\n"
            "with local_github(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        place = tmp_path / "orphan"
        path = json.dumps([str(Path(found).resolve()) for found in sys.path if found])
        command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{script}", str(place)]
        assert subprocess.run(command, check=False).returncode == -9
        deadline = time.monotonic() + 20
        while (left := running_in(place)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


def running_in(folder):
    """The processes whose command names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found
