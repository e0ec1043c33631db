"""What became of a proposal that was handed over: written beside its folder, never into it.

The folder was made by a branch's own code; what stands beside it is the word of whoever applied it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from mergeline.ci.bundle import Trouble
from mergeline.documents import Frozen
from mergeline.errors import HandoverError
from mergeline.files import write_json


class Outcome(StrEnum):
    """What applying a proposal came to."""

    APPLIED = "applied"
    PUSHED = "pushed"  # to a branch of its own, whose pull request a person must open
    NOTHING = "nothing"
    OUTDATED = "outdated"
    REFUSED = "refused"


class Applied(Frozen):
    """The outcome; `commit` is the commit that holds the proposal, `error` says what a person must know or do.

    `predicate` is the file of the gate's verdict, where a model was released by this commit.
    """

    outcome: Outcome
    pull: int | None = None
    commit: str | None = None
    digest: str | None = None
    predicate: str | None = None
    error: Trouble | None = None


def outcome_file(folder: Path) -> Path:
    """Where the outcome of the proposal in `folder` lies: `proposal.outcome.json` beside `proposal`."""
    place = folder.absolute()
    return place.with_name(f"{place.name}.outcome.json")


def write_outcome(folder: Path, applied: Applied) -> None:
    """Write down what became of the proposal in `folder`."""
    write_json(outcome_file(folder), applied.model_dump(mode="json"))


def read_outcome(folder: Path) -> Applied | None:
    """What became of the proposal in `folder`; None where nobody has applied it here.

    Raises:
        HandoverError: the file is damaged.
    """
    file = outcome_file(folder)
    if not file.exists():
        return None
    try:
        return Applied.model_validate_json(file.read_bytes())
    except (ValidationError, ValueError) as cause:
        raise HandoverError("not an outcome", where=str(file), hint="run mergeline ci apply again") from cause
