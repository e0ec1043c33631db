import os
import subprocess

import pytest

from mergeline.errors import ForgeError
from mergeline.github.git import Git
from mergeline.github.git_objects import FILE, differing, empty_tree, store_text, tree_of, with_entries


@pytest.fixture(autouse=True)
def _nobody_is_configured(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def repository(folder, **files):
    git = Git.init(folder)
    for name, text in (files or {"readme": "hello\n"}).items():
        (folder / name).write_text(text)
    git.commit("first", ".")
    return git


def test_commits_in_an_empty_home_where_nobody_is_configured(tmp_path):
    git = repository(tmp_path / "work")

    assert git.run("log", "-1", "--format=%an <%ae> %s") == "Mergeline <mergeline@localhost> first"


def test_a_configured_name_is_not_replaced(tmp_path):
    git = Git.init(tmp_path / "work")
    git.run("config", "user.name", "Ada")
    (tmp_path / "work" / "readme").write_text("x")
    git.commit("first", "readme")

    assert git.run("log", "-1", "--format=%an <%ae>") == "Ada <mergeline@localhost>"


def test_commit_takes_the_named_paths_and_nothing_else(tmp_path):
    git = repository(tmp_path / "work", a="1", b="1", c="1")
    (tmp_path / "work" / "a").write_text("2")
    (tmp_path / "work" / "b").unlink()
    (tmp_path / "work" / "c").write_text("2")
    git.run("add", "c")

    git.commit("second", "a", "b")

    assert git.run("show", "--format=", "--name-status", "HEAD") == "M\ta\nD\tb"
    assert git.changed() == ("c",)


def test_commit_of_nothing_new_returns_the_present_commit(tmp_path):
    git = repository(tmp_path / "work")

    assert git.commit("again", "readme") == git.find("HEAD")
    assert git.run("rev-list", "--count", "HEAD") == "1"


def test_show_gives_the_exact_text_of_a_revision(tmp_path):
    git = repository(tmp_path / "work", a="one\n\n")
    (tmp_path / "work" / "a").write_text("two")

    assert git.show("HEAD", "a") == "one\n\n"
    assert git.show("HEAD", "b") is None


def test_show_of_an_unknown_revision_says_to_fetch(tmp_path):
    with pytest.raises(ForgeError, match="unknown revision nowhere") as caught:
        repository(tmp_path / "work").show("nowhere", "a")

    assert "fetch" in caught.value.hint


def test_an_error_has_gits_own_words_and_a_mend(tmp_path):
    with pytest.raises(ForgeError, match="not a git repository") as caught:
        Git(tmp_path).run("status")

    assert caught.value.where == f"git status in {tmp_path}"
    assert "git init" in caught.value.hint


def test_an_error_does_not_show_the_password_of_an_address(tmp_path):
    git = repository(tmp_path / "work")

    with pytest.raises(ForgeError) as caught:
        git.run("fetch", "https://robot:secret-token@127.0.0.1:9/x.git")

    assert "secret-token" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


def test_a_missing_folder_is_not_taken_for_a_missing_git(tmp_path):
    with pytest.raises(ForgeError, match="no such folder"):
        Git(tmp_path / "nowhere").run("status")


def test_git_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ForgeError, match="git is not installed"):
        Git(tmp_path).run("status")


