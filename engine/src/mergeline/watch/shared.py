"""Finds what several models' looks at production share: a column that moved in more than one of them at once."""

from __future__ import annotations

from collections.abc import Mapping

from mergeline.documents import Frozen
from mergeline.watch.drift import Change, Part, Status
from mergeline.watch.results import Watched

_MOVED = (Status.DRIFT, Status.NOTE)


class SharedFinding(Frozen):
    """A column that changed in the same way in several models, with its effect in each; `steady` has it unchanged.

    It is known by its name: models of one repository that read a column of one name read it from one place.
    """

    column: str
    change: Change
    effects: dict[str, float]
    steady: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """What was found, and whose it is."""
        told = ", ".join(f"{model} ({effect:.3f})" for model, effect in self.effects.items())
        but = f"; it is steady in {', '.join(self.steady)}" if self.steady else ""
        return (
            f"{self.column}: its {self.change.value} changed in {told} at once{but}. One cause upstream is likelier "
            f"than {len(self.effects)}: look where the column comes from before a model is retrained"
        )


def shared_findings(watched: Mapping[str, Watched]) -> tuple[SharedFinding, ...]:
    """The columns that moved in two models or more, in one of them as drift, in windows that overlap.

    Args:
        watched: what the look at each model found, by its name.

    Returns:
        One finding for each column and kind of change, those of the most models first.
    """
    effects: dict[tuple[str, Change], dict[str, float]] = {}
    drifted: set[tuple[str, Change]] = set()
    steady: dict[tuple[str, Change], list[str]] = {}
    for model, look in watched.items():
        for finding in look.findings:
            key = (finding.column, finding.change)
            if finding.part is not Part.INPUT:
                continue
            if finding.status in _MOVED:
                effects.setdefault(key, {})[model] = finding.effect
                drifted |= {key} if finding.status is Status.DRIFT else set()
            elif finding.status is Status.STEADY:
                steady.setdefault(key, []).append(model)
    found = [
        SharedFinding(column=key[0], change=key[1], effects=moved, steady=tuple(steady.get(key, ())))
        for key, moved in effects.items()
        if key in drifted and len(moved) > 1 and _overlap([watched[model] for model in moved])
    ]
    return tuple(sorted(found, key=lambda one: (-len(one.effects), one.column, one.change)))


def _overlap(looks: list[Watched]) -> bool:
    """Whether there is a time that all windows hold."""
    return max(look.stretch.start for look in looks) < min(look.stretch.end for look in looks)
