"""Say what the repository, its settings and this machine still lack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.cli.app import Json, app
from mergeline.cli.output import say, say_json, tell_checks

if TYPE_CHECKING:
    from mergeline.evaluate.results import Check
    from mergeline.github.doctor_clone import Finding


@app.command()
def doctor(json: Json = False) -> None:
    """Check tools, files, store and the settings on GitHub, and say how to fix each. Ends with 1 if one fails."""
    from mergeline.evaluate.results import Status
    from mergeline.github.doctor import examine

    findings = examine(Path().resolve())
    if json:
        say_json([finding.model_dump(mode="json") for finding in findings])
    else:
        tell_checks([_told(finding) for finding in findings])
        counts = {status: sum(finding.status is status for finding in findings) for status in Status}
        say(", ".join(f"{count} {status.value}" for status, count in counts.items() if count))
    if any(finding.status is Status.FAIL for finding in findings):
        sys.exit(1)


def _told(finding: Finding) -> Check:
    """The finding with what fixes it where a person sees it: below a fault, beside what was skipped."""
    from mergeline.evaluate.results import Status

    if not finding.hint:
        return finding
    if finding.status is Status.SKIP:
        return finding.model_copy(update={"value": f"{finding.value}: {finding.hint}"})
    return finding.model_copy(update={"meaning": f"{finding.meaning}\nhint: {finding.hint}".strip()})
