"""Reads how far a rollout is: from the server's /status, or from Prometheus where several servers roll out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, AwareDatetime, ConfigDict, ValidationError

from mergeline.documents import Frozen
from mergeline.errors import WatchError
from mergeline.fetch import AddressError, FetchError
from mergeline.fetch import fetch as http_fetch
from mergeline.manifest.schema import Manifest

if TYPE_CHECKING:
    from mergeline.watch.causes import Server

SECONDS = 10
_MOST = 4 * 2**20

Ask = Callable[[str], Any]
"""Gives the JSON document at an address."""


def one_line(text: str) -> str:
    """Text from elsewhere, which begins no line of its own: `::error::` there would be a command to a log of CI."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


Line = Annotated[str, AfterValidator(one_line)]


class ServerDocument(Frozen):
    """A part of what a server tells; a newer one may tell more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Measured(ServerDocument):
    """One analysis as the server judged it last: `outcome` is None before its first measurement."""

    name: Line
    metric: Line = ""
    value: float | None = None
    samples: int = 0
    outcome: Line | None = None
    success: Line = ""
    failure: Line = ""


class PastDecision(ServerDocument):
    """One thing that the server decided."""

    at: AwareDatetime
    kind: Line
    reason: Line = ""


class ServerStatus(ServerDocument):
    """What one server says of the rollout.

    `current` says that it rolls out what the manifest asks for, and `phase` is its word for how that stands; `step` is
    where it is, in words. `started` is None where it is not known.
    """

    where: Line
    current: bool
    phase: Line = ""
    reason: Line = ""
    step: Line = ""
    started: AwareDatetime | None = None
    analyses: tuple[Measured, ...] = ()
    decisions: tuple[PastDecision, ...] = ()


class Serving(ServerDocument):
    """What one server answers with: the stable model's digest, or None. `problem` is why nobody knows."""

    digest: str | None = None
    ready: bool = False
    problem: Line = ""


class _Step(ServerDocument):
    number: int
    of: int
    weight: int


class _Rollout(ServerDocument):
    candidate: str
    phase: str
    identity: str | None = None
    reason: str | None = None
    started: AwareDatetime | None = None
    step: _Step | None = None
    analysis: tuple[Measured, ...] = ()
    decisions: tuple[PastDecision, ...] = ()


def fetch(url: str, key: str = "") -> Any:
    """The JSON document at an http(s) address.

    Args:
        url: where.
        key: what the server asks for as `x-api-key`; empty sends none.

    Raises:
        WatchError: nobody answers, or the answer is no JSON.
    """
    hint = "check the address, and that the server runs; with an API key: MERGELINE_SERVE_API_KEY"
    try:
        answer = http_fetch(url, seconds=SECONDS, max_bytes=_MOST, secrets={"x-api-key": key} if key else {})
    except AddressError as error:
        raise WatchError(error.what, where=url, hint=error.hint) from error
    except FetchError as error:
        raise WatchError(f"no answer: {one_line(error.what)}", where=url, hint=hint) from error
    if answer.status != HTTPStatus.OK:
        raise WatchError(f"the answer was status {answer.status}", where=url, hint=hint)
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as cause:
        raise WatchError("the answer is no JSON", where=url, hint=hint) from cause


def status_address(url: str) -> str:
    """The address of a server's `GET /status`, where its root was given too."""
    return f"{url.rstrip('/')}/status" if urlsplit(url).path in {"", "/"} else url


def read_status(document: Any, manifest: Manifest, where: str) -> ServerStatus:
    """What a server's `GET /status` says of the manifest's rollout.

    Raises:
        WatchError: the document is not such an answer.
    """
    from mergeline.serve.rollout.state import identity_of

    candidate = manifest.spec.candidate
    told = document.get("rollout", ...) if isinstance(document, Mapping) else ...
    if told is ...:
        raise WatchError("this is not a server's status", where=where, hint="give the address of GET /status")
    if told is None or candidate is None:
        return ServerStatus(where=where, current=False)
    try:
        found = _Rollout.model_validate(told)
    except ValidationError as cause:
        raise WatchError(
            f"the status says of the rollout what is not understood: {cause.errors()[0]['msg']}",
            where=where,
            hint="use the same version of Mergeline here and in the server",
        ) from cause
    right = identity_of(candidate.digest, manifest.spec.rollout)
    # Before the first step there is no identity yet: the candidate tells.
    current = found.candidate == candidate.digest and found.identity in (None, right)
    step = f"step {found.step.number} of {found.step.of}, weight {found.step.weight} %" if found.step else ""
    return ServerStatus(
        where=where,
        current=current,
        phase=found.phase,
        reason=found.reason or "",
        step=step,
        started=found.started,
        analyses=found.analysis,
        decisions=found.decisions,
    )


