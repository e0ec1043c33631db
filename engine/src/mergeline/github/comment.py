"""Puts a text on a pull request as our one comment: with CML where it can be trusted to, else through the API."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from mergeline.documents import Frozen
from mergeline.errors import ToolError
from mergeline.files import write_text
from mergeline.github.actions import SERVER_URL, Job, api_of
from mergeline.github.comment_marker import About, compose, ours, page, same_text, watermark_title, why_not_cml
from mergeline.github.forge import GitHubForge
from mergeline.github.sanitize import COMMENT_CHARACTERS, cut_markdown

LIMIT_SECONDS = 60.0
"""CML needs about two seconds; asked by GitHub to wait it sleeps for minutes, which the forge does better."""


class Posted(Frozen):
    """How the comment was posted: `way` is CML or the API; `why` says why nothing else was done."""

    way: str
    why: str
    url: str

    def __str__(self) -> str:
        return f"posted with {self.way}{f' ({self.why})' if self.why else ''}: {self.url}"


def shorten(text: str, job: Job) -> str:
    """The text as far as a comment takes it."""
    place = f"in the [run]({job.run_url})" if job.run_url else "where it was made"
    return cut_markdown(text, COMMENT_CHARACTERS, f"*The rest is left out: the whole text is {place}.*")


def post_report(forge: GitHubForge, post: Post, *, limit_seconds: float = LIMIT_SECONDS) -> Posted:
    """Write the comment, and say how.

    Whichever way it goes, the API looks at the result: it hints a comment that CML did not write as told, and
    takes away a second one.

    Raises:
        ForgeError: there is no such pull request, or the token may not.
    """
    client = forge.client
    short = post.model_copy(update={"text": shorten(post.text, client.job)})
    way, why = _with_cml(forge, short, limit_seconds)
    url = forge.stick(post.number, post.key, short.text, post.about)
    return Posted(way=way, why=why, url=url)


def _with_cml(forge: GitHubForge, post: Post, limit_seconds: float) -> tuple[str, str]:
    """Post with CML where that is safe: the way that the comment takes, and why."""
    unusable = why_unusable(forge.client.job)
    if unusable:
        return "the API", unusable
    comments, me = forge.comments(post.number), forge.client.me
    mine = ours(comments, post.key, me)
    if len(mine) == 1 and same_text(mine[0].body, compose(post.key, post.text, post.about)):
        return "nobody's help", "it says so already"
    unsafe = why_not_cml(comments, post.key, me)
    if unsafe:
        return "the API", unsafe
    try:
        send(forge.client.job, post, limit_seconds=limit_seconds)
    except ToolError as error:
        return "the API", error.what
    return "CML", ""


# What a node program needs of ours. Nothing else goes in: yargs would take CML_* for options, and the presence of
# GITHUB_SERVER_URL makes CML look up a person for its telemetry even where telemetry is off.
_PASSED = (
    "PATH",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "LANG",
    "LC_ALL",
    "SYSTEMROOT",
)


def why_unusable(job: Job) -> str | None:
    """Why CML cannot be used for this GitHub here, or None if it can."""
    if shutil.which("cml") is None:
        return "CML is not installed"
    # CML makes the API's address from the repository's (src/drivers/github.js).
    expected = api_of(SERVER_URL) if job.server_url == SERVER_URL else f"{job.server_url}/api/v3"
    if not job.server_url.startswith("https://") or expected != job.api_url:
        return f"CML would not find the API at {job.api_url}"
    return None


class Post(Frozen):
    """What is to be posted: the text of the comment `key` on the pull request `number` of `owner/name`."""

    repository: str
    number: int
    key: str
    text: str
    about: About


def send(job: Job, post: Post, *, limit_seconds: float = LIMIT_SECONDS) -> None:
    """Write the comment `key` of a pull request with `cml comment update`.

    It writes over whatever comment it takes for its own: ask `comment_marker.why_not_cml` first.

    Args:
        job: which GitHub, and the token.
        post: what goes where; the commit that it is about goes into CML's watermark.
        limit_seconds: how long it may take.

    Raises:
        ToolError: CML is missing, it failed, or it took too long.
    """
    program = shutil.which("cml")
    if program is None:
        raise ToolError("CML is not installed", where="PATH", hint="the comment is posted without it")
    with tempfile.TemporaryDirectory(prefix="mergeline-cml-") as scratch:
        home = Path(scratch)
        write_text(home / "report.md", page(post.key, post.text, post.about))
        command = [
            program,
            "comment",
            "update",
            "--publish=false",  # or it uploads every file that the report links to
            f"--target=pr/{post.number}",
            f"--watermark-title={watermark_title(post.key)}",
            "--driver=github",
            f"--repo={job.server_url}/{post.repository}",
            str(home / "report.md"),
        ]
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        environment |= {
            "HOME": scratch,
            "TMPDIR": scratch,
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),  # it appends safe.directory to it each time
            "GIT_CONFIG_NOSYSTEM": "1",
            "ITERATIVE_DO_NOT_TRACK": "1",
            "REPO_TOKEN": job.token,
            "GITHUB_REPOSITORY": post.repository,
            "GITHUB_SHA": post.about.head or "0" * 40,
        }
        _run(command, home, environment, limit_seconds)


def _run(command: list[str], folder: Path, environment: dict[str, str], limit_seconds: float) -> None:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # what it starts must end with it
    )
    try:
        out, _ = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"CML did not end within {limit_seconds:g} s", where="cml comment update", hint="look at githubstatus.com"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if process.returncode:
        said = (out.strip().splitlines() or ["no word"])[-1][:300]
        said = said.replace(environment["REPO_TOKEN"], "***")
        raise ToolError(f"CML failed: {said}", where="cml comment update", hint="see `cml comment update --help`")
