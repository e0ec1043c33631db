"""Attestations: a server on this machine answers as GitHub's REST API does, and a stand-in takes the place of gh.

The stand-in is a small program on PATH, as gh is not on this machine: it keeps what it was given, and answers as told.
Whether a signature is good is gh's to say; what is asked of it and what becomes of its answer is ours.
"""

import contextlib
import http.server
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from release_examples import evaluation, model_folder, stored_release
from typer.testing import CliRunner

from loopback import answering
from mergeline.ci.attestation import (
    Attestations,
    check_attestations,
    decide,
    find_attestations,
    problem_of,
    write_subjects,
)
from mergeline.ci.bundle import ApplyOutcome, ApplyResult
from mergeline.cli.verbs import app
from mergeline.documents import parse
from mergeline.errors import ForgeError, ToolError
from mergeline.evaluate.results import Comparison, Estimate, GateCheck, GateOutcome, GateVerdict, PairedMetric, Status
from mergeline.github.actions import Job
from mergeline.github.client import GitHubClient
from mergeline.github.git import Git
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.manifest.schema import Evidence, Manifest
from mergeline.release.proposal import verdict_digest
from mergeline.store.objects import Store

TOKEN = "the-job-s"  # noqa: S105 - nobody else's
SOME, NONE = (200, {"attestations": [{}]}), (404, {"message": "Not Found"})
GH = """#!{python}
import hashlib, json, os, pathlib, sys
folder = pathlib.Path(__file__).parent
file = pathlib.Path(sys.argv[3])
given = dict(arguments=sys.argv[1:], token=os.environ["GH_TOKEN"], sha256=hashlib.sha256(file.read_bytes()).hexdigest())
(folder / "given.json").write_text(json.dumps(given))
told = json.loads((folder / "answer.json").read_text())
sys.stdout.write(told["stdout"])
sys.stderr.write(told["stderr"])
sys.exit(told["code"])
"""


class StandIn:
    """A gh that answers as told; `given` is what it was called with last, None if it was not."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "gh").write_text(GH.format(python=sys.executable))
        (folder / "gh").chmod(0o755)

    def answers(self, *predicates, code=0, stderr="", stdout=None):
        found = [{"verificationResult": {"statement": {"predicate": one}}} for one in predicates]
        told = {"stdout": json.dumps(found) if stdout is None else stdout, "stderr": stderr, "code": code}
        (self.folder / "answer.json").write_text(json.dumps(told))

    @property
    def given(self):
        file = self.folder / "given.json"
        return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture
def gh(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return StandIn(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one model in it."""
    folder = tmp_path_factory.mktemp("store")
    model_folder(folder / "model", 3)
    return folder


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
    api = f"http://127.0.0.1:{server.server_port}"
    job = Job(repository="acme/flights", token=TOKEN, server_url="https://github.com", api_url=api)
    with answering(server):
        yield GitHubClient(job, "acme/flights", patience_seconds=1, timeout_seconds=2), seen


def released(store, **changes):
    """A stored release whose evidence names the digest of its verdict, and the verdict as an attestation states it."""
    plain = stored_release(store, store / "model", 1)
    values = {
        "accepted": True,
        "outcome": GateOutcome.NO_CHAMPION,
        "headline": "the first model",
        "checks": (GateCheck(name="size", status=Status.PASS, value="1.0 MB", bound="50 MB", meaning="small enough"),),
        "comparison": None,
        "challenger_digest": plain.digest,
        "holdout": evaluation().holdout,
    }
    verdict = GateVerdict(**(values | changes))
    evidence = Evidence(pull=42, metrics=plain.evidence.metrics, gate=verdict_digest(verdict))
    return plain.model_copy(update={"evidence": evidence}), verdict.model_dump(mode="json")


def manifest_of(release):
    return parse(promote(empty_manifest("flights"), release), Manifest, "manifest")


def checked(client, store, release, *, signed=False, required=False):
    fetch = Store(str(store)).fetch_folder
    return check_attestations(client, manifest_of(release), fetch, signed=signed, required=required)


