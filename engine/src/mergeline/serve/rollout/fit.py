"""Tells whether a candidate can answer the requests that stable's signature reads."""

from __future__ import annotations

from mergeline.documents import nearest
from mergeline.errors import ManifestError, ModelError
from mergeline.manifest.schema import Rollout
from mergeline.scorer.signature import Output, Signature
from mergeline.serve.records import unread_names


def columns_to_take(stable: Signature, candidate: Signature) -> tuple[int, ...] | None:
    """Which values of a row read for `stable` are the candidate's columns, in its order; None for the whole row.

    Raises:
        ModelError: the candidate needs a column that requests to stable don't have, or answers something else.
    """
    asked, wanted = (
        (output.task, output.positive, frozenset(output.classes)) for output in (candidate.output, stable.output)
    )
    if asked != wanted:
        raise ModelError(
            f"the candidate answers another question: {_question(candidate.output)}, stable answers "
            f"{_question(stable.output)}",
            where="spec.candidate",
            hint="release it with strategy replace",
        )
    places = {column.name: (place, column.kind) for place, column in enumerate(stable.columns)}
    for column in candidate.columns:
        if places.get(column.name, (0, None))[1] is not column.kind:
            raise ModelError(
                f"the candidate reads column {column.name!r} ({column.kind}), which requests to stable don't have",
                where="spec.candidate",
                hint="release it with strategy replace, or make the column part of stable first",
            )
    takes = tuple(places[column.name][0] for column in candidate.columns)
    return None if takes == tuple(range(len(stable.columns))) else takes


def _question(output: Output) -> str:
    classes = ", ".join(repr(name) for name in output.classes)
    positive = f", positive {output.positive!r}" if output.positive is not None else ""
    return f"{output.task} ({classes}{positive})" if classes else str(output.task)


def check_sticky(rollout: Rollout, stable: Signature) -> None:
    """See that requests carry the sticky column.

    Raises:
        ManifestError: they don't; with the nearest name that they do carry.
    """
    names = (*stable.names, *unread_names(stable), *((stable.id,) if stable.id else ()))
    if rollout.sticky is not None and rollout.sticky not in names:
        guess = nearest(rollout.sticky, names)
        raise ManifestError(
            f"requests carry no column {rollout.sticky!r}",
            where="spec.rollout.sticky",
            hint=f"did you mean `{guess}`?" if guess else "name it in params.yaml under data.metadata, and train again",
        )
