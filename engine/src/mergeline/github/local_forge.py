"""A forge in a folder: a bare repository, and for each pull request a folder of files that people can read.

repository.git/
pulls/7/pull.yaml          title, branch, base, state, labels, commits
pulls/7/body.md
pulls/7/comments/report.md
checks/<commit>/mergeline.yaml
issues/drift.yaml
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import yaml
from filelock import FileLock

from mergeline.documents import Frozen, load, parse_plain, read_text
from mergeline.errors import ForgeError
from mergeline.files import write_text
from mergeline.github.git import Git
from mergeline.github.git_objects import contains
from mergeline.github.pull_requests import Issue, PullRequest, PullState, require_key


class IssueFile(Frozen):
    """What `issues/<key>.yaml` holds; a closed issue that is opened again keeps its number."""

    number: int
    title: str
    body: str
    is_open: bool = True
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class LocalForge:
    """Pull requests on this machine; several processes may use one folder at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.git = Git(self.folder / "repository.git")

    @classmethod
    def create(cls, folder: Path, *, branch: str = "main") -> Self:
        """Make an empty forge; one that is there already is left as it is."""
        forge = cls(folder)
        Git.init(forge.git.folder, bare=True, branch=branch)
        return forge

    @property
    def url(self) -> str:
        """The repository's address for git."""
        return str(self.git.folder)

    def open_or_update(self, branch: str, base: str, title: str, body: str, labels: Sequence[str] = ()) -> PullRequest:
        """Open the pull request of `branch` into `base`; one that is open already gets these words instead.

        Raises:
            ForgeError: a branch is missing, or there is nothing between the two.
        """
        with self._lock():
            head = self._tip(branch)
            base_tip = self._tip(base)
            found = next((pull for pull in self.list_open() if (pull.branch, pull.base) == (branch, base)), None)
            if found is None and contains(self.git, base_tip, head):
                raise ForgeError(
                    f"{base} holds every commit of {branch} already",
                    where=self.url,
                    hint=f"commit to {branch} and push it",
                )
            number = found.number if found else self._next_number()
            kept = tuple(dict.fromkeys((*(found.labels if found else ()), *labels)))
            words = {"title": title, "body": body, "labels": kept, "url": self._place(number).as_uri()}
            pull = PullRequest(number=number, branch=branch, base=base, state=PullState.OPEN, head=head, **words)
            self._write(pull)
            return pull

    def comment(self, number: int, key: str, body: str) -> None:
        """Write the comment `key`; one that is there already is updated in place.

        Raises:
            ForgeError: there is no such pull request, or the key is no plain word.
        """
        require_key(key, f"a comment of pull request {number}")
        with self._lock():
            self._read(number)
            write_text(self._place(number) / "comments" / f"{key}.md", body)

    def has_comment(self, number: int, key: str) -> bool:
        """Whether the comment `key` is there."""
        return (self._place(number) / "comments" / f"{key}.md").exists()

    def label(self, number: int, label: str, *, on: bool = True) -> None:
        """Put a label on it, or take it off.

        Raises:
            ForgeError: there is no such pull request.
        """
        with self._lock():
            pull = self._read(number)
            others = tuple(one for one in pull.labels if one != label)
            self._write(pull.model_copy(update={"labels": (*others, label) if on else others}))

    def get(self, number: int) -> PullRequest:
        """The pull request of that number; one whose commits a push has brought to its base is merged, as on GitHub.

        Raises:
            ForgeError: there is none.
        """
        pull = self._read(number)
        if pull.state is not PullState.OPEN:
            return pull
        head, base = self.git.find(f"refs/heads/{pull.branch}") or pull.head, self.git.find(f"refs/heads/{pull.base}")
        merged = {"state": PullState.MERGED, "merge_commit": base} if base and contains(self.git, base, head) else {}
        return pull.model_copy(update={"head": head, **merged})

    def list_open(self) -> tuple[PullRequest, ...]:
        """The open pull requests, oldest first."""
        return tuple(pull for pull in self._pulls() if pull.state is PullState.OPEN)

    def find(self, branch: str) -> PullRequest | None:
        """The open pull request of `branch`, the oldest if it has several, or None."""
        return next((pull for pull in self.list_open() if pull.branch == branch), None)

    def list_declined(self, branch: str) -> tuple[PullRequest, ...]:
        """The pull requests of `branch` that were closed without a merge, newest first."""
        closed = [pull for pull in self._pulls() if pull.branch == branch and pull.state is PullState.CLOSED]
        return tuple(reversed(closed))

    def check(self, commit: str, name: str, *, success: bool, title: str, summary: str) -> None:
        """Put the check `name` on a commit; one that is there already gets this result instead.

        Raises:
            ForgeError: there is no such commit, or the name is no plain word.
        """
        require_key(name, "a check")
        found = self.git.find(commit)
        if found is None:
            raise ForgeError(f"there is no commit {commit}", where=self.url, hint="push it first")
        with self._lock():
            told = {"success": success, "title": title, "summary": summary}
            self._dump(self.folder / "checks" / found / f"{name}.yaml", told)

    def open_or_update_issue(self, key: str, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        """Open the issue `key`; one that is there already gets these words instead, and is open again.

        Raises:
            ForgeError: the key is no plain word.
        """
        require_key(key, "an issue")
        with self._lock():
            found = self._issue(key)
            numbers = (load(path, IssueFile).number for path in (self.folder / "issues").glob("*.yaml"))
            number = found.number if found else max(numbers, default=0) + 1
            notes = found.notes if found else ()
            return self._write_issue(
                key, IssueFile(number=number, title=title, body=body, labels=tuple(labels), notes=notes)
            )

    def close_issue(self, key: str, note: str) -> Issue | None:
        """Close the issue `key` with a last note, and return it; None where none is open."""
        require_key(key, "an issue")
        with self._lock():
            found = self._issue(key)
            if found is None or not found.is_open:
                return None
            return self._write_issue(key, found.model_copy(update={"is_open": False, "notes": (*found.notes, note)}))

    def _pulls(self) -> list[PullRequest]:
        return [self.get(number) for number in self._numbers() if (self._place(number) / "pull.yaml").exists()]

    def _lock(self) -> FileLock:
        return FileLock(self.folder / ".lock")

    def _place(self, number: int) -> Path:
        return self.folder / "pulls" / str(number)

    def _numbers(self) -> list[int]:
        place = self.folder / "pulls"
        return sorted(int(path.name) for path in place.iterdir() if path.name.isdecimal()) if place.exists() else []

    def _next_number(self) -> int:
        return max(self._numbers(), default=0) + 1

    def _read(self, number: int) -> PullRequest:
        place = self._place(number)
        if not (place / "pull.yaml").exists():
            known = ", ".join(str(number) for number in self._numbers()) or "none yet"
            raise ForgeError(
                "there is no such pull request", where=f"pull request {number}", hint=f"there are: {known}"
            )
        told = parse_plain(read_text(place / "pull.yaml"), str(place / "pull.yaml"))
        body = (place / "body.md").read_text(encoding="utf-8")
        return PullRequest.model_validate({**told, "number": number, "body": body, "url": place.as_uri()})

    def _write(self, pull: PullRequest) -> None:
        place = self._place(pull.number)
        write_text(place / "body.md", pull.body)
        self._dump(place / "pull.yaml", pull.model_dump(mode="json", exclude={"number", "body", "url", "fork"}))

    def _issue(self, key: str) -> IssueFile | None:
        path = self.folder / "issues" / f"{key}.yaml"
        return load(path, IssueFile) if path.exists() else None

    def _write_issue(self, key: str, file: IssueFile) -> Issue:
        path = self.folder / "issues" / f"{key}.yaml"
        self._dump(path, file.model_dump(mode="json"))
        told = {"number": file.number, "title": file.title, "body": file.body, "is_open": file.is_open}
        return Issue(key=key, url=path.as_uri(), **told)

    @staticmethod
    def _dump(path: Path, content: Mapping[str, object]) -> None:
        write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000))

    def _tip(self, branch: str) -> str:
        found = self.git.find(f"refs/heads/{branch}")
        if found is None:
            raise ForgeError(f"there is no branch {branch!r}", where=self.url, hint="push it first")
        return found
