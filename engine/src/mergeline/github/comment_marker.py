"""Writes and finds the one comment of ours on a pull request, so that CML and the forge take turns on it.

Our own marker is the comment's first line: text further down may hold anything, a copied marker too. CML finds a
comment again by a watermark at its end; the forge writes the same one (CML 0.20, `src/watermark.js`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mergeline.documents import Frozen
from mergeline.errors import ForgeError

CML_READS = 30
"""CML asks for one page of comments, and GitHub's page has 30, the oldest first."""

_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
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
    if not _KEY.fullmatch(key):
        raise ForgeError(f"{key!r} cannot name a comment", where="a comment", hint="use small letters, digits and -")
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
