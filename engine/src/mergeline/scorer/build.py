"""Makes the scorer's files for a model folder: compiled and proven, or with the reason why not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergeline.scorer.compiling import Compiled, Refusal, compile_scorer
from mergeline.scorer.stored import load_scorer, refusal_files, scorer_files

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.scorer.signature import Signature

READ_BACK = 200
"""Training rows that the stored scorer is compared on once more, as a server will read it."""


def build_scorer(
    pipeline: Any, signature: Signature, training: pd.DataFrame, holdout: pd.DataFrame
) -> dict[str, bytes]:
    """Compile a fitted pipeline and prove it.

    Args:
        pipeline: the fitted pipeline.
        signature: what it takes and gives.
        training: prepared features of the training rows; at most 20,000, evenly spread, are compared.
        holdout: prepared features of the holdout's rows, all of which are compared. No label is seen, and no
            number of the model depends on them.

    Returns:
        The files by name. `scorer.json` is always among them.
    """
    compiled = compile_scorer(pipeline, signature)
    if isinstance(compiled, Refusal):
        return refusal_files(compiled.reason)
    try:
        return _proven(compiled, pipeline, signature, training, holdout)
    except Exception as cause:  # noqa: BLE001 - whatever goes wrong with a scorer, scikit-learn can still serve
        reason = (str(cause).splitlines() or [""])[0][:200]
        return refusal_files(f"proving the compiled scorer raised {type(cause).__name__}: {reason}")


def _proven(
    compiled: Compiled, pipeline: Any, signature: Signature, training: pd.DataFrame, holdout: pd.DataFrame
) -> dict[str, bytes]:
    from mergeline.scorer.equivalence import TOLERANCE, TRAINING_ROWS, largest_difference, prove

    step = max(1, -(-len(training) // TRAINING_ROWS))
    proof = prove(compiled, pipeline, signature, [training.iloc[::step], holdout])
    if isinstance(proof, Refusal):
        return refusal_files(proof.reason)
    files = scorer_files(compiled.program, compiled.graph, proof)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        scorer = load_scorer(Path(folder), signature)
    if scorer is None or not largest_difference(scorer, pipeline, signature, training.head(READ_BACK)) <= TOLERANCE:
        return refusal_files("the compiled scorer is another one when it is read back")
    return files
