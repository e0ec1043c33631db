"""Fits the team's pipeline and writes the model folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergeline.dataset.partitions import data_digest
from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import Split, read_parts
from mergeline.errors import CodeError
from mergeline.files import canonical_json, write_bytes, write_json, write_text
from mergeline.model.artifact import (
    LINEAGE_FILE,
    MLFLOW_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    SIGNATURE_FILE,
    dump_pipeline,
    folder_digest,
    mlflow_description,
)
from mergeline.model.backend import THREADS, training_backend
from mergeline.model.fit import fit, make_signature, needs_seeds, require_same_on_cluster
from mergeline.model.lineage import make_lineage
from mergeline.model.profile import Profile, make_profile
from mergeline.model.trust import refusal, require_own, untrusted
from mergeline.params import Params, Task
from mergeline.scorer.compiling import build_scorer
from mergeline.scorer.pipeline import labels, scores, to_features
from mergeline.scorer.signature import Signature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def best_threshold(hits: NDArray[np.bool_], scores: NDArray[np.float64], criterion: str) -> float:
    """The threshold that maximises F1 or balanced accuracy when rows at or above it are labelled positive.

    Args:
        hits: shape (n,), whether a row is positive.
        scores: shape (n,), the probability of the positive class.
        criterion: `f1` or `balanced_accuracy`.

    Returns:
        One of the scores, rounded to six digits; 0.5 where the rows hold one class only.
    """
    import numpy as np

    positives, negatives = int(hits.sum()), int((~hits).sum())
    if not positives or not negatives:
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(hits[order])[last_of_tie]
    flagged = np.flatnonzero(last_of_tie) + 1
    if criterion == "f1":
        quality = 2 * found / (flagged + positives)
    else:
        quality = (found / positives + 1 - (flagged - found) / negatives) / 2
    return float(f"{ranked[last_of_tie][int(np.argmax(quality))]:.6g}")


def train(root: Path, params: Params, split: Split, folder: Path) -> str:
    """Train on the split's older rows and write the model to `folder`, whole or not at all.

    Returns:
        The model's digest.

    Raises:
        CodeError: the factory or the pipeline raised, or cannot do what the task needs, or the cluster is not ready.
        UntrustedTypeError: the fitted pipeline holds a type that nobody would load.
    """
    schema = load_schema(params.data)
    rows = read_parts(split.train, root, schema, params.data)
    signature = make_signature(rows, schema, params)
    features, target = to_features(rows, signature.columns), rows[params.data.target]
    seeded = needs_seeds(features, target, params)
    with training_backend(params.model):
        if params.model.backend != THREADS:
            require_same_on_cluster(features, target, params, seeded=seeded)
        signature = _with_threshold(signature, rows, split, params, seeded=seeded)
        pipeline = fit(features, target, params, seeded=seeded)
    content, private_types = canonical(pipeline, params)
    lineage = make_lineage(
        params,
        data=data_digest(root / params.data.path),
        partitions=tuple(part.partition for part in split.train),
        rows=len(rows),
    )
    rows_held_out = read_parts(split.holdout, root, schema, params.data)
    # The holdout's features compare two ways of computing the same scores, and its outcomes calibrate the profile's.
    scorer = build_scorer(pipeline, signature, features, to_features(rows_held_out, signature.columns))
    profile = _profile(pipeline, features, rows_held_out, signature)
    draft = Path(tempfile.mkdtemp(prefix=".model.", dir=folder.parent))
    try:
        write_bytes(draft / MODEL_FILE, content)
        write_text(draft / MLFLOW_FILE, mlflow_description(private_types))
        write_json(draft / SIGNATURE_FILE, signature.model_dump(mode="json"))
        write_json(draft / LINEAGE_FILE, lineage.model_dump(mode="json"))
        write_bytes(draft / PROFILE_FILE, canonical_json(profile.model_dump(mode="json")) + b"\n")
        for name, part in scorer.items():
            write_bytes(draft / name, part)
        draft.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder_digest(folder)


def _profile(pipeline: Any, features: pd.DataFrame, holdout: pd.DataFrame, signature: Signature) -> Profile:
    """Profile the training rows, and the scores of rows that the fit has not seen."""
    found = scores(pipeline, to_features(holdout, signature.columns), signature)
    said = labels(found, signature.output)
    return make_profile(features, found, said, holdout[signature.output.target].to_numpy(), signature)


def _with_threshold(
    signature: Signature, rows: pd.DataFrame, split: Split, params: Params, *, seeded: bool
) -> Signature:
    """Set a binary model's threshold; it is tuned on the newest training rows by a model that has not seen them."""
    if params.task is not Task.BINARY:
        return signature
    threshold = params.model.threshold
    if isinstance(threshold, str):
        sizes = [part.last - part.first for part in split.train]
        if params.split.kind != "time":  # the rows' order means nothing then, and a file may be sorted by class
            sizes, rows = [len(rows)], rows.sample(frac=1, random_state=params.model.seed)
        newest = sizes[-1] if len(sizes) > 1 else max(1, round(len(rows) * params.split.holdout_share))
        older, newer = rows.iloc[:-newest], rows.iloc[-newest:]
        if older[params.data.target].nunique() < 2:
            threshold = 0.5
        else:
            trial = fit(to_features(older, signature.columns), older[params.data.target], params, seeded=seeded)
            found = scores(trial, to_features(newer, signature.columns), signature)
            hits = (newer[params.data.target] == params.data.positive).to_numpy(dtype=bool)
            threshold = best_threshold(hits, found, threshold)
    output = signature.output.model_copy(update={"threshold": float(threshold)})
    return signature.model_copy(update={"output": output})


def canonical(pipeline: Any, params: Params) -> tuple[bytes, set[str]]:
    """The pipeline's bytes, and the types in them that skops does not trust by itself, all of which a loader will.

    Raises:
        CodeError: a part of it cannot be stored.
        UntrustedTypeError: it holds a type that nobody would load.
    """
    import skops.io

    where = f"params.yaml: model.factory ({params.model.factory})"
    try:
        content = dump_pipeline(pipeline)
    except (RecursionError, skops.io.exceptions.UnsupportedTypeException) as cause:
        what = str(cause) if not isinstance(cause, RecursionError) else "a part of it refers to itself"
        hint = "keep that part out of the fitted pipeline, or choose another estimator"
        raise CodeError(f"the fitted pipeline cannot be stored: {what}", where=where, hint=hint) from cause
    private_types = set(skops.io.get_untrusted_types(data=content))
    if unknown := untrusted(private_types, params.model.trusted):
        raise refusal(unknown, where)
    require_own(private_types, where)
    return content, private_types
