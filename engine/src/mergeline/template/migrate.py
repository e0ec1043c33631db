"""Lifts `params.yaml` of older formats to the one that this engine reads; comments and order stay.

A step is a pure function of the file's text, from one format to the next. `deploy/manifest.yaml` has had one format,
`mergeline/v1`, since the first edition, so that there is no step for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mergeline.documents import parse
from mergeline.errors import ParamsError
from mergeline.params import PARAMS_FILE, Params

Step = Callable[[str], str]
_FORMAT = re.compile(r"^format:[ \t]*(\d+)", re.MULTILINE)
_FIRST_KEY = re.compile(r"^(?=[a-z])", re.MULTILINE)


def name_the_format(text: str) -> str:
    """From the first edition, which named no format, to format 1: the keys are the same."""
    line = "format: 1                            # the form of this file: `mergeline migrate` lifts older ones\n"
    return _FIRST_KEY.sub(line, text, count=1)


STEPS: tuple[Step, ...] = (name_the_format,)
"""The step at place n lifts format n to n + 1; a file without a format has format 0."""


def migrate_params(text: str, steps: Sequence[Step] = STEPS) -> tuple[str, int]:
    """Lift the text of `params.yaml`.

    Args:
        text: the file.
        steps: the steps from format 0 on.

    Returns:
        The text in the newest format, and the format that it had.

    Raises:
        ParamsError: it is of a newer format than this engine knows.
    """
    named = _FORMAT.search(text)
    found = int(named[1]) if named else 0
    if found > len(steps):
        what = f"the file has format {found}, and this engine reads format {len(steps)}"
        raise ParamsError(what, where=str(PARAMS_FILE), hint="mergeline upgrade")
    for step in steps[found:]:
        text = step(text)
    return text, found


def checked_params(text: str) -> tuple[str, int]:
    """As `migrate_params`, and what comes out is valid.

    Raises:
        ParamsError: it is of a newer format, or not valid.
    """
    lifted, found = migrate_params(text)
    parse(lifted, Params, str(PARAMS_FILE), ParamsError)
    return lifted, found
