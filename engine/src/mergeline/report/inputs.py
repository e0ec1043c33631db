"""What a report is written from: typed results, and nothing that must be read or measured again."""

from __future__ import annotations

from mergeline.documents import Frozen
from mergeline.evaluate.results import Evaluation, GateVerdict
from mergeline.model.lineage import Change, ModelLineage
from mergeline.params import GateParams


class ReportInput(Frozen):
    """One judged model.

    `gate` holds the rules that `verdict` was reached by. `version` is the one proposed, None where the
    model is not proposed. `changes` are against the champion, empty without one. `base_commit`
    is what the model was judged against. `commands` reproduce the model on the reader's machine, one line
    each. `notices` are sentences about the run itself that the reader must know.
    """

    name: str
    version: int | None
    digest: str
    evaluation: Evaluation
    verdict: GateVerdict
    gate: GateParams
    lineage: ModelLineage
    changes: tuple[Change, ...] = ()
    base_commit: str | None = None
    commands: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
