"""Decides what a pull request is told of its proposal."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mergeline.ci.bundle import ApplyOutcome, ApplyResult, ErrorInfo, ProposalSummary
from mergeline.documents import Frozen
from mergeline.errors import MergelineError
from mergeline.github.effects import NOTHING, headline
from mergeline.github.own_branch import RUN_AGAIN
from mergeline.github.sanitize import COMMENT_CHARACTERS, code_block, cut_markdown, defuse, foreign, item
from mergeline.release.proposal import ProposalStatus

_COMMIT = re.compile(r"[0-9a-f]{40}")


class CommentText(Frozen):
    """What is told; `create` is false where it is told only if an earlier comment says something else."""

    text: str
    create: bool = True


class CommentContext(Frozen):
    """What the words depend on besides the proposal.

    `fork`: the branch is another repository's. `attested`: how the step that attests ended (`success`, `failure`),
    or an empty string where it did not run. `signed`: every model is signed. `run_url`: the run's address, if any;
    `page_url` and `files_url` those of the HTML report and of the whole proposal. `afterwards`: told after the run, by
    somebody who does not know what became of the proposal. `merging`: what merging the branch does. `judge`: what it
    changes of what it is judged by, which the report, of the branch's own code, may leave out. `refused`: why the
    required check is red, and what to do next, as its lines; none where it is green or not known. `red`: the job that
    concludes has failed.
    """

    fork: bool = False
    attested: str = ""
    signed: bool = False
    run_url: str = ""
    page_url: str = ""
    files_url: str = ""
    afterwards: bool = False
    merging: str = NOTHING
    judge: str = ""
    refused: tuple[str, ...] = ()
    red: bool = False


def say(
    proposal: ProposalSummary, report: str | None, applied: ApplyResult | None, setting: CommentContext
) -> CommentText:
    """What is told of a proposal whose folder could be read: our own words first, below them the branch's report.

    Args:
        proposal: what `proposal.json` says.
        report: the text of `report.md`, written by the branch's own code.
        applied: what became of it, where somebody applied it.
        setting: what else counts.
    """
    if applied is not None and applied.outcome in {ApplyOutcome.REFUSED, ApplyOutcome.OUTDATED}:
        return text_of_not_written(applied, setting)
    if proposal.state is ProposalStatus.FAILED:
        error = proposal.error or ErrorInfo(what="the run gives no reason", hint="read its log")
        return CommentText(text=_trouble("❌ No model: this could not be reproduced", error, setting))
    unchanged = proposal.state in {ProposalStatus.UNCHANGED, ProposalStatus.HELD}
    if unchanged and not setting.refused and not setting.judge and setting.merging == NOTHING:
        held = "\n\nThe model of this branch is under a hold, on the base branch too."
        text = f"### ➖ Merging this {NOTHING}{held if proposal.state is ProposalStatus.HELD else ''}"
        return CommentText(text=text, create=False)
    judge = [item(f"⚠️ {setting.judge}")] if setting.judge else []
    screen = [_title(proposal, setting), *_reasons(setting), *judge, *_links(setting)]
    screen += _notes(proposal, applied, setting)
    if unchanged:
        return CommentText(text="\n\n".join(screen))
    return CommentText(text="\n\n".join([*screen, "---", foreign(report or proposal.headline or proposal.state)]))


def _title(proposal: ProposalSummary, setting: CommentContext) -> str:
    """The first line: what a click on the button does."""
    if not proposal.state.passes:
        return f"### ⛔ This cannot be merged: the model is {proposal.state}"
    if setting.refused:
        return "### ⛔ This cannot be merged yet"
    if setting.fork:
        return headline(f"{NOTHING} yet")
    return headline(setting.merging)


def _reasons(setting: CommentContext) -> list[str]:
    return ["\n".join(map(item, setting.refused))] if setting.refused else []


def _links(setting: CommentContext) -> list[str]:
    named = (("HTML report", setting.page_url), ("all files", setting.files_url), ("run", setting.run_url))
    return [" · ".join(f"[{name}]({url})" for name, url in named if url)] if setting.run_url else []


def text_of_several(said: Mapping[str, CommentText]) -> CommentText:
    """One comment for all models: a line for each, then a section for each; of one model alone its own text.

    Args:
        said: what is told of each, by its model's name, which the branch's own code may have written.
    """
    if len(said) == 1:
        return next(iter(said.values()))
    room = COMMENT_CHARACTERS // len(said) - 500
    lines, sections = [], []
    for name, one in said.items():
        title = re.sub(r"[^a-z0-9-]", "", name)[:63]
        first = one.text.lstrip("# ").partition("\n")[0].replace("|", "\\|")
        lines.append(f"| `{title}` | {first} |")
        body = cut_markdown(one.text, room, "*The rest is left out: the run has the whole text.*")
        sections.append(f"---\n\n## `{title}`\n\n{body}")
    table = "\n".join(("| Model | |", "| :-- | :-- |", *lines))
    text = "\n\n".join((f"### {len(said)} models", table, *sections))
    return CommentText(text=text, create=any(one.create for one in said.values()))


def text_of_not_written(applied: ApplyResult, setting: CommentContext) -> CommentText:
    """What is told where applying a proposal wrote nothing."""
    why = "⏳ Outdated" if applied.outcome is ApplyOutcome.OUTDATED else "❌ Refused"
    error = applied.error or ErrorInfo(what=f"the proposal is {applied.outcome}", hint=RUN_AGAIN)
    return CommentText(text=_trouble(f"{why}: nothing was written to this branch", error, setting))


def text_of_refused(error: MergelineError, setting: CommentContext) -> CommentText:
    """What is told of a folder that may not be read as a proposal."""
    return CommentText(text=_trouble("❌ Refused: this is not a proposal", ErrorInfo.of(error), setting))


def text_of_missing(conclusion: str, setting: CommentContext) -> CommentText:
    """What is told where a run ended without a proposal."""
    if setting.refused:
        screen = ["### ⛔ This cannot be merged yet", *_reasons(setting), *_links(setting)]
        return CommentText(text="\n\n".join(screen))
    error = ErrorInfo(
        what=f"the run ended{f' as {conclusion}' if conclusion else ''} before it had a result",
        hint="read its log, correct that, and push again",
    )
    return CommentText(text=_trouble("❌ No model: the run ended too early", error, setting))


def _trouble(title: str, error: ErrorInfo, setting: CommentContext) -> str:
    parts = [f"### {title}", code_block(defuse(f"{error.where}: {error.what}" if error.where else error.what))]
    if error.hint:
        parts.append(f"**How to fix it**\n\n{code_block(defuse(error.hint))}")
    return "\n\n".join([*parts, *_reasons(setting), *_links(setting)])


def _notes(proposal: ProposalSummary, applied: ApplyResult | None, setting: CommentContext) -> list[str]:
    """What was written, on whose word the model stands, and what a fork's report is worth."""
    lines = []
    if applied is not None and applied.outcome is ApplyOutcome.APPLIED and _COMMIT.fullmatch(applied.commit or ""):
        lines.append(f"Written to this branch as {applied.commit}.")
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
        lines.append("Posted after the run: what became of this proposal is not known here, see the check `mergeline`.")
    if setting.fork:
        lines.append("From a fork: this report was made by the fork's own code, and nothing of it is kept.")
        if proposal.state is ProposalStatus.PROPOSED:
            lines.append("After the merge the model is made again from main, and proposed by itself.")
    return ["\n".join(f"<sub>{line}</sub><br>" for line in lines)] if lines else []
