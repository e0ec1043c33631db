"""The result of comparing a candidate with the stable model by labels; a type without any import of weight."""

from __future__ import annotations

from mergeline.documents import Frozen
from mergeline.evaluate.results import Estimate, GateOutcome


class LabelComparison(Frozen):
    """Candidate and stable by the labels that came for what they answered.

    `paired` where both scored the same requests. `outcome` is the gate's word for the candidate, None where there are
    too few labels to say; `reading` says it in a sentence.
    """

    paired: bool
    labelled: int
    outcome: GateOutcome | None
    gain: Estimate | None
    reading: str
