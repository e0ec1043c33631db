"""What a proposal is: its base, its states and its result, light enough for jobs that run no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.documents import parse_plain
from mergeline.evaluate.results import GateVerdict
from mergeline.files import canonical_json
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, parse_manifest
from mergeline.manifest.transitions import refuse_held, version_for
from mergeline.model.lineage import flat, sha256

if TYPE_CHECKING:
    from mergeline.evaluate.champion import Judged
    from mergeline.report.write import Reports

REPORT_FOLDER = Path("report")
VERDICT_FILE = REPORT_FOLDER / "verdict.json"


class ProposalStatus(StrEnum):
    """The result of a proposal, in the words of the workflows."""

    PROPOSED = "proposed"
    UNCHANGED = "unchanged"
    HELD = "held"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"

    @property
    def passes(self) -> bool:
        """Whether a pull request in this state may be merged."""
        return self in (ProposalStatus.PROPOSED, ProposalStatus.UNCHANGED, ProposalStatus.HELD)


@dataclass(frozen=True)
class Base:
    """What the proposal is made against: the base branch's manifest, and the commit it was read from.

    `path` is where that manifest is, `others` are those of the environments after it, by name. `given` is the highest
    version that their history has given away. `params` is the text of the base branch's params; empty without one.
    """

    text: str
    commit: str | None = None
    path: Path = MANIFEST_FILE
    others: Mapping[str, Manifest] = field(default_factory=dict)
    given: int = 0
    params: str = ""

    @property
    def manifest(self) -> Manifest:
        """The manifest, checked."""
        return parse_manifest(self.text, f"{self.path} of the base branch")

    def holds(self, digest: str) -> bool:
        """Whether a model is under a hold, in whichever environment."""
        return any(digest in one.spec.held for one in (self.manifest, *self.others.values()))

    def refuse_held(self, digest: str) -> None:
        """Refuse a model that is under a hold, in whichever environment.

        Raises:
            HoldError: with the reason of the hold.
        """
        refuse_held(self.manifest, digest)
        for name, manifest in self.others.items():
            refuse_held(manifest, digest, name)

    def version_for(self, digest: str) -> int:
        """The version of a model when it is proposed, which no model has had."""
        return version_for(self.manifest, digest, self.given)


@dataclass(frozen=True)
class Delivery:
    """What is done with a model beside writing the manifest.

    `pull` is the pull request that the evidence names. `push` puts objects into the store, `record` makes a run in
    MLflow, `sign` signs as the policy asks: none of them is for a job that may write nothing. `known` is the object
    of the model that the base branch's own lock names: a branch that makes that one changes no model.
    """

    pull: int | None = None
    push: bool = True
    record: bool = True
    sign: bool = True
    known: str = ""


@dataclass(frozen=True)
class Proposal:
    """A judged model; `judged` and `reports` are None where the branch changes no model.

    `signed` are the versions of released models that had no good signature, and have one now.
    """

    state: ProposalStatus
    digest: str
    version: int | None
    judged: Judged | None = None
    reports: Reports | None = None
    notices: tuple[str, ...] = ()
    signed: tuple[int, ...] = ()


JUDGING = ("name", "model.trusted_types", "release.signing", "release.environments", "release.soak", "gate",
           "evaluation", "split", "validation")  # fmt: skip
"""What a model is judged by, the gravest first: its champion is the one of its name."""
JUDGING_SHOWN, _VALUE_SHOWN = 12, 100


def judged_by(before: str, after: str) -> str:
    """What the text of the params changes of what a model is judged by, in one sentence; empty where it is nothing.

    Raises:
        DocumentError: one of them cannot be read.
    """
    trees = (parse_plain(before, "params.yaml"), parse_plain(after, "params.yaml"))
    leaves = ({str(key): text for key, text in flat(tree).items()} for tree in trees)
    was, now = ({key: text for key, text in each.items() if key.startswith(JUDGING)} for each in leaves)
    changed = [key for key in sorted(was.keys() | now.keys(), key=_weight) if was.get(key) != now.get(key)]
    told = [" ".join((_short(key), _short(was.get(key)), "→", _short(now.get(key)))) for key in changed]
    more = f" and {len(told) - JUDGING_SHOWN} more" if len(told) > JUDGING_SHOWN else ""
    return f"This proposal changes what it is judged by: {', '.join(told[:JUDGING_SHOWN])}{more}" if told else ""


def _weight(key: str) -> tuple[int, str]:
    """The gravest first, so that many small changes do not push it out of the sentence."""
    return next(place for place, name in enumerate(JUDGING) if key.startswith(name)), key


def _short(text: str | None) -> str:
    """A key or a value of the params: a longer one would push what is told below it out of the comment."""
    text = "(default)" if text is None else text
    return text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}…"


def verdict_digest(verdict: GateVerdict) -> str:
    """The digest of a verdict, as the evidence names it."""
    return sha256(canonical_json(verdict.model_dump(mode="json")))
