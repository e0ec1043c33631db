"""Fetching attestations: a server on this machine answers as GitHub's REST API does."""

import contextlib
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
from attest_examples import ADDRESS, attested, released
from own_sigstore import OwnSigstore, verifier_of
from release_examples import release
from typer.testing import CliRunner

from mergeline.ci.attestations import check_attestations, fetch_attestations
from mergeline.cli.app import app
from mergeline.documents import parse
from mergeline.errors import ForgeError
from mergeline.evaluate.results import Status
from mergeline.github.actions import Job
from mergeline.github.client import GitHubClient
from mergeline.github.git import Git
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.manifest.schema import Manifest

DIGEST = release(3).digest
TOKEN = "the-job-s"  # noqa: S105 - nobody else's


@contextlib.contextmanager
def github(*answers):
    """A GitHub that gives these answers (status, body) in turn, the last one for ever; and the requests it saw."""
    seen, left = [], list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            seen.append((self.path, self.headers["Authorization"]))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        job = Job(
            repository="acme/flights",
            token=TOKEN,
            server_url="https://github.com",
            api_url=f"http://127.0.0.1:{server.server_port}",
        )
        yield GitHubClient(job, "acme/flights", patience_seconds=3, timeout_seconds=2), seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kept(*bundles):
    return 200, {"attestations": [{"bundle": bundle, "repository_id": 1} for bundle in bundles]}


@pytest.fixture(scope="module")
def sigstore():
    return OwnSigstore()


@pytest.fixture(scope="module")
def verifier(sigstore, tmp_path_factory):
    return verifier_of(sigstore, tmp_path_factory.mktemp("trust"))


def manifest_of(model):
    text = promote(empty_manifest("flights"), model.model_copy(update={"version": 1}))
    return parse(text, Manifest, "manifest")


class TestFetching:
    def test_the_bundles_of_a_digest_are_read_with_the_token(self):
        with github(kept({"verificationMaterial": {"tlogEntries": [{}]}})) as (client, seen):
            found = fetch_attestations(client, DIGEST)

        assert len(found.bundles) == 1
        assert seen == [(f"/repos/acme/flights/attestations/{DIGEST}?per_page=100", f"token {TOKEN}")]

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ((404, {"message": "Not Found"}), "keeps none"),
            ((200, {"attestations": []}), "keeps none"),
            ((403, {"message": "Upgrade to GitHub Enterprise to use attestations here."}), "Upgrade to GitHub"),
            (kept({"verificationMaterial": {"tlogEntries": []}}), "gh attestation verify"),
        ],
    )
    def test_where_there_are_none_the_reason_is_told(self, answer, words):
        with github(answer) as (client, _):
            found = fetch_attestations(client, DIGEST)

        assert found.bundles == ()
        assert words in found.absence

    def test_a_token_that_may_not_read_them_is_an_error_and_no_absence(self):
        refusal = 403, {"message": "Resource not accessible by integration"}
        with github(refusal) as (client, _), pytest.raises(ForgeError, match="attestations: read"):
            fetch_attestations(client, DIGEST)

    def test_a_server_that_stumbles_is_asked_again(self):
        with github((502, {"message": "Bad Gateway"}), kept({"verificationMaterial": {"tlogEntries": [{}]}})) as (
            client,
            seen,
        ):
            found = fetch_attestations(client, DIGEST)

        assert len(found.bundles) == 1
        assert len(seen) == 2

    def test_a_server_that_stays_down_is_an_error_and_no_absence(self):
        with github((503, {"message": "Unavailable"})) as (client, _), pytest.raises(ForgeError, match="Unavailable"):
            fetch_attestations(client, DIGEST)

    @pytest.mark.parametrize("body", [{}, [], {"attestations": [{"bundle": None}]}, {"attestations": [7]}])
    def test_an_answer_of_another_form_is_an_error_and_no_absence(self, body):
        with github((200, body)) as (client, _), pytest.raises(ForgeError, match="not a list of attestations"):
            fetch_attestations(client, DIGEST)


