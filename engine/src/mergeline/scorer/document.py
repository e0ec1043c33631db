"""The shape of `scorer.json`."""

from __future__ import annotations

from typing import Literal

from mergeline.documents import Frozen

FORMAT: Literal[1] = 1


class Proof(Frozen):
    """What a scorer was compared with scikit-learn on, when it was built.

    `rows` counts real rows, `hard_cases` made ones, `refused` those of both that either way gives no score
    for. No difference was beyond `largest_difference`, a power of ten, which is at most `tolerance`; a
    difference of values beyond 1 is taken as a share of them.
    """

    rows: int
    hard_cases: int
    refused: int
    tolerance: float
    largest_difference: float


class LookupDocument(Frozen):
    """A lookup without its values."""

    source: int
    numeric: bool
    keys: tuple[str, ...] | tuple[float, ...]


class StepDocument(Frozen):
    """A step without its parameters."""

    kind: str
    columns: tuple[int, ...] | None = None


class SumsDocument(Frozen):
    """What is summed, without weights and leaves."""

    kind: Literal["linear", "trees"]
    columns: tuple[int, ...] | None = None
    outputs: int = 0
    by_leaf: bool = False
    guarded: bool = False


class CalibratorDocument(Frozen):
    """A calibration without its numbers."""

    kind: Literal["sigmoid", "isotonic"]


class FinishDocument(Frozen):
    """From sums to scores."""

    link: Literal["identity", "exp", "logit", "half_logit", "softmax", "one_vs_rest"]
    divisor: float = 1.0
    inverse: str = ""
    calibrators: tuple[CalibratorDocument, ...] = ()
    folds: int = 1


class ProgramDocument(Frozen):
    """A program without its arrays."""

    sources: int
    lookups: tuple[LookupDocument, ...]
    numbers: tuple[int, ...]
    steps: tuple[StepDocument, ...]
    sums: SumsDocument
    finish: FinishDocument
    positive: int | None


class ScorerDocument(Frozen):
    """`scorer.json`: how the model is scored, and the proof; or, without a program, the reason why there is none."""

    format: Literal[1] = FORMAT
    reason: str | None = None
    proof: Proof | None = None
    program: ProgramDocument | None = None