def read_serving(document: Any, where: str) -> Serving:
    """What a server's `GET /status` says that it answers with.

    Raises:
        WatchError: the document is not such an answer.
    """
    try:
        stable = document["stable"] or {}
        return Serving(digest=stable.get("digest"), ready=document["ready"])
    except (KeyError, TypeError, AttributeError, ValidationError) as cause:
        raise WatchError(
            "this is not a server's status", where=where, hint="give the address of GET /status"
        ) from cause


def read_load(document: Any, where: str) -> Server:
    """What a server's `GET /status` says of its load.

    Raises:
        WatchError: the document is not such an answer.
    """
    from mergeline.watch.causes import Load, Server

    def load(role: str) -> Load:
        told = document["counts"][role]
        return Load(requests=told["requests"], failed=told["failed"], p99_ms=told["p99_ms"])

    try:
        candidate = load("candidate") if document["rollout"] is not None else None
        return Server(stable=load("stable"), candidate=candidate, waiting=document["waiting"])
    except (KeyError, TypeError, ValidationError) as cause:  # a server that has not begun counts nothing yet
        raise WatchError(
            "the status says nothing of the load", where=where, hint="give the address of GET /status of a ready server"
        ) from cause


def read_prometheus(ask: Ask, url: str, manifest: Manifest, text: str) -> tuple[ServerStatus, ...]:
    """What Prometheus knows of every server of this deployment.

    Args:
        ask: see `fetch`.
        url: of Prometheus.
        manifest: says what should roll out.
        text: of the manifest, whose bytes a server names by their sha256.

    Raises:
        WatchError: Prometheus does not answer, or knows no server of this deployment.
    """
    candidate = manifest.spec.candidate
    if candidate is None:
        return ()
    name, base = manifest.metadata.name, url.rstrip("/")

    def query(expression: str) -> list[tuple[str, Mapping[str, str], float]]:
        return _samples(ask(f"{base}/api/v1/query?query={quote(expression)}"), base)

    models = query(f'mergeline_model_info{{name="{name}"}} == 1')
    servers = sorted({server for server, _, _ in models})
    if not servers:
        raise WatchError(
            f"no server of {name} is known there", where=base, hint="let Prometheus scrape the server's /metrics"
        )
    loaded = {(server, labels.get("digest")) for server, labels, _ in models if labels.get("role") == "candidate"}
    right = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    told = {(server, labels.get("digest")) for server, labels, _ in query("mergeline_manifest_info == 1")}
    knows = {server for server, _ in told}
    phases = {server: labels.get("phase", "") for server, labels, _ in query("mergeline_rollout_phase == 1")}
    refused = {server for server, _, _ in query("mergeline_candidate_refused == 1")}
    steps = {server: int(value) for server, _, value in query("mergeline_rollout_step")}
    values = query("mergeline_analysis_value")
    return tuple(
        ServerStatus(
            where=server,
            current=((server, candidate.digest) in loaded or server in refused)
            and (server not in knows or (server, right) in told),
            phase="refused" if server in refused else phases.get(server, "loading"),
            reason="the candidate cannot be loaded" if server in refused else "",
            step=f"step {steps[server]}" if steps.get(server) else "",
            analyses=tuple(
                Measured(name=labels.get("analysis", ""), value=value)
                for found, labels, value in values
                if found == server
            ),
        )
        for server in servers
    )


def _samples(answer: Any, where: str) -> list[tuple[str, Mapping[str, str], float]]:
    """The samples of an instant query: the server, its labels and the value."""
    try:
        if answer["status"] != "success":
            raise WatchError(
                f"Prometheus says: {one_line(str(answer.get('error', answer['status'])))}",
                where=where,
                hint="see its log",
            )
        rows: Sequence[Any] = answer["data"]["result"]
        return [(str(row["metric"].get("instance", "")), row["metric"], float(row["value"][1])) for row in rows]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as cause:
        raise WatchError("this is not Prometheus' answer", where=where, hint="give Prometheus' own address") from cause
