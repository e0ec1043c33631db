import contextlib
import http.server
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback import answering
from mergeline.errors import ForgeError
from mergeline.github.actions import add_summary, api_of, locate, read_event, read_job, set_output
from mergeline.github.git import Git, credentials


def read_outputs(text):
    """What the runner makes of the file: `name<<delimiter`, lines, delimiter."""
    found, lines = {}, text.split("\n")
    while lines and lines[0]:
        name, delimiter = lines.pop(0).split("<<", 1)
        value = []
        while (line := lines.pop(0)) != delimiter:
            value.append(line)
        found[name] = "\n".join(value)
    return found


class TestOutputs:
    def test_a_value_of_many_lines_sets_nothing_else(self, tmp_path, monkeypatch):
        file = tmp_path / "output"
        monkeypatch.setenv("GITHUB_OUTPUT", str(file))
        hostile = "first\nEOF\nadmin=true\nadmin<<EOF\ntrue\nEOF"

        set_output("headline", hostile)
        set_output("state", "proposed")

        assert read_outputs(file.read_text()) == {"headline": hostile, "state": "proposed"}

    def test_outside_actions_nothing_happens(self, monkeypatch):
        monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
        monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

        set_output("state", "proposed")
        add_summary("text")

    def test_two_values_never_share_a_delimiter(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
        set_output("a", "1")
        set_output("b", "2")

        delimiters = re.findall(r"<<(.+)", (tmp_path / "output").read_text())
        assert len(set(delimiters)) == 2


class TestSummary:
    def test_several_are_one_below_the_other(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))

        add_summary("## One")
        add_summary("## Two")

        assert (tmp_path / "summary").read_text() == "## One\n## Two\n"

    def test_it_stays_below_what_github_takes_however_often(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))

        for _ in range(5):
            add_summary("漢字 line\n" * 40_000)

        written = (tmp_path / "summary").read_text()
        assert len(written.encode()) < 1024 * 1024
        assert "left out" in written


class TestTheJob:
    def test_it_is_read_from_the_environment(self):
        job = read_job(
            {
                "GITHUB_REPOSITORY": "acme/models",
                "GITHUB_SERVER_URL": "https://github.example.com",
                "GITHUB_API_URL": "https://github.example.com/api/v3/",
                "GITHUB_TOKEN": "t",
                "GITHUB_RUN_ID": "7",
                "GITHUB_JOB": "propose",
                "GITHUB_WORKFLOW_REF": "acme/models/.github/workflows/model.yml@refs/heads/main",
                "GITHUB_ACTIONS": "true",
            }
        )

        assert (job.api_url, job.workflow_file) == ("https://github.example.com/api/v3", ".github/workflows/model.yml")
        assert job.run_url == "https://github.example.com/acme/models/actions/runs/7"
        assert job.run_attempt == "1"

    def test_an_empty_environment_is_github_com_and_nobody(self):
        job = read_job({})

        assert (job.server_url, job.api_url, job.token) == ("https://github.com", "https://api.github.com", "")

    def test_a_persons_variables_count_too(self):
        job = read_job({"GH_TOKEN": "t", "GH_HOST": "github.example.com"})

        assert (job.token, job.api_url) == ("t", "https://github.example.com/api/v3")

    @pytest.mark.parametrize(
        ("server", "api"),
        [
            ("https://github.com", "https://api.github.com"),
            ("https://acme.ghe.com", "https://api.acme.ghe.com"),
            ("https://github.example.com:8443", "https://github.example.com:8443/api/v3"),
            ("http://127.0.0.1:4001", "http://127.0.0.1:4001/api/v3"),
        ],
    )
    def test_each_kind_of_server_has_its_api(self, server, api):
        assert api_of(server) == api

    @pytest.mark.parametrize("content", ["", "[]", "{", "null"])
    def test_an_event_that_is_none_is_refused(self, tmp_path, content):
        (tmp_path / "event.json").write_text(content)

        with pytest.raises(ForgeError, match="event"):
            read_event(tmp_path / "event.json")


