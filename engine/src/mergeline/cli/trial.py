"""The verb `try`, and the process that stays for some minutes so that the next trial imports nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json
from mergeline.process import prepare
from mergeline.release.stages import imports
from mergeline.warm import ADDRESS_VARIABLE, Forks, can_fork, hand_over

if TYPE_CHECKING:
    from mergeline.release.trial import Trial

_IDLE_SECONDS = 600.0
_START_SECONDS = 30.0
_MODULES = ("mergeline.model.fit", "mergeline.release.trial", "mergeline.scorer.compiling", "mlflow.tracking")


@app.command("try")
def try_(
    rows: Annotated[int, typer.Option(min=20, help="Rows to train on, and to score, at most.")] = 5000,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Record the trial in MLflow.")] = True,
    json: Json = False,
) -> None:
    """Fit the pipeline on a sample and score it, in seconds; nothing is written but a run in MLflow."""
    code = _by_warm_process(" ".join(["try", str(rows), *["log"] * log, *["json"] * json]))
    if code is not None:
        raise typer.Exit(code)
    try_here(rows, log=log, as_json=json)


def try_here(rows: int, *, log: bool, as_json: bool) -> None:
    """Try the pipeline of this folder's model in this process."""
    from dataclasses import asdict

    from mergeline.params import read_params
    from mergeline.release import trial

    root, params = Path().resolve(), read_params()
    made = trial.try_out(root, params, rows)
    if as_json:
        say_json(asdict(made))
    else:
        _tell(made)
    sys.stdout.flush()
    if log and (warning := trial.log(made, root, params)):
        progress(f"warning: {warning}")


def _tell(made: Trial) -> None:
    from rich.console import Console
    from rich.table import Table

    from mergeline.release.trial import SHOWN

    table = Table.grid(padding=(0, 2))
    for name, value in made.metrics.items():
        table.add_row(name, f"{value:.4f}")
    Console(highlight=False).print(table)
    spent = ", ".join(f"{name} {value:.1f} s" for name, value in made.seconds.items())
    say(f"tried: {made.trained_on:,} rows, scored on {made.scored_on:,} of the holdout; {spent}")
    say(f"served: {made.served}")
    for finding in made.findings[:SHOWN]:
        progress(f"warning: {finding}")
    if len(made.findings) > SHOWN:
        progress(f"warning: … and {len(made.findings) - SHOWN} more; see: mergeline validate")


def _by_warm_process(asked: str) -> int | None:
    """Let the process of this environment try, started where there is none; None where there can be none."""
    if not can_fork():
        return None
    # MLflow's worker looks there too.
    address = Path(os.environ.setdefault(ADDRESS_VARIABLE, str(Path(sys.prefix, "mergeline.warm"))))
    code = hand_over(asked)
    if code is None and _start(address):
        code = hand_over(asked)
    return code


def _start(address: Path) -> bool:
    """Start the process, and wait until it listens; whether it does."""
    try:
        program = [sys.executable, "-P", "-m", "mergeline.cli.trial", str(address)]
        done = subprocess.run(
            program, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, timeout=_START_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _run(asked: str) -> None:
    """In the fork: a trial as the command line asked for it, or what the trial asks MLflow for."""
    from mergeline.release import mlflow_worker

    verb, *words = asked.split()
    if verb == mlflow_worker.WORKER:
        mlflow_worker.main()
    else:
        try_here(int(words[0]), log="log" in words, as_json="json" in words)


def _stay(address: Path) -> None:
    """Listen, let whoever started this process go on, and serve until nobody asks any more."""
    prepare()
    with Forks(_run, imports(_MODULES), address=address) as forks:
        if os.fork():
            os._exit(0)
        os.setsid()
        os.chdir("/")
        forks.serve_while_used(_IDLE_SECONDS)


if __name__ == "__main__":
    _stay(Path(sys.argv[1]))
