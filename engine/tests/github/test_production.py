"""Production's history out of a real repository, and pages on a branch of their own."""

import pytest
from bundle_examples import verdict_of
from release_examples import release
from typer.testing import CliRunner

from mergeline.cli.verbs import app
from mergeline.errors import ForgeError
from mergeline.github.git import Git
from mergeline.github.production import PAGES_BRANCH, changed_paths, publish, published, read_revisions
from mergeline.manifest.edit import empty_manifest, promote


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A repository with a remote; nobody else's settings count."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    Git.init(tmp_path / "remote.git", bare=True)
    work = Git.init(tmp_path / "work")
    work.run("remote", "add", "origin", str(tmp_path / "remote.git"))
    commit(work, "Start", empty_manifest("flights"))
    return work


def commit(git, subject, text, file="deploy/manifest.yaml"):
    path = git.folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return git.commit(subject, file)


def merged(git, subject, text):
    """A branch that took two commits, merged with a merge commit."""
    git.switch("topic", start="HEAD")
    commit(git, "half", text + "# half\n")
    commit(git, "done", text)
    git.switch("main")
    git.run("merge", "--quiet", "--no-ff", "--message", subject, "topic", settings=git.identity())
    return git.find("HEAD")


def pages(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_html", ".html")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def reported(folder, digest):
    """A report with the verdict that says which model it is about; without one for no digest."""
    report = folder / "report.html"
    report.write_text("<p>why\n")
    if digest:
        (folder / "verdict.json").write_text(verdict_of(digest).model_dump_json())
    return report


def read(git, name):
    return git.run("show", f"refs/remotes/origin/{PAGES_BRANCH}:{name}")


class TestRevisions:
    def test_merges_are_told_and_what_happened_on_the_branch_is_not(self, git):
        text = promote(empty_manifest("flights"), release(1))
        tip = merged(git, "Merge pull request #1 from us/topic", text)

        found = read_revisions(git)

        assert [revision.subject for revision in found] == ["Start", "Merge pull request #1 from us/topic"]
        assert (found[-1].commit, found[-1].text, found[-1].merge) == (tip, text, True)
        assert not found[0].merge

    def test_commits_that_leave_the_manifest_alone_are_left_out(self, git):
        commit(git, "Words", "hello\n", file="README.md")

        assert [revision.subject for revision in read_revisions(git)] == ["Start"]

    def test_a_manifest_that_was_deleted_is_a_state_too(self, git):
        (git.folder / "deploy" / "manifest.yaml").unlink()
        git.commit("Gone", "deploy/manifest.yaml")

        assert read_revisions(git)[-1].text is None

    def test_a_history_that_was_cut_off_is_refused(self, git, tmp_path):
        commit(git, "Two", "two\n")
        git.run("push", "--quiet", "origin", "main")
        Git(tmp_path).run("clone", "--quiet", "--depth=1", f"file://{tmp_path / 'remote.git'}", str(tmp_path / "cut"))

        with pytest.raises(ForgeError, match="not here whole") as caught:
            read_revisions(Git(tmp_path / "cut"))

        assert "fetch-depth: 0" in caught.value.hint


class TestChangedPaths:
    def test_what_differs_from_a_commit_is_named_as_it_is(self, git):
        before = git.find("HEAD")
        commit(git, "Odd", "x\n", file="deploy/ü b.txt")

        assert changed_paths(git, before) == ("deploy/ü b.txt",)

    @pytest.mark.parametrize("before", ["0" * 40, "f" * 40, "", "--help"])
    def test_a_commit_that_is_not_here_is_nobody_s_knowledge(self, git, before):
        assert changed_paths(git, before) is None


class TestPublishing:
    def test_the_first_page_makes_the_branch(self, git, tmp_path):
        made = publish(git, "origin", pages(tmp_path / "site", index_html="one\n"), "first\n")

        git.fetch("origin")
        assert git.remote_head("origin", PAGES_BRANCH) == made
        assert read(git, "index.html") == "one"
        assert set(published(git, "origin")) == {"index.html", ".nojekyll"}

    def test_what_was_published_before_stays_beside_it(self, git, tmp_path):
        publish(git, "origin", pages(tmp_path / "one", index_html="one\n", reports__a_html="a\n"), "first\n")
        publish(git, "origin", pages(tmp_path / "two", index_html="two\n", reports__b_html="b\n"), "second\n")

        git.fetch("origin")
        assert [read(git, name) for name in ("index.html", "reports/a.html", "reports/b.html")] == ["two", "a", "b"]

    def test_the_same_page_again_makes_no_commit(self, git, tmp_path):
        site = pages(tmp_path / "site", index_html="one\n")

        assert publish(git, "origin", site, "first\n") == publish(git, "origin", site, "again\n")

    def test_the_work_tree_its_branch_and_its_history_are_left_alone(self, git, tmp_path):
        before = (git.branch(), git.find("HEAD"), git.changed())

        publish(git, "origin", pages(tmp_path / "site", index_html="one\n"), "first\n")
        published(git, "origin")

        assert (git.branch(), git.find("HEAD"), git.changed()) == before
        assert git.run("rev-parse", "--is-shallow-repository") == "false"

    def test_a_page_that_came_between_is_kept(self, git, tmp_path):
        """Somebody else publishes between the look at the branch and the push: a hook does it here."""
        publish(git, "origin", pages(tmp_path / "one", index_html="one\n", reports__a_html="a\n"), "first\n")
        other = Git.clone(str(tmp_path / "remote.git"), tmp_path / "other")
        hook = git.folder / ".git" / "hooks" / "pre-push"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(
            f"#!/bin/sh\nrm '{hook}'\ncd '{other.folder}' && git fetch -q origin {PAGES_BRANCH} && "
            f"git switch -q --detach FETCH_HEAD && echo theirs > reports/c.html && git add . && "
            f"git -c user.name=x -c user.email=x@x commit -q -m theirs && git push -q origin HEAD:{PAGES_BRANCH}\n"
        )
        hook.chmod(0o755)

        publish(git, "origin", pages(tmp_path / "two", index_html="two\n"), "second\n")

        git.fetch("origin")
        assert [read(git, name) for name in ("index.html", "reports/a.html", "reports/c.html")] == [
            "two",
            "a",
            "theirs",
        ]

    def test_a_remote_that_refuses_is_told_in_its_words(self, git, tmp_path):
        hook = tmp_path / "remote.git" / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho no pages here >&2\nexit 1\n")
        hook.chmod(0o755)

        with pytest.raises(ForgeError, match="no pages here"):
            publish(git, "origin", pages(tmp_path / "site", index_html="one\n"), "first\n")


class TestVerbs:
    @pytest.fixture(autouse=True)
    def _job(self, git, tmp_path, monkeypatch):
        """A job of GitHub Actions in the clone."""
        monkeypatch.chdir(git.folder)
        for name in ("GITHUB_TOKEN", "GITHUB_SERVER_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GITHUB_REPOSITORY", "acme/flights")
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
            monkeypatch.setenv(name, str(tmp_path / name))

    @pytest.mark.slow
    def test_plan_gives_the_job_its_outputs(self, git, tmp_path):
        before = git.find("HEAD")
        commit(git, "Version 1 (#11)", promote(empty_manifest("flights"), release(1)))

        done = CliRunner().invoke(app, ["ci", "plan", "--before", before])

        assert done.exit_code == 0, done.output
        lines = (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
        outputs = {lines[i].partition("<<")[0]: lines[i + 1] for i in range(0, len(lines), 3)}
        wanted = {"released": "true", "report": "false", "image": "false", "page": "true"}
        assert wanted.items() <= outputs.items()
        assert "version 1" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()

    @pytest.mark.slow
    def test_a_manifest_of_an_earlier_format_counts_as_unknown(self, git):
        commit(git, "Old", "apiVersion: mergeline/v0\n")
        before = git.find("HEAD")
        commit(git, "Version 1 (#11)", promote(empty_manifest("flights"), release(1)))

        done = CliRunner().invoke(app, ["ci", "plan", "--before", before, "--json"])

        assert done.exit_code == 0, done.output
        assert '"released": true' in done.output

    def test_page_publishes_the_history_and_the_report_of_what_serves(self, git, tmp_path):
        model = release(1)
        commit(git, "Version 1 (#11)", promote(empty_manifest("flights"), model))
        report = reported(tmp_path, model.digest)

        done = CliRunner().invoke(
            app, ["ci", "page", "--output", str(tmp_path / "site"), "--report", str(report), "--publish"]
        )

        assert done.exit_code == 0, done.output
        git.fetch("origin")
        page = read(git, "index.html")
        name = f"reports/{model.digest.removeprefix('sha256:')[:12]}.html"
        assert 'href="https://github.com/acme/flights/pull/11"' in page
        assert f'href="{name}"' in page
        assert read(git, name) == "<p>why"

    @pytest.mark.parametrize("digest", [release(2).digest, None])
    def test_a_report_about_another_model_or_about_nobody_knows_which_is_left_out(self, git, tmp_path, digest):
        commit(git, "Version 1 (#11)", promote(empty_manifest("flights"), release(1)))
        report = reported(tmp_path, digest)

        done = CliRunner().invoke(app, ["ci", "page", "--output", str(tmp_path / "site"), "--report", str(report)])

        assert done.exit_code == 0, done.output
        assert [path.name for path in (tmp_path / "site").rglob("*.html")] == ["index.html"]

    def test_page_keeps_the_links_to_reports_that_were_published_before(self, git, tmp_path):
        commit(git, "Version 1 (#11)", promote(empty_manifest("flights"), release(1)))
        report = reported(tmp_path, release(1).digest)
        CliRunner().invoke(app, ["ci", "page", "--output", str(tmp_path / "one"), "--report", str(report), "--publish"])

        text = (git.folder / "deploy" / "manifest.yaml").read_text()
        commit(git, "Version 2 (#12)", promote(text, release(2)))
        done = CliRunner().invoke(app, ["ci", "page", "--output", str(tmp_path / "two"), "--publish"])

        assert done.exit_code == 0, done.output
        git.fetch("origin")
        assert f"reports/{release(1).digest.removeprefix('sha256:')[:12]}.html" in read(git, "index.html")
