"""Puts a text on a pull request as our one comment: with CML where it can be trusted to, else through the API.

Our own marker is the comment's first line: text further down may hold anything, a copied marker too. CML finds a
comment again by a watermark at its end; the API writes the same one (CML 0.20, `src/watermark.js`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.documents import Frozen
from mergeline.errors import ToolError
from mergeline.files import write_text
from mergeline.github.actions import SERVER_URL, Job, api_of
from mergeline.github.pull_requests import require_key
from mergeline.github.sanitize import COMMENT_CHARACTERS, cut_markdown

if TYPE_CHECKING:
    from mergeline.github.forge import GitHubForge

LIMIT_SECONDS = 60.0
"""CML needs about two seconds; asked by GitHub to wait it sleeps for minutes, which the forge does better."""
CML_READS = 30
"""CML asks for one page of comments, and GitHub's page has 30, the oldest first."""

_ABOUT = re.compile(r"<!-- about head=(?P<head>[0-9a-f]{40}|-) run=(?P<run>\d+\.\d+|-) -->")
_MARK_URL = "https://cml.dev/watermark.png"


class Comment(Frozen):
    """One comment as GitHub lists it."""

    id: int
    author: str
    is_bot: bool
    body: str


class About(Frozen):
    """What a comment was written about: the commit, and the run and its attempt as `id.attempt`."""

    head: str = ""
    run: str = ""


def marker(key: str) -> str:
    """The hidden first line of the comment `key`.

    Raises:
        ForgeError: the key is no plain word.
    """
    require_key(key, "a comment")
    return f"<!-- mergeline:{key} -->"


def watermark_title(key: str) -> str:
    """The title by which CML knows the comment `key`, as its option `--watermark-title` takes it."""
    return f"mergeline:{key}"


def page(key: str, text: str, about: About) -> str:
    """The comment without CML's watermark: what CML is given to post."""
    told = f"<!-- about head={about.head or '-'} run={about.run or '-'} -->"
    return f"{marker(key)}\n{told}\n\n{text.strip()}"


def compose(key: str, text: str, about: About) -> str:
    """The whole comment, as CML would write it."""
    # CML looks for a commit after the #, and never finds a watermark without one again.
    return (
        f'{page(key, text, about)}\n\n![]({_MARK_URL}#{about.head or "0" * 40} "CML watermark {watermark_title(key)}")'
    )


def read_about(comment: Comment) -> About:
    """What the comment says that it is about; empty where it does not say."""
    lines = comment.body.splitlines()
    found = _ABOUT.fullmatch(lines[1].strip()) if len(lines) > 1 else None
    if found is None:
        return About()
    return About(head=found["head"].replace("-", ""), run=found["run"].replace("-", ""))


def ours(comments: Sequence[Comment], key: str, me: str | None) -> tuple[Comment, ...]:
    """Our comments `key`, oldest first: one, if nothing went wrong.

    A comment of a person is ours only if that person is who we are: whoever wrote a comment can change it later,
    so the report must not stand in a stranger's.

    Args:
        comments: all comments, oldest first.
        key: the comment's key.
        me: who the token belongs to, or None where only a bot can be meant.
    """
    first = marker(key)
    return tuple(
        comment
        for comment in comments
        if comment.body.lstrip("\ufeff").startswith(first) and (comment.is_bot or comment.author == me)
    )


def same_text(one: str, other: str) -> bool:
    """Whether two bodies are the same once GitHub has stored them."""
    return one.replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()


def why_not_cml(comments: Sequence[Comment], key: str, me: str | None) -> str | None:
    """Why `cml comment update` would write another comment than ours, or a second one; None if it would not.

    CML takes the last of the first 30 comments that holds its watermark, whoever wrote it.

    Args:
        comments: all comments, oldest first.
        key: the comment's key.
        me: who the token belongs to, or None where only a bot can be meant.
    """
    pattern = re.compile(rf'!\[\]\({re.escape(_MARK_URL)}#[0-9a-fA-F]+ "CML watermark {watermark_title(key)}"\)')
    seen = comments[:CML_READS]
    choice = next((comment for comment in reversed(seen) if pattern.search(comment.body)), None)
    mine = ours(comments, key, me)
    if choice is not None and choice not in mine[:1]:
        return f"CML would write over a comment of {choice.author}"
    if mine and mine[0] not in seen:
        return f"the comment lies beyond the first {CML_READS}, and CML reads no further"
    if mine and choice is None:
        return "the comment has lost CML's watermark"
    if not mine and len(comments) >= CML_READS:
        return f"there are {len(comments)} comments, and CML would not find its own again beyond {CML_READS}"
    return None


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

    It writes over whatever comment it takes for its own: ask `why_not_cml` first.

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
