"""Reads which GitHub, and which repository on it, a remote's address names."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from mergeline.github.actions import Job, api_of

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
