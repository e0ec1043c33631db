"""Sends the rows of a project's data set to its server: what `mergeline traffic` does."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mergeline.dataset.schema import load_schema
from mergeline.errors import DataError, TrafficError
from mergeline.params import PARAMS_FILE, read_params
from mergeline.traffic.connection import Connection, Target, parse_target
from mergeline.traffic.drive import Chunks, Driver, TrafficOptions, plan_pace
from mergeline.traffic.faults import Damage
from mergeline.traffic.rows import Field, Row, find_partitions, own_span, read_fields, read_rows
from mergeline.traffic.tally import Tally

KEY_VARIABLE = "MERGELINE_SERVE_API_KEY"
SAMPLE_CHUNKS = 5
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def send(root: Path, options: TrafficOptions, say: Callable[[str], None] | None = None) -> Tally:
    """Send the rows, and return what came of it.

    Args:
        root: the repository; its params name the schema and the columns.
        options: what to send, and how fast.
        say: takes a line on how it stands, twice a second.

    Raises:
        TrafficError: no server answers there, or the options cannot be met.
        DataError: the rows cannot be read.
        ParamsError: `params.yaml` is wrong.
    """
    import uvloop

    params = read_params(root / PARAMS_FILE)
    target = parse_target(options.url, os.environ.get(KEY_VARIABLE, ""))
    # The thread that reads rows ahead must give the interpreter back quickly, and no collection may stop the clock.
    sys.setswitchinterval(0.001)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        fields = runner.run(_ask_fields(target, options.url))
        schema = load_schema(params.data)
        partitions = find_partitions(options.places or (root / params.data.path,))

        def chunks() -> Iterator[list[Row]]:
            return read_rows(partitions, schema, params.data, fields)

        follows = options.speed is not None or (options.duration is not None and options.rate is None)
        span = own_span(partitions, schema, params.data) if follows else None
        pace = plan_pace(rate=options.rate, speed=options.speed, duration=options.duration, span=span)
        unread = {params.data.id, params.data.time, *params.data.metadata}
        damage = _damage(options, fields, chunks, unread)
        if options.label_delay is not None:
            _require_labels(chunks)
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)

        async def drive() -> Tally:
            driver = Driver(target, options, pace, chunks, id_column=params.data.id, damage=damage, say=say)
            return await driver.run()

        return runner.run(drive())


async def _ask_fields(target: Target, url: str) -> dict[str, Field]:
    connection = Connection(target, timeout_seconds=10.0)
    try:
        reply = await connection.ask(target.get("/openapi.json"))
    finally:
        connection.close()
    if not reply.status:
        raise TrafficError(
            f"no server answers: {reply.problem}", where=url, hint="start one: mergeline serve; or give --url"
        )
    try:
        document = json.loads(reply.body)
    except ValueError:
        document = None
    if reply.status != 200:
        said = document.get("error", "") if isinstance(document, dict) else ""
        hint = f"set {KEY_VARIABLE}" if reply.status == 401 else "see the server's log"
        raise TrafficError(f"the server answers {reply.status}: {said}", where=f"{url}/openapi.json", hint=hint)
    return read_fields(document, url)


def _damage(
    options: TrafficOptions,
    fields: dict[str, Field],
    chunks: Chunks,
    unread: set[str | None],
) -> Damage | None:
    if not options.faults:
        return None
    sample: Sequence[Row] = list(itertools.chain.from_iterable(itertools.islice(chunks(), SAMPLE_CHUNKS)))
    read = {name: field for name, field in fields.items() if name not in unread}
    return Damage(options.faults, read, [row.record for row in sample], options.seed)


def _require_labels(chunks: Chunks) -> None:
    first = next(chunks(), [])
    if first and all(row.label is None for row in first):
        raise DataError(
            "the rows have no labels to send",
            where="--label-delay",
            hint="send rows that have the target, or leave --label-delay out",
        )


def seconds_of(text: str, option: str) -> float:
    """A duration such as `500ms`, `60s`, `15m`, `2h` or `1d`; a bare number is seconds.

    Raises:
        TrafficError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", text.strip())
    if not found:
        raise TrafficError(f"no duration: {text!r}", where=option, hint="write it as 500ms, 60s, 15m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]