def test_the_repository_of_a_running_hook_does_not_leak_in(tmp_path, monkeypatch):
    outer, inner = repository(tmp_path / "outer"), repository(tmp_path / "inner", x="inner")
    monkeypatch.setenv("GIT_DIR", str(outer.folder / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(outer.folder / ".git" / "index"))

    assert inner.run("ls-files") == "x"


def test_changed_lists_new_files_in_new_folders_and_names_with_spaces(tmp_path):
    git = repository(tmp_path / "work")
    (tmp_path / "work" / "new folder").mkdir()
    (tmp_path / "work" / "new folder" / "ä b").write_text("x")

    assert git.changed() == ("new folder/ä b",)


def test_branch_is_none_on_a_detached_head(tmp_path):
    git = repository(tmp_path / "work")
    assert git.branch() == "main"

    git.run("checkout", "--quiet", "--detach")

    assert git.branch() is None


@pytest.mark.parametrize("name", ["a\0b", "a" * 200_000], ids=["with NUL", "without end"])
def test_a_name_that_no_file_can_have_is_an_error_with_a_mend(tmp_path, name):
    git = repository(tmp_path / "work")

    with pytest.raises(ForgeError, match="git cannot be asked for that") as caught:
        git.blob(f"HEAD:{name}")

    assert len(caught.value.where) <= 200


def test_a_path_is_a_path_whatever_it_begins_with_or_holds(tmp_path):
    git = repository(tmp_path / "work")
    first = git.find("HEAD")
    for name in ("plain", "a\rb", ":(glob)x"):
        (tmp_path / "work" / name).write_text("1")
    git.commit("names", ".")

    assert set(differing(git, first, "HEAD")) == {":(glob)x", "a\rb", "plain"}
    assert differing(git, first, "HEAD", paths=["plain", ":(exclude)*"]) == ("plain",)
    assert differing(git, first, "HEAD", paths=[":(glob)x"]) == (":(glob)x",)


class TestPush:
    def two_clones(self, tmp_path):
        remote = Git.init(tmp_path / "remote.git", bare=True)
        repository(tmp_path / "seed").push(str(remote.folder), "main", expected=None)
        return [Git.clone(str(remote.folder), tmp_path / name) for name in ("one", "two")]

    def work(self, git, text, start="main"):
        git.switch("topic", start=start)
        (git.folder / "topic").write_text(text)
        return git.commit(text, "topic")

    def test_a_new_branch_is_pushed(self, tmp_path):
        one, two = self.two_clones(tmp_path)
        commit = self.work(one, "mine")

        one.push("origin", "topic", expected=one.remote_head("origin", "topic"))

        assert two.remote_head("origin", "topic") == commit

    def test_a_rewritten_branch_replaces_what_was_seen_there(self, tmp_path):
        one, _ = self.two_clones(tmp_path)
        self.work(one, "first try")
        one.push("origin", "topic", expected=None)
        commit = self.work(one, "second try")

        one.push("origin", "topic", expected=one.remote_head("origin", "topic"))

        assert one.remote_head("origin", "topic") == commit

    def test_a_branch_that_somebody_else_moved_meanwhile_is_not_overwritten(self, tmp_path):
        one, two = self.two_clones(tmp_path)
        seen = self.work(one, "mine")
        one.push("origin", "topic", expected=None)
        theirs = self.work(two, "theirs")
        two.push("origin", "topic", expected=seen)
        self.work(one, "mine again")

        with pytest.raises(ForgeError, match="stale info") as caught:
            one.push("origin", "topic", expected=seen)

        assert "fetch" in caught.value.hint
        assert one.remote_head("origin", "topic") == theirs

    def test_a_branch_that_appeared_meanwhile_is_not_overwritten(self, tmp_path):
        one, two = self.two_clones(tmp_path)
        self.work(one, "mine")
        self.work(two, "theirs")
        two.push("origin", "topic", expected=None)

        with pytest.raises(ForgeError, match="stale info"):
            one.push("origin", "topic", expected=None)

    def test_fetch_brings_named_branches_and_forgets_nothing_else(self, tmp_path):
        one, two = self.two_clones(tmp_path)
        commit = self.work(one, "mine")
        one.push("origin", "topic", expected=None)

        two.fetch("origin", "topic")

        assert two.find("origin/topic") == commit
        assert two.find("origin/main") is not None


def test_a_server_that_wants_a_password_is_an_error_and_not_a_prompt(tmp_path):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Closed(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()

        def log_message(self, *_):
            pass

    git = repository(tmp_path / "work")
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ForgeError) as caught:
            git.run("fetch", f"http://127.0.0.1:{server.server_port}/x.git")
        server.shutdown()

    assert caught.value.hint == "give git credentials"


def test_the_wrapper_agrees_with_git_itself(tmp_path):
    git = repository(tmp_path / "work")

    plain = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=git.folder, capture_output=True, text=True, check=True
    ).stdout.strip()

    assert git.find("main") == plain
    assert git.find("nothing") is None


