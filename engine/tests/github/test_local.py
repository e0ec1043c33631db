import os
import stat
import subprocess

import pytest
import yaml
from local_forge_pushes import push, push_to_main

from mergeline.errors import ForgeError
from mergeline.github.pull_requests import Pulls, PullState

pytestmark = pytest.mark.usefixtures("nobody_is_configured")


def test_it_offers_what_every_forge_offers(forge):
    shared: Pulls = forge

    assert shared.list_open() == ()


class TestOpening:
    def test_a_branch_becomes_a_pull_request_in_files_that_people_can_read(self, forge, work, tmp_path):
        head = push(work, forge, "topic", "a\nB\nc\n")

        pull = forge.open_or_update("topic", "main", "Better b", "Because.\n", ["model", "auto"])

        folder = tmp_path / "forge" / "pulls" / "1"
        assert yaml.safe_load((folder / "pull.yaml").read_text()) == {
            "title": "Better b",
            "branch": "topic",
            "base": "main",
            "state": "open",
            "labels": ["model", "auto"],
            "head": head,
            "merge_commit": None,
            "closed_at": None,
        }
        assert (folder / "body.md").read_text() == "Because.\n"
        assert pull.url == folder.as_uri()
        assert (pull.number, pull.head, pull.labels) == (1, head, ("model", "auto"))

    def test_the_same_branch_twice_is_one_pull_request_with_the_newer_words(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "old", "old")
        head = push(work, forge, "topic", "y")

        pull = forge.open_or_update("topic", "main", "new", "newer", ["label"])

        assert (pull.number, pull.title, pull.body, pull.head) == (1, "new", "newer", head)
        assert forge.list_open() == (pull,)

    def test_labels_stay_until_they_are_taken_off(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b", ["model"])
        forge.label(1, "stale")
        assert forge.open_or_update("topic", "main", "t", "b", ["model"]).labels == ("model", "stale")
        forge.label(1, "stale", on=False)
        assert forge.get(1).labels == ("model",)

    def test_a_push_after_opening_moves_the_head(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")

        head = push(work, forge, "topic", "y")

        assert forge.get(1).head == head

    def test_a_merged_branch_that_goes_on_gets_a_new_pull_request(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        forge.merge(1)
        push(work, forge, "topic", "y", start="topic")

        assert forge.open_or_update("topic", "main", "t", "b").number == 2

    def test_open_pull_requests_are_listed_oldest_first_and_by_number(self, forge, work):
        for number in range(1, 12):
            push(work, forge, f"topic-{number}", f"{number}")
            forge.open_or_update(f"topic-{number}", "main", "t", "b")
        forge.close(3)

        assert [pull.number for pull in forge.list_open()] == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]

    def test_a_branch_that_was_not_pushed_is_refused(self, forge):
        with pytest.raises(ForgeError, match="there is no branch 'topic'"):
            forge.open_or_update("topic", "main", "t", "b")

    def test_a_branch_with_nothing_new_is_refused(self, forge, work):
        work.switch("topic", start="main")
        work.push(forge.url, "topic", expected=None)

        with pytest.raises(ForgeError, match="main holds every commit of topic already"):
            forge.open_or_update("topic", "main", "t", "b")

        assert forge.list_open() == ()

    def test_an_unknown_number_names_the_known_ones(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")

        with pytest.raises(ForgeError, match="no such pull request") as caught:
            forge.get(9)

        assert caught.value.hint == "there are: 1"


class TestComments:
    def test_a_comment_is_updated_in_place(self, forge, work, tmp_path):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")

        forge.comment(1, "report", "first")
        forge.comment(1, "report", "second")
        forge.comment(1, "rollout", "other")

        comments = tmp_path / "forge" / "pulls" / "1" / "comments"
        assert {path.name: path.read_text() for path in comments.iterdir()} == {
            "report.md": "second",
            "rollout.md": "other",
        }

    @pytest.mark.parametrize("key", ["../pull", "", "A", "a/b"])
    def test_a_key_cannot_leave_the_folder(self, forge, work, key):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")

        with pytest.raises(ForgeError, match="cannot name a comment"):
            forge.comment(1, key, "x")

    def test_a_comment_on_nothing_is_refused(self, forge, tmp_path):
        with pytest.raises(ForgeError, match="no such pull request"):
            forge.comment(1, "report", "x")

        assert not (tmp_path / "forge" / "pulls").exists()


class TestMerging:
    def test_a_merge_commit_has_both_parents_and_githubs_words(self, forge, work):
        head = push(work, forge, "topic", "a\nB\nc\n")
        forge.open_or_update("topic", "main", "Better b", "Because.")
        before = forge.git.find("main")

        commit = forge.merge(1)

        assert forge.git.find("main") == commit
        assert forge.git.run("show", "--no-patch", "--format=%P", commit) == f"{before} {head}"
        assert forge.git.run("log", "-1", "--format=%B", commit) == "Merge pull request #1 from topic\n\nBetter b"
        assert forge.git.show("main", "file") == "a\nB\nc\n"
        assert (forge.get(1).state, forge.get(1).merge_commit, forge.get(1).head) == (PullState.MERGED, commit, head)

    def test_a_squash_makes_one_commit_with_one_parent(self, forge, work):
        push(work, forge, "topic", "x")
        push(work, forge, "topic", "y", start="topic")
        forge.open_or_update("topic", "main", "Better b", "Because.")
        before = forge.git.find("main")

        commit = forge.merge(1, squash=True)

        assert forge.git.run("rev-list", f"{before}..main") == commit
        assert forge.git.run("log", "-1", "--format=%P%n%B", commit) == f"{before}\nBetter b (#1)\n\nBecause."
        assert forge.git.show("main", "file") == "y"

    def test_changes_of_both_sides_are_kept(self, forge, work):
        push(work, forge, "topic", "A\nb\nc\n")
        push_to_main(work, forge, "a\nb\nC\n")
        forge.open_or_update("topic", "main", "t", "b")

        forge.merge(1)

        assert forge.git.show("main", "file") == "A\nb\nC\n"

    def test_a_conflict_is_refused_and_names_the_file(self, forge, work):
        push(work, forge, "topic", "mine")
        forge.open_or_update("topic", "main", "t", "b")
        theirs = push_to_main(work, forge, "theirs")

        with pytest.raises(ForgeError, match="conflicts with main in file"):
            forge.merge(1)

        assert forge.git.find("main") == theirs
        assert forge.get(1).state is PullState.OPEN

    def test_a_branch_that_is_gone_is_refused(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        work.run("push", "--quiet", forge.url, ":topic")

        with pytest.raises(ForgeError, match="there is no branch 'topic'"):
            forge.merge(1)

        assert forge.get(1).state is PullState.OPEN

    def test_a_closed_one_is_refused(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        forge.close(1)
        forge.close(1)

        with pytest.raises(ForgeError, match="the pull request is closed"):
            forge.merge(1)

    def test_a_person_closes_one_in_its_file(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        file = forge.folder / "pulls" / "1" / "pull.yaml"
        assert "state: open\n" in file.read_text()
        file.write_text(file.read_text().replace("state: open\n", "state: closed\n"))
        assert forge.get(1).state is PullState.CLOSED
        assert forge.list_open() == ()

    def test_a_merged_one_is_neither_merged_nor_closed_again(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        commit = forge.merge(1)

        with pytest.raises(ForgeError, match="the pull request is merged"):
            forge.merge(1)
        with pytest.raises(ForgeError, match="the pull request is merged"):
            forge.close(1)

        assert forge.git.find("main") == commit

    def test_a_branch_whose_changes_main_has_got_otherwise_has_nothing_to_merge(self, forge, work):
        push(work, forge, "topic", "same")
        forge.open_or_update("topic", "main", "t", "b")
        push_to_main(work, forge, "same")

        with pytest.raises(ForgeError, match="main holds these changes already"):
            forge.merge(1)

    def test_commits_that_reached_main_by_a_push_count_as_merged(self, forge, work):
        head = push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        work.run("push", "--quiet", forge.url, "topic:main")

        assert forge.merge(1) == head
        assert forge.get(1).state is PullState.MERGED

    def test_one_that_was_merged_and_pushed_by_git_alone_is_open_no_more(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        work.run("push", "--quiet", forge.url, "HEAD:main", ":topic")

        assert (forge.get(1).state, forge.list_open()) == (PullState.MERGED, ())

    def test_a_push_during_the_merge_is_merged_with_and_not_lost(self, forge, work, monkeypatch, tmp_path):
        push(work, forge, "topic", "A\nb\nc\n")
        forge.open_or_update("topic", "main", "t", "b")
        push(work, forge, "late", "late\n", file="other")
        late = work.find("late")
        work.run("push", "--quiet", forge.url, f"{late}:refs/heads/parked")
        # A git that lets a push come in between: it moves main once, just before the first commit-tree.
        real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
        marker = tmp_path / "moved"
        fake = tmp_path / "bin" / "git"
        fake.parent.mkdir()
        fake.write_text(
            f'#!/bin/sh\ncase " $* " in *" commit-tree "*) if [ ! -e "{marker}" ]; then : > "{marker}";'
            f' "{real}" update-ref refs/heads/main {late}; fi;; esac\nexec "{real}" "$@"\n'
        )
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")

        forge.merge(1)

        assert marker.exists()
        assert forge.git.show("main", "file") == "A\nb\nc\n"
        assert forge.git.show("main", "other") == "late\n"

    def test_a_git_too_old_to_merge_without_a_work_tree_says_so(self, forge, work, monkeypatch, tmp_path):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
        fake = tmp_path / "bin" / "git"
        fake.parent.mkdir()
        fake.write_text(
            '#!/bin/sh\ncase "$1" in merge-tree) echo "usage: git merge-tree" >&2; exit 129;;'
            f' version) echo "git version 2.30.2"; exit;; esac\nexec "{real}" "$@"\n'
        )
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")

        with pytest.raises(ForgeError, match=r"git version 2\.30\.2 cannot merge without a work tree") as caught:
            forge.merge(1)

        assert "2.38" in caught.value.hint


class TestFinding:
    def test_the_open_pull_request_of_a_branch_is_found(self, forge, work):
        push(work, forge, "topic", "a\nB\nc\n")
        pull = forge.open_or_update("topic", "main", "Better b", "")

        assert forge.find("topic") == pull
        assert forge.find("other") is None
        forge.close(pull.number)
        assert forge.find("topic") is None


class TestChecks:
    def test_the_last_result_is_the_one_that_is_shown(self, forge, work, tmp_path):
        head = push(work, forge, "topic", "a\nB\nc\n")

        forge.check(head, "mergeline", success=False, title="rejected", summary="It lost.")
        forge.check(head, "mergeline", success=True, title="accepted", summary="It won.")

        (file,) = (tmp_path / "forge" / "checks" / head).iterdir()
        assert yaml.safe_load(file.read_text()) == {"success": True, "title": "accepted", "summary": "It won."}

    def test_a_commit_that_is_not_there_has_no_checks(self, forge):
        with pytest.raises(ForgeError, match="no commit"):
            forge.check("0" * 40, "mergeline", success=True, title="t", summary="s")


class TestIssues:
    def test_one_issue_a_key_is_kept_up_to_date_closed_and_opened_again(self, forge):
        first = forge.open_or_update_issue("drift", "Drift", "In May.", ["watch"])
        second = forge.open_or_update_issue("drift", "Drift", "In June.")
        other = forge.open_or_update_issue("quality", "Quality", "b")
        closed = forge.close_issue("drift", "Steady again.")

        assert (first.number, second.number, other.number) == (1, 1, 2)
        assert second.body == "In June."
        assert not closed.is_open
        assert forge.close_issue("drift", "Steady again.") is None
        assert forge.open_or_update_issue("drift", "Drift", "In July.").is_open

    def test_a_key_that_is_no_word_is_refused(self, forge):
        with pytest.raises(ForgeError, match="cannot name an issue"):
            forge.open_or_update_issue("../drift", "t", "b")


def test_a_comment_that_is_there_is_known(forge, work):
    push(work, forge, "topic", "a\nB\nc\n")
    pull = forge.open_or_update("topic", "main", "Better b", "")

    assert not forge.has_comment(pull.number, "report")
    forge.comment(pull.number, "report", "x")
    assert forge.has_comment(pull.number, "report")