class TestWhatGhIsAsked:
    @pytest.fixture
    def given(self, gh, store):
        release, predicate = released(store)
        gh.answers(predicate)
        with github(SOME) as (client, _):
            [check] = checked(client, store, release, required=True)
        assert (check.name, check.status) == ("stable: attestation", Status.PASS)
        return release, gh.given

    def test_the_file_is_the_listing_whose_sha256_is_the_models_digest(self, given):
        release, call = given
        assert f"sha256:{call['sha256']}" == release.digest

    def test_the_token_is_in_the_environment_alone(self, given):
        _, call = given
        assert call["token"] == TOKEN
        assert TOKEN not in " ".join(call["arguments"])

    def test_the_repository_the_predicate_and_no_host_for_github_itself(self, given):
        _, call = given
        words = " ".join(call["arguments"])
        assert words.startswith("attestation verify ")
        assert "--repo acme/flights --format json" in words
        assert "--predicate-type urn:mergeline:gate:v1" in words
        assert "--hostname" not in words

    @pytest.mark.parametrize(
        ("identity", "fits"),
        [
            ("https://github.com/acme/flights/.github/workflows/proposal.yml@refs/heads/main", True),
            ("https://github.com/acme/flights/.github/workflows/proposal.yml@refs/pull/42/merge", True),
            ("https://github.com/acme/flights/.github/workflows/model.yml@refs/heads/main", True),
            ("https://github.com/acme/flights/.github/workflows/model.yml@refs/pull/42/merge", True),
            ("https://github.com/acme/flights/.github/workflows/checks.yml@refs/heads/main", False),
            ("https://github.com/acme/flights/.github/workflows/model.yml@refs/heads/feature", False),
            ("https://github.com/acme/flights/.github/workflows/model.yml@refs/pull/43/merge", False),
            ("https://github.com/acme/flights/.github/workflows/model.yml@refs/tags/main", False),
            ("https://github.com/mallory/flights/.github/workflows/model.yml@refs/heads/main", False),
            ("https://github.com/acme/flights/.github/workflows/modelXyml@refs/heads/main", False),
        ],
    )
    def test_another_workflow_branch_or_pull_request_does_not_fit_what_is_asked_for(self, given, identity, fits):
        _, call = given
        pattern = call["arguments"][call["arguments"].index("--cert-identity-regex") + 1]
        assert bool(re.search(pattern, identity)) is fits

    def test_a_tenants_own_host_is_named(self, gh, store):
        release, predicate = released(store)
        gh.answers(predicate)
        with github(SOME) as (client, _):
            client.job = client.job.model_copy(update={"server_url": "https://acme.ghe.com"})
            checked(client, store, release)
        assert gh.given["arguments"][-2:] == ["--hostname", "acme.ghe.com"]


class TestWhatGhAnswers:
    def test_none_that_it_verifies_fails_even_where_none_is_required(self, gh, store):
        release, _ = released(store)
        gh.answers(code=1, stderr="Error: verifying with issuer failed")
        with github(SOME) as (client, _):
            [check] = checked(client, store, release, signed=True)
        assert check.status is Status.FAIL
        assert "verifying with issuer failed" in check.value

    @pytest.mark.parametrize("text", ["no JSON", "{}", "[7]", '[{"verificationResult": {}}]'])
    def test_an_answer_of_another_form_is_an_error(self, gh, store, text):
        release, _ = released(store)
        gh.answers(stdout=text)
        with github(SOME) as (client, _), pytest.raises(ToolError, match="another form"):
            checked(client, store, release)

    def test_a_machine_without_gh_is_told_how_to_get_it(self, store, tmp_path, monkeypatch):
        release, _ = released(store)
        monkeypatch.setenv("PATH", str(tmp_path))
        with github(SOME) as (client, _), pytest.raises(ToolError) as caught:
            checked(client, store, release)
        assert "cli.github.com" in caught.value.hint