class TestRemotes:
    job = read_job({"GITHUB_SERVER_URL": "https://ghes.example.com:8443"})

    @pytest.mark.parametrize(
        "url",
        [
            "https://github.com/acme/models",
            "https://github.com/acme/models.git",
            "https://x-access-token:secret@github.com/acme/models.git/",
            "git@github.com:acme/models.git",
            "ssh://git@github.com/acme/models.git",
            "ssh://git@ssh.github.com:443/acme/models.git",
            "git://github.com/acme/models",
        ],
    )
    def test_every_way_to_write_an_address_of_github_com(self, url):
        name, found = locate(url, self.job)

        assert (name, found.server_url, found.api_url) == (
            "acme/models",
            "https://github.com",
            "https://api.github.com",
        )

    @pytest.mark.parametrize(
        "url",
        [
            "https://ghes.example.com:8443/acme/models.git",
            "git@ghes.example.com:acme/models.git",
            "ssh://git@ghes.example.com:2222/acme/models",
        ],
    )
    def test_the_server_that_the_job_runs_for(self, url):
        assert locate(url, self.job) == ("acme/models", self.job)

    def test_a_host_with_data_residency(self):
        _, found = locate("https://acme.ghe.com/acme/models.git", read_job({}))

        assert found.api_url == "https://api.acme.ghe.com"

    @pytest.mark.parametrize(
        "url",
        [
            "https://gitlab.com/acme/models.git",
            "https://github.com.evil.example/acme/models",
            "https://evilgithub.com/acme/models",
            "https://github.com/acme",
            "https://github.com/acme/models/extra",
            "https://ghes.example.com:9999/acme/models",
            "/srv/forge/repository.git",
            "../repository.git",
            "C:\\repos\\models",
            "",
        ],
    )
    def test_anything_else_is_no_github(self, url):
        assert locate(url, self.job) is None

    @given(st.text(max_size=40))
    def test_no_address_is_an_error(self, url):
        locate(url, self.job)


class TestCredentials:
    def test_the_token_goes_to_the_jobs_server_and_nowhere_else(self):
        given_ = credentials({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_TOKEN": "secret"})

        keys = [value for name, value in given_.items() if name.startswith("GIT_CONFIG_KEY")]
        assert keys == ["http.https://github.com/.extraheader"] * 2
        assert given_["GIT_CONFIG_VALUE_1"] == "AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0"

    def test_settings_that_are_given_already_stay(self):
        given_ = credentials(
            {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_TOKEN": "secret", "GIT_CONFIG_COUNT": "2"}
        )

        assert given_["GIT_CONFIG_COUNT"] == "4"
        assert {"GIT_CONFIG_KEY_2", "GIT_CONFIG_KEY_3"} <= set(given_)

    @pytest.mark.parametrize(
        "environment",
        [
            {},
            {"GITHUB_TOKEN": "secret"},
            {"GITHUB_SERVER_URL": "https://github.com"},
            {"GITHUB_TOKEN": "secret", "GITHUB_SERVER_URL": "http://github.example.com"},
        ],
    )
    def test_without_a_job_or_without_encryption_there_are_none(self, environment):
        assert credentials(environment) == {}

    def test_git_sends_them_once_and_to_that_server_alone(self, tmp_path, monkeypatch):
        with listening() as (job_server, at_home), listening() as (other_server, abroad):
            monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
            monkeypatch.setenv("GITHUB_SERVER_URL", job_server)
            monkeypatch.setenv("GITHUB_TOKEN", "secret")
            git = Git.init(tmp_path)
            # what actions/checkout leaves unless it is told not to
            git.run("config", f"http.{job_server}/.extraheader", "AUTHORIZATION: basic b2xkOm9sZA==")

            for server in (job_server, other_server):
                git.attempt("ls-remote", f"{server}/acme/models.git")
            git.attempt("status")

        assert at_home == [["basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0"]]
        assert abroad == [[]]


@contextlib.contextmanager
def listening():
    """A server on this machine: its address, and the Authorization headers of each request."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get_all("Authorization") or [])
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    with answering(server):
        yield f"http://127.0.0.1:{server.server_port}", seen
