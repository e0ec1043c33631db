"""The comment by CML, by the API, and by turns."""

import os
import shutil
import stat
import time

import pytest
from github_examples import Fault, bad_day

from mergeline.errors import ToolError
from mergeline.github.actions import Job
from mergeline.github.comment import About, Post, compose, post_report, send, why_unusable

needs_cml = pytest.mark.skipif(shutil.which("cml") is None, reason="CML is not installed")
HEAD = "c0ffee" + "0" * 34
TOKEN = "ghs_secret"  # noqa: S105 - nobody's


def a_post(models, number, text="## Report", run="1.1"):
    return Post(repository=models.name, number=number, key="report", text=text, about=About(head=HEAD, run=run))


def bodies(models, number):
    return [comment["body"] for comment in models.comments(number)]


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Put a program on the PATH as `cml`; it writes its arguments and environment beside itself."""

    def put(script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "cml"
        program.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {folder}/arguments\nenv > {folder}/environment\n{script}\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder

    return put


class TestWithCml:
    @needs_cml
    def test_cml_posts_and_then_updates_its_comment(self, models):
        number = models.pull()

        first = post_report(models.forge(), a_post(models, number, "## One\n\n> [!WARNING]\n> - [ ] $x$"))
        second = post_report(models.forge(), a_post(models, number, "## Two"))

        assert (first.way, second.way) == ("CML", "CML")
        assert bodies(models, number) == [compose("report", "## Two", About(head=HEAD, run="1.1"))]

    @needs_cml
    def test_cml_writes_what_the_api_writes_to_the_letter(self, models):
        number = models.pull()
        text = (
            "## One\n\n> [!WARNING]\n> a\n\n- [ ] task $x_1$ `code`\n\n<details><summary>a</summary>\n\nb\n\n</details>"
        )

        posted = post_report(models.forge(), a_post(models, number, text))

        assert posted.way == "CML"
        assert bodies(models, number) == [compose("report", text, About(head=HEAD, run="1.1"))]

    @needs_cml
    def test_the_two_ways_take_turns_on_one_comment(self, models):
        number = models.pull()
        forge = models.forge()

        post_report(forge, a_post(models, number, "by cml"))
        forge.comment(number, "report", "by the API")
        posted = post_report(forge, a_post(models, number, "by cml again"))
        forge.stick(number, "report", "by the API again", About(head=HEAD))

        assert posted.way == "CML"
        (body,) = bodies(models, number)
        assert "by the API again" in body

    @needs_cml
    def test_beyond_thirty_comments_the_api_goes_on_with_the_same_one(self, models):
        number = models.pull()
        for count in range(31):
            models.say(number, f"comment {count}")

        first = post_report(models.forge(), a_post(models, number, "one"))
        second = post_report(models.forge(), a_post(models, number, "two"))

        assert (first.way, second.way) == ("the API", "the API")
        assert "31 comments" in first.why
        assert "beyond the first 30" in second.why
        assert len(bodies(models, number)) == 32

    @needs_cml
    def test_a_comment_of_somebody_else_with_cmls_watermark_is_left_alone(self, models):
        number = models.pull()
        theirs = compose("report", "mine!", About(head=HEAD))
        models.say(number, theirs, by="bob")

        posted = post_report(models.forge(), a_post(models, number))

        assert posted.way == "the API"
        assert "bob" in posted.why
        assert bodies(models, number)[0] == theirs

    def test_what_is_said_already_is_not_said_again(self, models, pretend):
        number = models.pull()
        models.forge().stick(number, "report", "## Report", About(head=HEAD, run="1.1"))
        folder = pretend("exit 0")

        posted = post_report(models.forge(), a_post(models, number))

        assert posted.why == "it says so already"
        assert not (folder / "arguments").exists()

    @needs_cml
    def test_a_refusal_is_told_and_the_api_tells_the_permission(self, models):
        number = models.pull()
        with pytest.raises(ToolError, match="CML failed"):
            send(models.job({"contents": "read"}), a_post(models, number))

    @needs_cml
    def test_nothing_is_left_in_the_home_folder(self, models, tmp_path, monkeypatch):
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))

        post_report(models.forge(), a_post(models, models.pull()))

        assert list(home.iterdir()) == []


class TestWithoutCml:
    def test_where_it_is_missing_the_api_posts(self, models, monkeypatch, tmp_path):
        number = models.pull()
        git = shutil.which("git")
        (tmp_path / "git").symlink_to(git)
        monkeypatch.setenv("PATH", str(tmp_path))

        posted = post_report(models.forge(), a_post(models, number))

        assert (posted.way, posted.why) == ("the API", "CML is not installed")
        assert bodies(models, number) == [compose("report", "## Report", About(head=HEAD, run="1.1"))]

    def test_where_it_fails_the_api_posts_and_says_why_without_the_token(self, models, pretend):
        number = models.pull()
        pretend('echo "{\\"message\\":\\"cannot: $REPO_TOKEN\\"}" >&2; exit 1')
        forge = models.forge()

        posted = post_report(forge, a_post(models, number))

        assert posted.way == "the API"
        assert "CML failed" in posted.why
        assert forge.client.job.token not in posted.why
        assert len(bodies(models, number)) == 1

    def test_where_it_hangs_it_is_ended_with_all_that_it_started(self, models, pretend):
        number = models.pull()
        folder = pretend("sleep 300 & echo $! > $(dirname $0)/child; wait")

        start = time.monotonic()
        posted = post_report(models.forge(), a_post(models, number), limit_seconds=1)

        assert time.monotonic() - start < 20
        assert "did not end within 1 s" in posted.why
        assert len(bodies(models, number)) == 1
        child = int((folder / "child").read_text())
        assert not _runs(child)

    def test_where_it_says_done_and_did_nothing_the_api_posts(self, models, pretend):
        number = models.pull()
        pretend("exit 0")

        post_report(models.forge(), a_post(models, number))

        assert len(bodies(models, number)) == 1

    def test_where_it_cannot_reach_the_api_it_is_not_asked(self, models):
        number = models.pull()
        with bad_day(models) as (urls, _):
            posted = post_report(models.forge(**urls), a_post(models, number))

        assert posted.way == "the API"
        assert why_unusable(Job(server_url="http://127.0.0.1:1", api_url="http://127.0.0.1:1/api/v3"))

    def test_a_bad_day_of_github_is_waited_out_all_the_same(self, models):
        number = models.pull()
        with bad_day(models, Fault("POST", "/comments$", 502, "Server Error")) as (urls, _):
            post_report(models.forge(**urls), a_post(models, number))

        assert len(bodies(models, number)) == 1


class TestHowItIsCalled:
    def test_the_token_is_in_the_environment_alone_and_nothing_of_ours_is(self, pretend, monkeypatch):
        folder = pretend("exit 0")
        monkeypatch.setenv("CML_COMMENT_PUBLISH", "true")
        monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "store")
        post = Post(repository="acme/models", number=7, key="report", text="x", about=About(head=HEAD))

        send(Job(token=TOKEN), post)

        arguments = (folder / "arguments").read_text().splitlines()
        environment = dict(
            line.split("=", 1) for line in (folder / "environment").read_text().splitlines() if "=" in line
        )
        assert arguments[:2] == ["comment", "update"]
        assert {"--publish=false", "--target=pr/7", "--watermark-title=mergeline:report"} <= set(arguments)
        assert not any(TOKEN in argument for argument in arguments)
        assert environment["REPO_TOKEN"] == TOKEN
        assert environment["ITERATIVE_DO_NOT_TRACK"] == "1"
        assert environment["GITHUB_SHA"] == HEAD
        assert environment["GIT_CONFIG_GLOBAL"].startswith(environment["HOME"])
        assert not {"CML_COMMENT_PUBLISH", "GITHUB_SERVER_URL", "AWS_SECRET_ACCESS_KEY"} & set(environment)


def _runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - not a file of ours
        return file.read().rpartition(")")[2].split()[0] != "Z"