class TestRefusals:
    """What git refuses to read is not absent."""

    def test_another_owners_repository_is_an_error_with_gits_own_words(self, tmp_path, monkeypatch):
        git = repository(tmp_path / "work")
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        for ask in (
            lambda: git.find("HEAD"),
            lambda: git.show("HEAD", "readme"),
            lambda: git.blob("HEAD:readme"),
            git.branch,
        ):
            with pytest.raises(ForgeError, match="dubious ownership") as caught:
                ask()
            assert "safe.directory" in caught.value.hint

    def test_a_bare_repository_that_git_does_not_take_is_an_error(self, tmp_path, monkeypatch):
        git = Git.init(tmp_path / "bare", bare=True)
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.bareRepository")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", "explicit")
        with pytest.raises(ForgeError, match="safe.bareRepository"):
            git.find("main")

    def test_a_damaged_repository_is_an_error(self, tmp_path):
        git = repository(tmp_path / "work")
        (tmp_path / "work" / ".git" / "HEAD").unlink()
        with pytest.raises(ForgeError, match="not a git repository"):
            git.find("main")

    def test_a_folder_without_git_and_a_name_that_is_not_there_are_absent(self, tmp_path):
        (tmp_path / "plain").mkdir()
        assert (Git(tmp_path / "plain").find("main"), Git(tmp_path / "plain").branch()) == (None, None)
        git = repository(tmp_path / "work")
        (tmp_path / "work" / "folder").mkdir()
        (tmp_path / "work" / "folder" / "file").write_text("x")
        git.commit("second", ".")
        assert [git.find("nowhere"), git.find("1" * 40), git.find("HEAD:folder")] == [None, None, None]
        assert [git.show("HEAD", "nowhere"), git.show("HEAD", "folder")] == [None, None]
        names = ("HEAD:nowhere", "nowhere:readme", "1" * 40 + ":readme", "HEAD:folder")
        assert [git.blob(name) for name in names] == [None] * 4


class TestWorktree:
    def test_it_has_the_commits_files_and_leaves_the_persons_alone(self, tmp_path):
        git = repository(tmp_path / "work", a="1")
        (tmp_path / "work" / "a").write_text("mine")

        with git.worktree(tmp_path / "work" / "own", "HEAD") as own:
            assert (own.folder / "a").read_text() == "1"
            (own.folder / "a").write_text("2")

        assert git.changed()[0] == "a"
        assert (tmp_path / "work" / "a").read_text() == "mine"
        assert [path.name for path in (tmp_path / "work" / "own").iterdir()] == ["lock"]
        assert len(git.run("worktree", "list").splitlines()) == 1

    def test_one_that_was_killed_at_any_moment_is_removed_by_the_next(self, tmp_path):
        git = repository(tmp_path / "work", a="1")
        folder = tmp_path / "work" / "own"
        left = folder / "own-killed"
        git.run("worktree", "add", "--quiet", "--detach", str(left), "HEAD")
        git.run("worktree", "lock", str(left))  # as git leaves one that it was killed in making
        (left / ".git").unlink()
        (tmp_path / "work" / ".git" / "worktrees" / "own-killed" / "index.lock").touch()

        with git.worktree(folder, "HEAD") as own:
            assert (own.folder / "a").read_text() == "1"

        assert not left.exists()
        assert not list((tmp_path / "work" / ".git" / "worktrees").glob("*"))

    def test_two_at_once_are_refused(self, tmp_path):
        git = repository(tmp_path / "work", a="1")

        with (
            git.worktree(tmp_path / "own", "HEAD"),
            pytest.raises(ForgeError, match="another process"),
            git.worktree(tmp_path / "own", "HEAD"),
        ):
            pass


class TestTrees:
    """Trees that are made without a work tree."""

    def test_entries_take_the_place_of_what_is_there_and_the_rest_stays(self, tmp_path):
        git = repository(tmp_path / "work")
        for name in ("store/a/one", "store/b", "kept"):
            (git.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (git.folder / name).write_text(name)
        git.commit("files", ".")
        blob = f"{FILE} blob {store_text(git, 'new')}"

        tree = with_entries(
            git, tree_of(git, "HEAD"), {"store/a": None, "store/b/deep": blob, "readme/x": blob, "no": None}
        )

        assert git.run("ls-tree", "-r", "--name-only", tree).splitlines() == ["kept", "readme/x", "store/b/deep"]
        assert git.changed() == ()

    def test_where_everything_goes_nothing_is_left_and_without_entries_it_is_the_same(self, tmp_path):
        git = repository(tmp_path / "work")
        tree = tree_of(git, "HEAD")

        assert with_entries(git, tree, {"readme": None}) == empty_tree(git)
        assert with_entries(git, tree, {}) == tree
