"""Fetches the attestations that GitHub keeps for a model, and has them checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mergeline.ci.attest import Found, Origin, check_bundle, is_private, judge
from mergeline.errors import ForgeError, SignatureError
from mergeline.evaluate.results import Check, Status
from mergeline.github.client import GitHubClient
from mergeline.github.errors import Task
from mergeline.manifest.schema import Manifest, Release
from mergeline.manifest.transitions import releases

if TYPE_CHECKING:
    from sigstore.verify import Verifier

# What GitHub says of a feature that the repository's plan has not got.
_NO_PLAN = re.compile(r"upgrade to|not available|not supported|not enabled", re.IGNORECASE)


def check_attestations(
    client: GitHubClient, manifest: Manifest, verifier: Callable[[], Verifier], *, signed: bool, required: bool
) -> tuple[Check, ...]:
    """Check the attestation of every model that answers requests: the stable one and the candidate.

    Args:
        client: the repository on GitHub.
        manifest: what is released.
        verifier: gives the keys to check with; it is asked where there is something to check.
        signed: whether the policy has model folders signed with a key besides.
        required: whether a model without an attestation fails the check.

    Raises:
        ForgeError: GitHub does not answer, or the token may not read attestations.
    """
    origin = Origin(server_url=client.job.server_url, repository=client.name)
    served = {role: release for role, release in releases(manifest).items() if role != "previous"}
    if not served:
        return (
            Check(name="attestation", status=Status.SKIP, value="none", bound="", meaning="nothing is released yet"),
        )
    checks = []
    for role, release in served.items():
        found = fetch_attestations(client, release.digest)
        problems = list(_problems(found, release, origin, verifier())) if found.bundles else []
        checks.append(judge(role, release, found, problems, signed=signed, required=required))
    return tuple(checks)


def fetch_attestations(client: GitHubClient, digest: str) -> Found:
    """The newest hundred attestations of `digest`; without any, the reason.

    Raises:
        ForgeError: GitHub does not answer, or the token may not read attestations.
    """
    task = Task(doing=f"reading the attestations of {digest[:19]}…", permission="attestations: read")
    answer = client.run(task, lambda: _ask(client, digest))
    if isinstance(answer, Found):
        return answer
    try:
        bundles = [entry["bundle"] for entry in answer["attestations"]]
    except (KeyError, TypeError) as cause:
        raise _unreadable(client) from cause
    if not all(isinstance(bundle, dict) for bundle in bundles):
        raise _unreadable(client)
    public = tuple(bundle for bundle in bundles if not is_private(bundle))
    if bundles and not public:
        return Found(absence="GitHub's private Sigstore made it: check it with gh attestation verify")
    return Found(bundles=public, absence="" if public else "GitHub keeps none for this model")


def _ask(client: GitHubClient, digest: str) -> Any:
    from github import GithubException

    try:
        return client.ask(f"/attestations/{digest}?per_page=100")
    except GithubException as error:
        message = str(error.message or "")
        if error.status == 404:
            return Found(absence="GitHub keeps none for this model, or has no attestations here")
        if error.status == 403 and _NO_PLAN.search(message):
            return Found(absence=f"GitHub says: {message[:200]}")
        raise


def _problems(found: Found, release: Release, origin: Origin, verifier: Verifier) -> Iterator[str]:
    for bundle in found.bundles:
        try:
            check_bundle(bundle, release, origin, verifier)
        except SignatureError as error:
            yield error.what


def _unreadable(client: GitHubClient) -> ForgeError:
    return ForgeError(
        "GitHub's answer is not a list of attestations with their bundles",
        where=f"{client.name} on {client.job.server_url}",
        hint="run the job again; if it stays so, check GITHUB_API_URL",
    )
