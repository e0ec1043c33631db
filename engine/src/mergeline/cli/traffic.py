"""Send a server the rows of a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import say, say_json


@app.command()
def traffic(
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="Partitions, or folders of them; the project's data if not given.", exists=True),
    ] = None,
    *,
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:3000",
    rate: Annotated[float | None, typer.Option(help="Requests a second.", min=0.001)] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Follow the rows' own times, so many times faster: 86400 is a day a second.", min=1e-6),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            help="60s, 15m, 2h: spread all rows over it; with --rate, send for so long, from the first row again."
        ),
    ] = None,
    connections: Annotated[int, typer.Option(help="Most requests at a time.", min=1, max=1000)] = 8,
    batch: Annotated[int, typer.Option(help="Records in a request.", min=1)] = 1,
    rows: Annotated[int | None, typer.Option(help="Send only so many rows.", min=1)] = None,
    label_delay: Annotated[
        str | None, typer.Option(help="Send labels so long after the prediction, in the rows' own time: 2h, 1d.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Damage the rows: drift=0.5sd, nulls=0.2, unseen=0.1, or nulls:temp=0.5 for one column."),
    ] = None,
    fault_after: Annotated[str, typer.Option(help="Begin the damage so long after the start.")] = "0s",
    seed: Annotated[int, typer.Option(help="Which rows a fault hits.")] = 0,
    timeout: Annotated[str, typer.Option(help="How long to wait for an answer.")] = "10s",
    json: Json = False,
) -> None:
    """Replay rows against a server, with labels that come later and faults on request; Ctrl-C ends it early."""
    from mergeline.traffic.faults import parse_fault
    from mergeline.traffic.pace import seconds_of
    from mergeline.traffic.send import TrafficOptions, send

    options = TrafficOptions(
        url=url,
        places=tuple(data or ()),
        rate=rate,
        speed=speed,
        duration=seconds_of(duration, "--duration") if duration else None,
        connections=connections,
        batch=batch,
        limit=rows,
        timeout=seconds_of(timeout, "--timeout"),
        label_delay=seconds_of(label_delay, "--label-delay") if label_delay else None,
        faults=tuple(parse_fault(text) for text in fault or ()),
        fault_after=seconds_of(fault_after, "--fault-after"),
        seed=seed,
    )
    live = sys.stderr.isatty()
    tally = send(Path().resolve(), options, _live if live else None)
    if live:
        sys.stderr.write("\r\x1b[K")
    if json:
        say_json(tally.as_dict())
    else:
        say(tally.text())
    if tally.interrupted:
        sys.exit(130)


def _live(line: str) -> None:
    """The line in the place of the one before."""
    sys.stderr.write(f"\r\x1b[K{line[:118]}")
    sys.stderr.flush()
