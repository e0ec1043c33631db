"""Decides what a pull request is told of its proposal."""

from __future__ import annotations

import re

from mergeline.ci.bundle import RUN_AGAIN, HandedState, Handover, Trouble
from mergeline.ci.proposal_status import Applied, Outcome
from mergeline.documents import Frozen
from mergeline.errors import MergelineError
from mergeline.github.sanitize import code_block, defuse

BACK = "takes version "
"""How the headline of a branch that goes back to an earlier model begins; see `hand_over_make`."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Said(Frozen):
    """What is told; `create` is false where it is told only if an earlier comment says something else."""

    text: str
    create: bool = True


class Setting(Frozen):
    """What the words depend on besides the proposal.

    `fork`: the branch is another repository's. `attested`: how the step that attests ended (`success`, `failure`),
    or an empty string where it did not run. `signed`: every model is signed. `run_url`: the run's address, if any.
    `afterwards`: told after the run, by somebody who does not know what became of the proposal.
    """

    fork: bool = False
    attested: str = ""
    signed: bool = False
    run_url: str = ""
    afterwards: bool = False


def say(proposal: Handover, report: str | None, applied: Applied | None, setting: Setting) -> Said:
    """What is told of a proposal whose folder could be read.

    Args:
        proposal: what `proposal.json` says.
        report: the text of `report.md`, written by the branch's own code.
        applied: what became of it, where somebody applied it.
        setting: what else counts.
    """
    if applied is not None and applied.outcome in {Outcome.REFUSED, Outcome.OUTDATED}:
        return say_not_written(applied, setting)
    if proposal.state is HandedState.FAILED:
        error = proposal.error or Trouble(what="the run gives no reason", hint="read its log")
        return Said(text=_trouble("❌ No model: this could not be reproduced", error, setting))
    if proposal.state in {HandedState.UNCHANGED, HandedState.HELD}:
        return _unchanged(proposal)
    body = defuse(report) if report is not None else f"### {defuse(proposal.headline) or proposal.state}"
    return Said(text="\n\n".join([body.strip(), *_notes(proposal, applied, setting)]))


def _unchanged(proposal: Handover) -> Said:
    """What is told of a branch that brings no new model: it may go back to an earlier one."""
    back = defuse(proposal.headline) if proposal.headline.startswith(BACK) else ""
    if back:
        return Said(text=f"### ↩️ Back to an earlier model\n\n{code_block(back)}\n\nMerging this releases no new model.")
    if proposal.state is HandedState.HELD:
        text = "### ➖ No model is changed\n\nThe model of this branch is under a hold, on the base branch too."
        return Said(text=text, create=False)
    return Said(text="### ➖ No model is changed\n\nMerging this releases no model.", create=False)


def say_not_written(applied: Applied, setting: Setting) -> Said:
    """What is told where applying a proposal wrote nothing."""
    title = (
        "⏳ Outdated: nothing was written to this branch"
        if applied.outcome is Outcome.OUTDATED
        else "❌ Refused: nothing was written to this branch"
    )
    error = applied.error or Trouble(what=f"the proposal is {applied.outcome}", hint=RUN_AGAIN)
    return Said(text=_trouble(title, error, setting))


def say_refused(error: MergelineError, setting: Setting) -> Said:
    """What is told of a folder that may not be read as a proposal."""
    return Said(text=_trouble("❌ Refused: this is not a proposal", Trouble.of(error), setting))


def say_missing(conclusion: str, setting: Setting) -> Said:
    """What is told where a run ended without a proposal."""
    error = Trouble(
        what=f"the run ended{f' as {conclusion}' if conclusion else ''} before it had a result",
        hint="read its log, hint that, and push again",
    )
    return Said(text=_trouble("❌ No model: the run ended too early", error, setting))


def _trouble(title: str, error: Trouble, setting: Setting) -> str:
    parts = [f"### {title}", code_block(defuse(f"{error.where}: {error.what}" if error.where else error.what))]
    if error.hint:
        parts.append(f"**How to fix it**\n\n{code_block(defuse(error.hint))}")
    if setting.run_url:
        parts.append(f"[The run]({setting.run_url}) has the whole log.")
    return "\n\n".join(parts)


def _notes(proposal: Handover, applied: Applied | None, setting: Setting) -> list[str]:
    """What stands below the report: what was written, on whose word the model stands, and what a fork's is worth."""
    lines = []
    if applied is not None and applied.outcome is Outcome.APPLIED and _COMMIT.fullmatch(applied.commit or ""):
        lines.append(f"Written to this branch as {applied.commit}: merging it releases the model.")
    if setting.attested == "success":
        lines.append("Attested: GitHub's attestation of this digest has the gate's verdict as its predicate.")
    elif setting.attested == "failure":
        alone = "the signature of the model folder stands alone" if setting.signed else "nor is it signed"
        lines.append(f"Not attested: an attestation could not be made in this run, see its log; {alone}.")
    elif applied is not None and applied.digest and applied.predicate is None:
        lines.append("Not attested in this run: the evidence names the verdict of an earlier one.")
    elif applied is not None and applied.digest and setting.attested == "skipped":
        lines.append("Not attested: an attestation could not be made in this run, see its log.")
    if setting.afterwards and not setting.fork:
        lines.append("Told after the run: what became of this proposal is not known here, see the check `mergeline`.")
    if setting.fork:
        lines.append("From a fork: this report was made by the fork's own code, and nothing of it is kept.")
        if proposal.state is HandedState.PROPOSED:
            lines.append("Merging releases no model: afterwards the model is made again, and proposed by itself.")
    return ["---", "\n".join(f"<sub>{line}</sub><br>" for line in lines)] if lines else []
