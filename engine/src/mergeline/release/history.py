"""Reads production's history out of the states that its manifest went through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from mergeline.documents import Frozen
from mergeline.errors import ManifestError
from mergeline.home import model_option
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, Release, parse_manifest

_PULL = re.compile(r"\(#(\d+)\)$|^Merge pull request #(\d+)\b")  # a squashed merge's title, and a merge commit's


class Event(StrEnum):
    """What one merge did to production."""

    FIRST = "first release"
    RELEASE = "release"
    ROLLBACK = "rollback"
    ROLLOUT = "rollout"
    HOLD = "hold"
    LIFT = "hold lifted"


class Revision(Frozen):
    """One commit of the base branch that touched the manifest; `text` is the manifest there, None if it is gone.

    `merge` says that the commit has several parents.
    """

    commit: str
    when: datetime
    subject: str
    text: str | None
    merge: bool = False


class Moment(Frozen):
    """One thing that happened to production: `serving` is what answered after it.

    `reasons` are those of the holds that it brought; `pull` is the pull request that was merged, where the commit
    or the evidence names one. `replaced` is the version that a release took the place of. `candidate` is what rolled
    out beside it by `strategy`, and `ended` a candidate that was taken away without having become stable.
    """

    commit: str
    when: datetime
    subject: str
    event: Event
    serving: Release
    pull: int | None
    reasons: tuple[str, ...] = ()
    merge: bool = False
    replaced: int | None = None
    candidate: Release | None = None
    strategy: str = ""
    ended: int | None = None

    @property
    def releases(self) -> tuple[Release, ...]:
        """What answers after it, and what rolls out next to that."""
        return tuple(release for release in (self.serving, self.candidate) if release is not None)

    def undo(self, model: str = "") -> tuple[str, ...]:
        """The commands that take this one step back, the best first: a rollback holds what failed as well.

        Args:
            model: `Home.model` of what it happened to.
        """
        revert = f"git revert {'-m 1 ' if self.merge else ''}{self.commit[:12]}"
        if self.event is not Event.RELEASE or self.replaced is None:
            return (revert,)
        return f"mergeline rollback{model_option(model)} --pull-request --to {self.replaced} 'what failed'", revert


def history(revisions: Sequence[Revision], name: str) -> tuple[Moment, ...]:
    """What happened to the production of the model `name`.

    Args:
        revisions: the commits that touched the manifest, oldest first.
        name: the model; states of the file that belong to another one (a template's own) or that cannot be read
            are passed over.

    Returns:
        The moments, newest first; commits that changed words only are left out.
    """
    moments: list[Moment] = []
    before: Manifest | None = None
    served: set[str] = set()
    for revision in revisions:
        after = manifest_of(revision, name)
        if after is None:
            continue
        event = _event(before, after, served)
        if event is not None and after.spec.stable is not None:
            served.add(after.spec.stable.digest)
            moments.append(_moment(revision, event, before, after, after.spec.stable))
        before = after
    return tuple(reversed(moments))


def _moment(revision: Revision, event: Event, before: Manifest | None, after: Manifest, serving: Release) -> Moment:
    # An environment begins with the holds of production: they are not news, and their pull requests are not its own.
    new = [hold for hold in after.spec.holds if before is not None and hold.digest not in before.spec.held]
    pulls = [_pull_of(revision.subject), *(hold.pull for hold in new)]
    if event in (Event.FIRST, Event.RELEASE):
        pulls.append(serving.evidence.pull)
    return Moment(
        commit=revision.commit,
        when=revision.when,
        subject=revision.subject,
        event=event,
        serving=serving,
        pull=next((pull for pull in pulls if pull), None),
        reasons=tuple(hold.reason for hold in new),
        merge=revision.merge,
        replaced=before.spec.stable.version if before and before.spec.stable else None,
        candidate=after.spec.candidate,
        strategy=after.spec.rollout.strategy,
        ended=_ended(before, after),
    )


def _ended(before: Manifest | None, after: Manifest) -> int | None:
    was = before.spec.candidate if before else None
    if was is None:
        return None
    return None if was.digest in {release.digest for release in after.spec.serving} else was.version


def _event(before: Manifest | None, after: Manifest, served: set[str]) -> Event | None:
    stable = after.spec.stable
    if stable is None:
        return None
    was = before.spec if before else None
    if was is None or was.stable is None:
        return Event.FIRST
    if was.stable.digest != stable.digest:
        back = stable.digest in served and stable.version < was.stable.version
        return Event.ROLLBACK if back else Event.RELEASE
    if after.spec.held - was.held:
        return Event.HOLD
    if was.held - after.spec.held:
        return Event.LIFT
    changed = was.candidate != after.spec.candidate or was.rollout != after.spec.rollout
    return Event.ROLLOUT if changed else None


def manifest_of(revision: Revision, name: str) -> Manifest | None:
    """The manifest of a commit; None where it is another model's, or cannot be read."""
    if revision.text is None:
        return None
    try:
        found = parse_manifest(revision.text, f"{MANIFEST_FILE} at {revision.commit[:12]}")
    except ManifestError:
        return None
    return found if found.metadata.name == name else None


def _pull_of(subject: str) -> int | None:
    found = _PULL.search(subject)
    return int(found[1] or found[2]) if found else None
