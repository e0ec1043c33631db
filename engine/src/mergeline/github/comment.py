"""Puts a text on a pull request as our one comment: with CML where it can be trusted to, else through the API."""

from __future__ import annotations

from mergeline.documents import Frozen
from mergeline.errors import ToolError
from mergeline.github.actions import Job
from mergeline.github.cml import LIMIT_SECONDS, Post, send, why_unusable
from mergeline.github.comment_marker import compose, ours, same_text, why_not_cml
from mergeline.github.forge import GitHubForge
from mergeline.github.sanitize import COMMENT_CHARACTERS, cut_markdown


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
