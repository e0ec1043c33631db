"""Speaks with GitHub Actions: the job's environment, its outputs and its summary."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mergeline.documents import Frozen, parse_json, read_text
from mergeline.errors import DocumentError, ForgeError
from mergeline.github.sanitize import SUMMARY_BYTES, bytes_of, cut_markdown

SERVER_URL, API_URL = "https://github.com", "https://api.github.com"


class Job(Frozen):
    """What the environment says of the job; outside GitHub Actions most of it is empty.

    `repository` is `owner/name`; `token` is the job's or the person's; `job` and `workflow_file` name the job and
    the file that declares its permissions.
    """

    repository: str = ""
    server_url: str = SERVER_URL
    api_url: str = API_URL
    token: str = ""
    run_id: str = ""
    run_attempt: str = "1"
    job: str = ""
    workflow_file: str = ""
    actions: bool = False

    @property
    def run_url(self) -> str:
        """Where a person reads the run's log and takes its artifacts, or an empty string."""
        return f"{self.server_url}/{self.repository}/actions/runs/{self.run_id}" if self.run_id else ""


def read_job(environment: Mapping[str, str] | None = None) -> Job:
    """The job that this process runs in, read from the environment."""
    found = os.environ if environment is None else environment
    server = (found.get("GITHUB_SERVER_URL") or _server(found.get("GH_HOST", ""))).rstrip("/")
    reference = found.get("GITHUB_WORKFLOW_REF", "")  # owner/name/.github/workflows/model.yml@refs/heads/main
    return Job(
        repository=found.get("GITHUB_REPOSITORY", ""),
        server_url=server,
        api_url=(found.get("GITHUB_API_URL") or api_of(server)).rstrip("/"),
        token=found.get("GITHUB_TOKEN") or found.get("GH_TOKEN", ""),
        run_id=found.get("GITHUB_RUN_ID", ""),
        run_attempt=found.get("GITHUB_RUN_ATTEMPT") or "1",
        job=found.get("GITHUB_JOB", ""),
        workflow_file="/".join(reference.partition("@")[0].split("/")[2:]),
        actions=found.get("GITHUB_ACTIONS") == "true",
    )


def api_of(server_url: str) -> str:
    """The address of the REST API of a GitHub: github.com, a data-residency host, or an Enterprise Server."""
    if server_url == SERVER_URL:
        return API_URL
    scheme, _, host = server_url.partition("://")
    return f"{scheme}://api.{host}" if host.endswith(".ghe.com") else f"{server_url}/api/v3"


def read_event(path: Path) -> dict[str, Any]:
    """The payload of the event that started a run.

    Raises:
        ForgeError: the file is missing or holds no JSON object.
    """
    try:
        event = parse_json(read_text(path), str(path))
    except DocumentError as cause:
        raise ForgeError(
            f"the event cannot be read: {cause}", where=str(path), hint="give the file that GITHUB_EVENT_PATH names"
        ) from cause
    if not isinstance(event, dict):
        raise ForgeError("the event is no JSON object", where=str(path), hint="give the file of GITHUB_EVENT_PATH")
    return event


def set_output(name: str, value: str) -> None:
    """Give the step an output; nothing happens outside GitHub Actions.

    A value may have many lines: the delimiter is drawn by chance, so that no value can end itself and set another.
    """
    path = os.environ.get("GITHUB_OUTPUT")
    if path:
        delimiter = f"mergeline-{secrets.token_hex(16)}"
        _append(Path(path), f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def add_summary(markdown: str) -> None:
    """Add to the step's summary page, cut below GitHub's limit; nothing happens outside GitHub Actions."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        used = Path(path).stat().st_size if Path(path).exists() else 0
        notice = f"The rest is left out: the summary would be larger than {SUMMARY_BYTES:,} bytes."
        room = SUMMARY_BYTES - used - 1
        if room > 1_000:
            _append(Path(path), cut_markdown(markdown, room, notice, measure=bytes_of) + "\n")


def _server(host: str) -> str:
    return f"https://{host}" if host else SERVER_URL


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", errors="replace", newline="\n") as stream:
        stream.write(text)


_SCP = re.compile(r"(?:[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^/].*)")  # git@github.com:owner/name.git
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def locate(url: str, job: Job) -> tuple[str, Job] | None:
    """The repository as `owner/name`, and the job with that GitHub's addresses; None if it is no GitHub known here.

    Known are github.com, its data-residency hosts, and the server that GITHUB_SERVER_URL or GH_HOST names.
    """
    scheme, host, path = _parts(url)
    name = path.strip("/").removesuffix(".git")
    if not host or not _NAME.fullmatch(name):
        return None
    configured = urlsplit(job.server_url)
    plain = host.partition(":")[0]
    # An address for ssh has no port, or ssh's own; that of the website cannot be told from it.
    if host == configured.netloc or (scheme != "https" and plain == configured.hostname):
        return name, job
    if plain in {"github.com", "www.github.com", "ssh.github.com"} or plain.endswith(".ghe.com"):
        server = f"https://{'github.com' if plain.endswith('github.com') else plain}"
        return name, job.model_copy(update={"server_url": server, "api_url": api_of(server)})
    return None


def _parts(url: str) -> tuple[str, str, str]:
    """Scheme, host with its port, and path of an address."""
    if "://" in url:
        found = urlsplit(url)
        return found.scheme, found.netloc.rpartition("@")[2].lower(), found.path
    scp = _SCP.fullmatch(url)
    return ("ssh", scp["host"].lower(), scp["path"]) if scp else ("", "", "")