class TestWhatWasAttested:
    def test_another_verdict_than_the_manifest_s_is_refused(self, store):
        release, predicate = released(store)
        assert "evidence.gate" in problem_of({**predicate, "headline": "better than it is"}, release)

    @pytest.mark.parametrize("changes", [{"accepted": False}, {"challenger_digest": "sha256:" + "9" * 64}])
    def test_a_verdict_that_does_not_accept_this_model_is_refused(self, store, changes):
        release, predicate = released(store, **changes)
        assert "did not accept this model" in problem_of(predicate, release)

    @pytest.mark.parametrize("predicate", [{}, {"accepted": True}, None, 7])
    def test_a_predicate_that_is_no_verdict_is_refused(self, store, predicate):
        release, _ = released(store)
        assert "not a verdict" in problem_of(predicate, release)

    def test_numbers_that_lost_their_point_on_the_way_are_the_same_numbers(self, store):
        """JavaScript writes 1.0 as 1 when the verdict passes through actions/attest."""
        one = Estimate(value=1.0, low=0.0, high=2.0)
        metric = PairedMetric(name="roc_auc", higher_is_better=True, champion=one, challenger=one, gain=one)
        comparison = Comparison(
            champion_digest="sha256:" + "1" * 64,
            champion_version=2,
            outcome=GateOutcome.BETTER,
            reason="better",
            metrics=(metric,),
            slices=(),
            delong=None,
        )
        release, predicate = released(store, comparison=comparison)
        text = json.dumps(predicate)
        shorter = text.replace(".0,", ",").replace(".0}", "}")
        assert shorter != text
        assert problem_of(json.loads(shorter), release) is None

    def test_one_good_attestation_among_bad_ones_is_enough(self, store):
        release, predicate = released(store)
        found = Attestations(predicates=({}, predicate))
        assert decide("stable", release, found, signed=False, required=True).status is Status.PASS


class TestWhetherThereAreAny:
    def test_they_are_asked_for_by_digest_with_the_token(self, gh, store):
        release, predicate = released(store)
        gh.answers(predicate)
        with github(SOME) as (client, seen):
            checked(client, store, release)
        assert seen == [(f"/repos/acme/flights/attestations/{release.digest}?per_page=1", f"token {TOKEN}")]

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (NONE, "keeps none"),
            ((200, {"attestations": []}), "keeps none"),
            ((403, {"message": "Upgrade to GitHub Enterprise to use attestations here."}), "Upgrade to GitHub"),
        ],
    )
    @pytest.mark.parametrize(("signed", "left"), [(True, "stands alone"), (False, "neither attested nor signed")])
    def test_where_there_are_none_the_reason_is_told(  # noqa: PLR0917 - two tables
        self, gh, store, answer, words, signed, left
    ):
        release, _ = released(store)
        with github(answer) as (client, _):
            [check] = checked(client, store, release, signed=signed)
            [strict] = checked(client, store, release, signed=signed, required=True)
        assert (check.status, strict.status) == (Status.WARN, Status.FAIL)
        assert words in check.value
        assert left in check.meaning
        assert gh.given is None

    def test_a_token_that_may_not_read_them_is_an_error_and_no_absence(self, store):
        release, _ = released(store)
        refusal = 403, {"message": "Resource not accessible by integration"}
        with github(refusal) as (client, _), pytest.raises(ForgeError, match="attestations: read"):
            find_attestations(client, release, lambda source, folder: None)

    def test_a_server_that_stays_down_is_an_error_and_no_absence(self, store):
        release, _ = released(store)
        with github((503, {"message": "Unavailable"})) as (client, _), pytest.raises(ForgeError, match="Unavailable"):
            find_attestations(client, release, lambda source, folder: None)

    @pytest.mark.parametrize("body", [{}, [], {"attestations": 7}])
    def test_an_answer_of_another_form_is_an_error_and_no_absence(self, store, body):
        release, _ = released(store)
        with github((200, body)) as (client, _), pytest.raises(ForgeError, match="not a list of attestations"):
            find_attestations(client, release, lambda source, folder: None)

    def test_where_nothing_is_released_nothing_is_asked(self, store):
        empty = parse(empty_manifest("flights"), Manifest, "manifest")
        with github((500, {})) as (client, seen):
            [check] = check_attestations(client, empty, lambda *_: None, signed=False, required=True)
        assert (check.status, seen) == (Status.SKIP, [])


