"""Checks that this repository's own workflow attested a model, with the gate's verdict as the reason.

GitHub's command line, `gh attestation verify`, checks the signature, who signed and the subject. The subject is the
sha256 of the model folder's listing, so the listing is the file that it is given. The verdict is checked here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mergeline.ci.bundle import ApplyResult
from mergeline.documents import Frozen
from mergeline.errors import ForgeError, ToolError
from mergeline.evaluate.results import Check, GateVerdict, Status
from mergeline.files import write_json, write_text
from mergeline.github.client import GitHubClient
from mergeline.manifest.schema import Manifest, Release
from mergeline.manifest.transitions import releases
from mergeline.model.artifact import folder_listing
from mergeline.release.proposal import verdict_digest

PREDICATE_TYPE = "urn:mergeline:gate:v1"
WORKFLOWS = (".github/workflows/proposal.yml", ".github/workflows/model.yml")
"""The workflow whose attestations count, which all others call, and what held that job before it."""
LIMIT_SECONDS = 120.0
"""gh fetches Sigstore's keys and the attestations; it needs a few seconds."""

_AGAIN = "run the workflow model.yml on the pull request again, or roll back"
# What GitHub says of a feature that the repository's plan does not have.
_NO_PLAN = re.compile(r"upgrade to|not available|not supported|not enabled", re.IGNORECASE)

_VERDICTS = "verdicts"

Fetch = Callable[[str, Path], None]
"""Writes the model folder that an object of the store lists into a folder."""


class Attestations(Frozen):
    """The attestations of a digest on GitHub: the predicates that gh verified, or why there are none.

    `absence` is why GitHub keeps none, `refusal` why gh verified none of those that it keeps.
    """

    predicates: tuple[Any, ...] = ()
    absence: str = ""
    refusal: str = ""


def check_attestations(
    client: GitHubClient, manifest: Manifest, fetch: Fetch, *, signed: bool, required: bool
) -> tuple[Check, ...]:
    """Check the attestation of every model that answers requests: the stable one and the candidate.

    Args:
        client: the repository on GitHub.
        manifest: what is released.
        fetch: fetches a model's folder from the store.
        signed: whether the policy has model folders signed with a key besides.
        required: whether a model without an attestation fails the check.

    Raises:
        ForgeError: GitHub does not answer, or the token may not read attestations.
        StoreError: a model is not in the store.
        ToolError: gh is not installed, or does not end.
    """
    served = {role: release for role, release in releases(manifest).items() if role != "previous"}
    if not served:
        return (
            Check(name="attestation", status=Status.SKIP, value="none", bound="", meaning="nothing is released yet"),
        )
    return tuple(
        decide(role, release, find_attestations(client, release, fetch), signed=signed, required=required)
        for role, release in served.items()
    )


def decide(role: str, release: Release, found: Attestations, *, signed: bool, required: bool) -> Check:
    """Decide whether the attestations of one release are enough.

    Args:
        role: what the release is in the manifest.
        release: the release.
        found: its attestations.
        signed: whether the policy has the model folder signed with a key besides.
        required: whether a release without an attestation may not be deployed.
    """
    name, bound = f"{role}: attestation", "signed by this repository's proposal.yml, about this model and this verdict"
    if found.absence:
        alone = (
            "the signature of the model folder stands alone" if signed else "the model is neither attested nor signed"
        )
        return Check(
            name=name,
            status=Status.FAIL if required else Status.WARN,
            value=f"none: {found.absence}",
            bound=bound if required else f"{bound}, where there is one",
            meaning=f"{alone}; {_AGAIN}" if required else alone,
        )
    problems = [problem_of(predicate, release) for predicate in found.predicates] or [found.refusal]
    if None in problems:
        meaning = "the workflow that judged the model vouches for it"
        return Check(name=name, status=Status.PASS, value=release.digest, bound=bound, meaning=meaning)
    value = "; ".join(dict.fromkeys(filter(None, problems)))
    return Check(name=name, status=Status.FAIL, value=value, bound=bound, meaning=_AGAIN)


def write_subjects(folder: Path, applied: Mapping[str, ApplyResult]) -> tuple[str, str]:
    """Write what is to be attested next to the folder of the proposals: the models whose verdicts the manifests name.

    Returns:
        The files of the subjects and of the predicate: the verdict, or those of all models. Empty where there is none.
    """
    judged = {name: one for name, one in applied.items() if one.predicate and one.digest}
    if not judged:
        return "", ""
    subjects = folder.absolute().with_name(f"{folder.name}.subjects.txt")
    digests = {name: str(one.digest).removeprefix("sha256:") for name, one in judged.items()}
    named = {name: name if len(judged) > 1 else "model" for name in judged}
    write_text(subjects, "".join(f"{digests[name]}  {named[name]}\n" for name in judged))
    paths = [Path(str(one.predicate)) for one in judged.values()]
    if len(paths) == 1:
        return str(subjects), str(paths[0])
    predicate = subjects.with_name(f"{folder.name}.verdicts.json")
    write_json(predicate, {_VERDICTS: [json.loads(path.read_bytes()) for path in paths]})
    return str(subjects), str(predicate)