class TestChecking:
    def test_what_the_workflow_attested_passes(self, sigstore, verifier):
        model, found = released()
        with github(kept(attested(sigstore, model, found))) as (client, _):
            [check] = check_attestations(client, manifest_of(model), lambda: verifier, signed=False, required=True)

        assert check.status is Status.PASS
        assert check.name == "stable: attestation"

    def test_what_somebody_else_attested_fails_even_where_none_is_required(self, sigstore, verifier):
        model, found = released()
        bundle = attested(sigstore, model, found, identity=f"{ADDRESS}/.github/workflows/other.yml@refs/heads/main")
        with github(kept(bundle)) as (client, _):
            [check] = check_attestations(client, manifest_of(model), lambda: verifier, signed=True, required=False)

        assert check.status is Status.FAIL
        assert "somebody else signed it" in check.value

    def test_one_that_was_tampered_with_does_not_spoil_a_good_one(self, sigstore, verifier):
        model, found = released()
        bad = attested(sigstore, model, found)
        bad["dsseEnvelope"]["payload"] = "e30="
        with github(kept(bad, attested(sigstore, model, found))) as (client, _):
            [check] = check_attestations(client, manifest_of(model), lambda: verifier, signed=False, required=True)

        assert check.status is Status.PASS

    def test_without_attestations_the_signature_stands_alone(self):
        model, _ = released()

        def never():
            raise AssertionError("no keys are needed where there is nothing to check")

        with github((404, {"message": "Not Found"})) as (client, _):
            [check] = check_attestations(client, manifest_of(model), never, signed=True, required=False)

        assert check.status is Status.WARN
        assert "stands alone" in check.meaning

    def test_where_nothing_is_released_nothing_is_asked(self):
        with github((500, {})) as (client, seen):
            empty = parse(empty_manifest("flights"), Manifest, "manifest")
            [check] = check_attestations(client, empty, lambda: None, signed=False, required=True)

        assert check.status is Status.SKIP
        assert seen == []


class TestVerb:
    """`mergeline attested` in a clone whose origin is the GitHub of the test."""

    @pytest.fixture
    def attested_verb(self, sigstore, tmp_path, monkeypatch):
        root = tmp_path / "clone"
        git = Git.init(root)
        shutil.copy(Path(__file__).parents[3] / "params.yaml", root)
        (root / "deploy").mkdir()
        (tmp_path / "trusted_root.json").write_text(json.dumps(sigstore.trusted_root()))
        monkeypatch.chdir(root)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        monkeypatch.delenv("MERGELINE_ATTESTATION_REQUIRED", raising=False)

        def run(client, model, *options):
            server = client.job.api_url
            for name, value in {"GITHUB_SERVER_URL": server, "GITHUB_API_URL": server}.items():
                monkeypatch.setenv(name, value)
            git.run("remote", "add", "origin", f"{server}/acme/flights.git")
            (root / "deploy" / "manifest.yaml").write_text(
                promote(empty_manifest("flights"), model.model_copy(update={"version": 1}))
            )
            trust = ["--trusted-root", str(tmp_path / "trusted_root.json")]
            return CliRunner().invoke(app, ["attested", *trust, *options])

        return run

    def test_it_ends_well_where_the_workflow_attested(self, sigstore, attested_verb, tmp_path):
        model, found = released()
        answers = kept()[1]
        with github((200, answers)) as (client, _):
            address = f"{client.job.api_url}/acme/flights"
            identity = f"{address}/.github/workflows/model.yml@refs/pull/42/merge"
            bundle = attested(sigstore, model, found, identity=identity, repository=address)
            answers["attestations"] = kept(bundle)[1]["attestations"]
            done = attested_verb(client, model, "--required")

        assert done.exit_code == 0, done.output
        assert "stable: attestation: **pass**" in (tmp_path / "summary.md").read_text()

    def test_it_ends_with_1_where_somebody_else_did(self, sigstore, attested_verb):
        model, found = released()
        with github(kept(attested(sigstore, model, found))) as (client, _):  # another GitHub's workflow
            done = attested_verb(client, model)

        assert done.exit_code == 1
        assert "fail" in done.output

    def test_without_one_it_says_so_and_goes_on(self, attested_verb, tmp_path, monkeypatch):
        monkeypatch.setenv("MERGELINE_ATTESTATION_REQUIRED", "false")  # as deploy.yml says where nobody asks for it
        model, _ = released()
        with github((404, {"message": "Not Found"})) as (client, _):
            done = attested_verb(client, model)

        assert done.exit_code == 0, done.output
        assert "neither attested nor signed" in (tmp_path / "summary.md").read_text()

    def test_a_repository_may_require_one(self, attested_verb, monkeypatch):
        monkeypatch.setenv("MERGELINE_ATTESTATION_REQUIRED", "true")
        model, _ = released()
        with github((404, {"message": "Not Found"})) as (client, _):
            done = attested_verb(client, model)

        assert done.exit_code == 1

    def test_outside_github_it_names_what_there_is_instead(self, tmp_path, monkeypatch):
        Git.init(tmp_path)
        monkeypatch.chdir(tmp_path)

        done = CliRunner().invoke(app, ["attested"])

        assert isinstance(done.exception, ForgeError)
        assert "release.signing" in done.exception.hint