class TestVerb:
    """`mergeline ci attested` in a clone whose origin is the GitHub of the test."""

    @pytest.fixture
    def attested(self, store, tmp_path, monkeypatch):
        root = tmp_path / "clone"
        git = Git.init(root)
        shutil.copy(Path(__file__).parents[3] / "params.yaml", root)
        for name in ("deploy", ".dvc"):
            (root / name).mkdir()
        (root / ".dvc/config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {store}\n")
        monkeypatch.chdir(root)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        monkeypatch.delenv("MERGELINE_ATTESTATION_REQUIRED", raising=False)

        def run(client, release, *options):
            for name in ("GITHUB_SERVER_URL", "GITHUB_API_URL"):
                monkeypatch.setenv(name, client.job.api_url)
            git.run("remote", "add", "origin", f"{client.job.api_url}/acme/flights.git")
            (root / "deploy" / "manifest.yaml").write_text(promote(empty_manifest("flights"), release))
            return CliRunner().invoke(app, ["ci", "attested", *options])

        return run

    def test_it_ends_well_where_the_workflow_attested(self, gh, store, attested, tmp_path):
        release, predicate = released(store)
        gh.answers(predicate)
        with github(SOME) as (client, _):
            done = attested(client, release, "--required")
        assert done.exit_code == 0, done.output
        assert "stable: attestation: **pass**" in (tmp_path / "summary.md").read_text()

    def test_it_ends_with_1_where_somebody_else_did(self, gh, store, attested):
        release, _ = released(store)
        gh.answers(code=1, stderr="Error: none fits")
        with github(SOME) as (client, _):
            done = attested(client, release)
        assert done.exit_code == 1
        assert "fail" in done.output

    @pytest.mark.parametrize(("required", "code"), [("false", 0), ("true", 1)])
    def test_a_repository_may_require_one(  # noqa: PLR0917 - fixtures
        self, store, attested, tmp_path, monkeypatch, required, code
    ):
        monkeypatch.setenv("MERGELINE_ATTESTATION_REQUIRED", required)  # as deploy.yml says
        release, _ = released(store)
        with github(NONE) as (client, _):
            done = attested(client, release)
        assert done.exit_code == code, done.output
        assert "neither attested nor signed" in (tmp_path / "summary.md").read_text()

    def test_outside_github_it_names_what_there_is_instead(self, tmp_path, monkeypatch):
        Git.init(tmp_path)
        monkeypatch.chdir(tmp_path)
        done = CliRunner().invoke(app, ["ci", "attested"])
        assert isinstance(done.exception, ForgeError)
        assert "release.signing" in done.exception.hint


class TestSeveralModels:
    def test_one_attestation_has_all_models_as_subjects_and_all_verdicts_as_its_predicate(self, store, tmp_path):
        release, predicate = released(store)
        (tmp_path / "other.json").write_text(json.dumps({"accepted": False}))
        (tmp_path / "mine.json").write_text(json.dumps(predicate))
        digests = {"fraud": "sha256:" + "5" * 64, "flights": release.digest}
        paths = {"fraud": tmp_path / "other.json", "flights": tmp_path / "mine.json"}
        applied = {
            name: ApplyResult(outcome=ApplyOutcome.APPLIED, digest=digests[name], predicate=str(paths[name]))
            for name in digests
        }
        subjects, verdicts = write_subjects(tmp_path / "proposal", applied)
        lines = Path(subjects).read_text().splitlines()
        assert lines == [f"{digests[name].removeprefix('sha256:')}  {name}" for name in digests]
        assert problem_of(json.loads(Path(verdicts).read_text()), release) is None
        assert problem_of({"verdicts": [{"accepted": False}]}, release) is not None

    def test_of_one_model_it_is_that_one_s_verdict_and_of_none_there_is_nothing(self, tmp_path):
        one = ApplyResult(outcome=ApplyOutcome.APPLIED, digest="sha256:" + "5" * 64, predicate="verdict.json")
        subjects, verdict = write_subjects(tmp_path / "proposal", {"flights": one})
        assert Path(subjects).read_text() == f"{'5' * 64}  model\n"
        assert verdict == "verdict.json"
        again = one.model_copy(update={"predicate": None})
        assert write_subjects(tmp_path / "proposal", {"flights": again}) == ("", "")
