"""How the demos tell what they do: steps with the seconds so far, details, and what has been shown."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
STARTED = time.monotonic()
console = Console(highlight=False)


def step(title: str) -> None:
    """Begin a step, and say how far into the demo it is."""
    console.print(f"\n[bold cyan]▸ {title}[/] [dim]({time.monotonic() - STARTED:.0f} s)[/]", soft_wrap=True)


def note(line: str) -> None:
    """A detail."""
    console.print(f"  {line}", soft_wrap=True, style="dim")


def good(line: str) -> None:
    """What a step has shown."""
    console.print(f"  [green]✓[/] {line}", soft_wrap=True)


def shown(path: Path) -> str:
    """The path as a person at the root would type it."""
    return os.path.relpath(path, ROOT)


def close_loop(*lines: str) -> None:
    """Say how long it took, and what there is to look at."""
    console.print(f"\n[bold green]The loop is closed[/] in {time.monotonic() - STARTED:.0f} s. What to look at now:")
    for line in lines:
        console.print(f"  {line}", soft_wrap=True)


def give_up(what: str, hint: str = "", code: int = 1) -> NoReturn:
    """End the demo with a reason."""
    console.print(f"\n[bold red]demo:[/] {what}" + (f"\n  hint: {hint}" if hint else ""), soft_wrap=True)
    sys.exit(code)
