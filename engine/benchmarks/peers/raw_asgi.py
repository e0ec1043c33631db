"""The floor: an ASGI function on uvicorn that reads a record, runs the same compiled model and answers. Nothing else.

python benchmarks/peers/raw_asgi.py MODEL_FOLDER PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from mergeline.model.artifact import load_model

model = load_model(Path(sys.argv[1]), defer=True)
scorer = model.scorer
if scorer is None:
    raise SystemExit("the model is not compiled")
kinds: list[Any] = [str if column.kind == "category" else float | None for column in model.signature.columns]
Record = msgspec.defstruct("Record", list(zip(model.signature.names, kinds, strict=True)))
decoder = msgspec.json.Decoder(Record | list[Record])
nan = float("nan")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer every POST as if it were meant for the model."""
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    found = decoder.decode(body)
    records = found if type(found) is list else [found]
    rows = [tuple(nan if value is None else value for value in msgspec.structs.astuple(record)) for record in records]
    scores = scorer.score(scorer.encode(rows)).tolist()
    answer = msgspec.json.encode([{"score": score, "label": score >= 0.5} for score in scores])
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), http="httptools", loop="uvloop", lifespan="off",
                ws="none", log_level="critical", access_log=False)  # fmt: skip
