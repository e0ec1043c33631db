"""What verbs say: results on standard output, progress on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mergeline.evaluate.results import Check, GateVerdict

REJECTED, INCONCLUSIVE = 3, 4
"""Exit codes of `gate` and `propose`: the tool worked, and the model may not be released."""


def tell_verdict(verdict: GateVerdict, *, json: bool, then: str = "") -> None:
    """The verdict on the terminal, and the exit code that it means."""
    from mergeline.report.words import as_checks, headline

    if json:
        say_json(verdict.model_dump(mode="json"))
    else:
        tell_checks(as_checks(verdict))
        failed = ", ".join(check.name for check in verdict.failures)
        refused = f"inconclusive. {headline(verdict)}" if verdict.inconclusive else f"rejected. Failed: {failed}."
        say(f"accepted. {headline(verdict)}" if verdict.accepted else refused)
        if then:
            say(then)
    if not verdict.accepted:
        sys.exit(INCONCLUSIVE if verdict.inconclusive else REJECTED)


def of_model(name: str, checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks of one of several models, each with its name; an empty name is that of the only one."""
    return tuple(check.model_copy(update={"name": f"{name}: {check.name}"}) if name else check for check in checks)


def tell_found(checks: Sequence[Check], *, json: bool) -> None:
    """The checks as they were asked for; ends with 1 where one failed."""
    if json:
        say_json([check.model_dump(mode="json") for check in checks])
    else:
        tell_checks(checks)
    if any(check.status == "fail" for check in checks):
        sys.exit(1)


def tell_checks(checks: Sequence[Check]) -> None:
    """One line a check; what a failed or doubtful one means stands below it."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    styles = {"pass": "green", "fail": "bold red", "warn": "yellow", "skip": "dim"}
    name_width = max(len(check.name) for check in checks)
    for check in checks:
        style = styles[check.status.value]
        line = Table.grid(padding=(0, 2))
        line.add_column(width=4)
        line.add_column(width=name_width)
        line.add_column(ratio=1)
        bound = f"   ({_shorten(check.bound)})" if check.bound else ""
        found = Text.assemble(_shorten(check.value), (bound, "dim"))
        line.add_row(Text(check.status.value, style=style), check.name, found)
        console.print(line)
        if check.status.value in {"fail", "warn"}:
            console.print(Padding(Text(check.meaning, style=style), (0, 0, 0, 6)))


def _shorten(value: str) -> str:
    """A digest by its first digits: the report and the manifest have it whole."""
    return re.sub(r"\b(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", value)


_stood: list[Path] = []
"""Where the person stood when the verb went to a model's home."""


def stands_in(folder: Path) -> None:
    """Remember where the person stands, before the verb goes to a model's home below it."""
    _stood[:] = [folder]


def short_path(path: Path) -> str:
    """The path as a person would type it where the verb was called."""
    here, whole = Path.cwd(), path.absolute()
    base = _stood[0] if _stood and here.is_relative_to(_stood[0]) else here
    return str(whole.relative_to(base)) if whole.is_relative_to(base) else str(path)


def say_json(value: object) -> None:
    """The result as JSON on standard output."""
    say(json.dumps(value, indent=1, ensure_ascii=False))


def progress(line: str) -> None:
    """A line for people; standard output stays the result's."""
    sys.stderr.write(f"· {line}\n")
    sys.stderr.flush()


def say(line: str) -> None:
    """A line of the result on standard output."""
    sys.stdout.write(line + "\n")
