"""A proposal's summary and report, for the tests of the comment."""

from mergeline.ci.bundle import ProposalSummary
from mergeline.release.proposal import ProposalStatus

HEAD, BASE = "a" * 40, "b" * 40


DIGEST = "sha256:" + "d" * 64


CANARY = "starts a canary of version 3: 5 % → 25 %"


REPORT = "## ✅ Accepted: better\n\n| Metric | Gain |\n| :-- | --: |\n| `roc_auc` | 0.01 |\n"


def handover(state=ProposalStatus.PROPOSED, **fields):
    return ProposalSummary(
        **{"name": "flights", "state": state, "head": HEAD, "base": BASE, "headline": "better", **fields}
    )
