"""Keeps git, the emulator and the pull requests in step, and notes what may start workflows."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_github.bare import NOTHING, Bare, Change
from local_github.emulator import Answer, Emulator, Who
from local_github.mirror import Mirror
from local_github.payloads import merge_group_event, pull_event, push_event
from local_github.rules import merge_refusal, push_refusal, rules_for
from local_github.state import Event, Run, Settings

BOT_APP = "github-actions"
GHOST = "ghost"


class Hub:
    """All repositories of the local GitHub. Every method may be called from any thread."""

    def __init__(self, folder: Path, emulator: Emulator, admin: str) -> None:
        self.folder, self.emulator, self.admin = folder, emulator, admin
        self.repositories: dict[str, Bare] = {}
        self.settings: dict[str, Settings] = {}
        self.events: list[Event] = []
        self.runs: list[Run] = []
        self.errors: list[str] = []  # requests that failed here: faults of the local GitHub itself
        self._mirrors: dict[str, Mirror] = {}
        self._parents: dict[str, str] = {}
        self._merged: dict[tuple[str, int], tuple[str, str, str | None]] = {}  # base, head and merge of pull requests
        self.lock = threading.RLock()

    def add(self, name: str, *, like: str | None = None) -> Bare:
        """Make the git side of a repository that the emulator has."""
        with self.lock:
            source = self.repositories.get(like) if like else None
            made = Bare.create(self.folder / f"{name}.git", name, like=source)
            self.repositories[name], self.settings[name] = made, Settings()
            self._mirrors[name] = Mirror(made, self.emulator)
            if like:
                self._parents[name] = like
            self._mirrors[name].follow(made.changes_since({}))
            return made

    def who(self, token: str, name: str) -> Who:
        """Whose token it is."""
        return self.emulator.who(token, name) if token else Who(None, None, writes=False, app=None)

    # -- pushes -------------------------------------------------------------------------------------------------------

    def refusals(self, name: str, wanted: list[Change]) -> dict[str, str]:
        """Which of the refs that a push wants to move are protected, and why."""
        repository, rulesets = self.repositories[name], self.settings[name].rulesets
        found = {}
        for change in wanted:
            branch = change.ref.removeprefix("refs/heads/")
            if branch == change.ref:
                continue
            forced = NOTHING not in change[1:] and (
                repository.git.find(change.new) is not None and not repository.contains(change.new, change.old)
            )
            reason = push_refusal(
                rules_for(rulesets, branch),
                deletes=change.new == NOTHING,
                forced=forced,
                creates=change.old == NOTHING,
            )
            if reason:
                found[change.ref] = reason
        return found

    @contextlib.contextmanager
    def moving(self, name: str, who: Who) -> Iterator[Bare]:
        """Let the block move refs; afterwards the emulator, the pull requests and the events follow."""
        with self.lock:
            repository = self.repositories[name]
            before = repository.refs()
            yield repository
            self._moved(name, repository.changes_since(before), who)

    def _moved(self, name: str, changes: list[Change], who: Who) -> None:
        self._mirrors[name].follow(changes)
        silent = who.app == BOT_APP  # nothing runs on what a job's token pushed
        for change in changes:
            if not change.ref.startswith("refs/heads/"):
                continue
            if not silent and change.new != NOTHING:
                self.events.append(push_event(self, name, change, who.login or GHOST))
            branch = change.ref.removeprefix("refs/heads/")
            for base in filter(None, (name, self._parents.get(name))):
                for pull in self._pulls(base):
                    if pull["head"]["repo"]["full_name"] == name and pull["head"]["ref"] == branch:
                        self._synchronise(base, pull, change, None if silent else who)
                    elif base == name and pull["base"]["ref"] == branch:
                        self.refresh(base, pull["number"])

    def _pulls(self, name: str) -> list[Any]:
        return self.emulator.pages(f"/repos/{name}/pulls?state=open", token=self.admin)

    def _synchronise(self, base: str, pull: Mapping[str, Any], change: Change, who: Who | None) -> None:
        number = pull["number"]
        if change.new == NOTHING:
            self._change(base, number, {"closed_at": now()}, state="closed")
            return
        self._change(base, number, {"head_sha": change.new})
        merge = self.refresh(base, number)
        target = self.repositories[base]
        if target.contains(target.tip(pull["base"]["ref"]) or NOTHING, change.new):
            self._mark_merged(base, number, change.new, who.login if who else None)
        elif who and merge:
            fresh = self.pull(base, number)
            self.events.append(pull_event(fresh, "synchronize", who.login or GHOST, merge, before=change.old))

    # -- pull requests ------------------------------------------------------------------------------------------------

    def pull(self, name: str, number: int) -> Any:
        """A pull request as the API shows it."""
        return self.emulator.must("GET", f"/repos/{name}/pulls/{number}", token=self.admin)

    def opened(self, name: str, number: int, who: Who) -> None:
        """A pull request was opened: give it its refs, its numbers, and its event."""
        with self.lock:
            merge = self.refresh(name, number)
            if merge and who.app != BOT_APP:
                pull = self.pull(name, number)
                self.events.append(pull_event(pull, "opened", who.login or GHOST, merge))

    def edited(self, name: str, number: int, was: str, who: Who) -> None:
        """A pull request was changed by hand: closed ones and reopened ones have events."""
        pull = self.pull(name, number)
        merge = self.refresh(name, number) if pull["state"] == "open" else pull["head"]["sha"]
        if pull["state"] != was and who.app != BOT_APP and merge:
            action = "closed" if pull["state"] == "closed" else "reopened"
            self.events.append(pull_event(pull, action, who.login or GHOST, merge))

    def refresh(self, name: str, number: int) -> str | None:
        """Make refs/pull/N/head and /merge anew; the merged commit, or None where it conflicts."""
        with self.lock:
            pull, target = self.pull(name, number), self.repositories[name]
            head, base = pull["head"]["sha"], target.tip(pull["base"]["ref"])
            if pull["state"] != "open" or base is None:
                return None
            last = self._merged.get((name, number))
            if last is not None and last[:2] == (base, head):
                return last[2]
            target.bring(self.repositories[pull["head"]["repo"]["full_name"]], head)
            target.point(f"refs/pull/{number}/head", head)
            self._mirrors[name].send([head])
            tree = target.merged_tree(base, head)
            files = target.files(base, head)
            fields = {
                "base_sha": base,
                "commits": len(target.commits(base, head)),
                "changed_files": len(files),
                "additions": sum(file.additions for file in files),
                "deletions": sum(file.deletions for file in files),
                "mergeable": tree is not None,
                "mergeable_state": "dirty" if tree is None else "clean",
            }
            self._change(name, number, fields)
            merge = None
            if tree is not None:
                merge = target.commit_tree(tree, [base, head], f"Merge {head} into {base}", pull["user"]["login"])
                target.point(f"refs/pull/{number}/merge", merge)
            self._merged[name, number] = (base, head, merge)
            return merge

    def merge(self, name: str, number: int, who: Who, *, squash: bool = False, expected: str | None = None) -> Answer:
        """Merge it as GitHub does: the rules first, then a true merge of the two."""
        with self.lock:
            pull, target = self.pull(name, number), self.repositories[name]
            head, branch = pull["head"]["sha"], pull["base"]["ref"]
            base = target.tip(branch)
            if pull["state"] != "open" or pull["draft"] or base is None:
                return Answer(405, {"message": "Pull Request is not mergeable"}, {})
            if expected and expected != head:
                return Answer(409, {"message": "Head branch was modified. Review and try the merge again."}, {})
            reason = self.merge_refusal(name, pull)
            if reason:
                return Answer(405, {"message": f"Repository rule violations found\n\n{reason}\n"}, {})
            tree = target.merged_tree(base, head)
            if tree is None:
                return Answer(405, {"message": "Merge conflict"}, {})
            title = f"{pull['title']} (#{number})" if squash else f"Merge pull request #{number} from {_label(pull)}"
            words = f"{title}\n\n{(pull['body'] or '') if squash else pull['title']}\n"
            commit = target.commit_tree(tree, [base] if squash else [base, head], words, who.login or GHOST)
            with self.moving(name, who) as repository:
                self._mark_merged(name, number, commit, who.login)
                repository.point(f"refs/heads/{branch}", commit)
            return Answer(200, {"sha": commit, "merged": True, "message": "Pull Request successfully merged"}, {})

    def merge_refusal(self, name: str, pull: Mapping[str, Any]) -> str | None:
        """Why the rules of the base branch do not let it be merged now, or None."""
        target, head = self.repositories[name], pull["head"]["sha"]
        rules = rules_for(self.settings[name].rulesets, pull["base"]["ref"])
        checks = self.emulator.must("GET", f"/repos/{name}/commits/{head}/check-runs", token=self.admin)["check_runs"]
        reviews = self.emulator.pages(f"/repos/{name}/pulls/{pull['number']}/reviews", token=self.admin)
        approved = {review["user"]["login"] for review in reviews if review["state"] == "APPROVED"}
        return merge_refusal(
            rules,
            {check["name"]: check["conclusion"] for check in checks},
            behind=not target.contains(head, target.tip(pull["base"]["ref"]) or NOTHING),
            approvals=len(approved - {pull["user"]["login"]}),
        )

    def queue(self, name: str, number: int, who: Who) -> Event:
        """Put it into the merge queue: the group's commit and its event."""
        with self.lock:
            pull, target = self.pull(name, number), self.repositories[name]
            base = target.tip(pull["base"]["ref"]) or NOTHING
            tree = target.merged_tree(base, pull["head"]["sha"])
            if tree is None:
                raise ValueError(f"pull request {number} conflicts with its base")
            commit = target.commit_tree(
                tree, [base, pull["head"]["sha"]], f"Merge pull request #{number} from {_label(pull)}", GHOST
            )
            ref = f"refs/heads/gh-readonly-queue/{pull['base']['ref']}/pr-{number}-{base}"
            target.point(ref, commit)
            self._mirrors[name].follow([Change(ref, NOTHING, commit)])
            event = merge_group_event(pull, ref, commit, base, who.login or GHOST)
            self.events.append(event)
            return event

    def _mark_merged(self, name: str, number: int, commit: str, login: str | None) -> None:
        fields = {"merged": True, "merged_at": now(), "closed_at": now(), "merge_commit_sha": commit}
        self._change(name, number, {**fields, "mergeable": None}, state="closed", merged_by=login)

    def _change(self, name: str, number: int, fields: Mapping[str, Any], **more: Any) -> None:
        self.emulator.internal("pull", {"repo": name, "number": number, "fields": fields, **more})


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _label(pull: Mapping[str, Any]) -> str:
    return str(pull["head"]["label"]).replace(":", "/", 1)