def problem_of(predicate: object, release: Release) -> str | None:
    """What is wrong with the verdict that an attestation states; None where it is the manifest's."""
    if isinstance(predicate, Mapping) and isinstance(predicate.get(_VERDICTS), list):
        problems = [problem_of(one, release) for one in predicate[_VERDICTS]]  # of several models in one pull request
        return None if None in problems else next(iter(problems), "its predicate is not a verdict of the gate")
    try:
        verdict = GateVerdict.model_validate(predicate)
    except ValueError:
        return "its predicate is not a verdict of the gate"
    if not verdict.accepted or verdict.challenger_digest != release.digest:
        return "the gate did not accept this model"
    # The types give numbers back the form that they lost on the way: JavaScript writes 1.0 as 1.
    found = verdict_digest(verdict)
    if found != release.evidence.gate:
        return f"the verdict has the digest {found}, the manifest's evidence.gate is {release.evidence.gate}"
    return None


def find_attestations(client: GitHubClient, release: Release, fetch: Fetch) -> Attestations:
    """The attestations of a release that GitHub keeps and gh verifies.

    Whether there are any is asked of GitHub first: gh tells in words alone whether none is there or none is good.

    Raises:
        ForgeError: GitHub does not answer, or the token may not read attestations.
        ToolError: gh is not installed, or does not end.
    """
    doing = f"reading the attestations of {release.digest[:19]}…"
    absence = client.run(doing, "attestations: read", lambda: _absence(client, release.digest))
    if absence:
        return Attestations(absence=absence)
    with tempfile.TemporaryDirectory() as scratch:
        listing = Path(scratch, "listing")
        fetch(release.source, Path(scratch, "model"))
        listing.write_bytes(folder_listing(Path(scratch, "model")).encode())
        return verify(client, listing, release.evidence.pull)


def verify(client: GitHubClient, listing: Path, pull: int | None) -> Attestations:
    """Have gh verify that this repository's workflow, on main or on the pull request's merge, attested a file.

    Raises:
        ToolError: gh is not installed, or does not end.
    """
    server = client.job.server_url
    refs = ["refs/heads/main", *([f"refs/pull/{pull}/merge"] if pull else [])]
    who = "|".join(re.escape(f"{server}/{client.name}/{file}@{ref}") for file in WORKFLOWS for ref in refs)
    host = urlsplit(server).hostname or ""
    command = ["gh", "attestation", "verify", str(listing), "--repo", client.name, "--format", "json", "--limit", "100"]
    command += ["--predicate-type", PREDICATE_TYPE, "--cert-identity-regex", f"^({who})$"]
    command += [] if host == "github.com" else ["--hostname", host]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "GH_TOKEN": client.job.token, "GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise ToolError(
            "GitHub's command line is not installed, and attestations cannot be checked without it",
            where="gh attestation verify",
            hint="install gh (https://cli.github.com); GitHub's own runners have it",
        ) from None
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"gh did not end within {LIMIT_SECONDS:g} s", where="gh attestation verify", hint="run the job again"
        ) from None
    if done.returncode:
        words = " ".join((done.stderr.strip() or "gh gives no reason").split())
        return Attestations(refusal=f"gh verified none: {words[:500]}")
    return Attestations(predicates=_predicates(done.stdout))


def _predicates(text: str) -> tuple[Any, ...]:
    try:
        return tuple(entry["verificationResult"]["statement"]["predicate"] for entry in _entries(json.loads(text)))
    except (ValueError, KeyError, TypeError) as cause:
        raise ToolError(
            "gh's answer has another form than expected", where="gh attestation verify", hint="update gh"
        ) from cause


def _absence(client: GitHubClient, digest: str) -> str:
    """Why GitHub keeps no attestation of a digest; empty where it keeps one."""
    from github import GithubException

    try:
        answer = client.ask(f"/attestations/{digest}?per_page=1")
        return "" if _entries(answer["attestations"]) else "GitHub keeps none for this model"
    except GithubException as error:
        message = str(error.message or "")
        if error.status == 404:
            return "GitHub keeps none for this model, or has no attestations here"
        if error.status == 403 and _NO_PLAN.search(message):
            return f"GitHub says: {message[:200]}"
        raise
    except (KeyError, TypeError) as cause:
        raise ForgeError(
            "GitHub's answer is not a list of attestations",
            where=f"{client.name} on {client.job.server_url}",
            hint="run the job again; if it stays so, check GITHUB_API_URL",
        ) from cause


def _entries(found: object) -> Sequence[Any]:
    if not isinstance(found, list):
        raise TypeError("not a list")
    return found
