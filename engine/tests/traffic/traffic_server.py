"""A web server that answers, or misbehaves, as a test wants; and a project whose rows are sent to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from loopback import answering
from mergeline.params import Task
from mergeline.scorer.signature import Column, Kind, Output, Signature
from mergeline.serve.openapi import describe_api
from mergeline.serve.settings import Settings
from toy_data import toy_params, write_months

SIGNATURE = Signature(
    name="orders",
    columns=(
        Column(name="region", kind=Kind.CATEGORY, nullable=False, categories=("north", "south"), closed=True),
        Column(name="channel", kind=Kind.CATEGORY, nullable=False, categories=("web", "shop", "phone")),
        Column(name="amount", kind=Kind.NUMBER, nullable=True, minimum=0, maximum=1000),
        Column(name="items", kind=Kind.INTEGER, nullable=False, minimum=1),
        Column(name="gift", kind=Kind.BOOLEAN, nullable=False),
    ),
    output=Output(task=Task.BINARY, target="returned", classes=(False, True), positive=True, threshold=0.5),
    id="order",
    time="placed",
)


@dataclass
class Seen:
    """What came, in order; `behave` may delay an answer, or give a status instead of one."""

    predictions: list[dict] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[tuple[float, dict]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    behave: Callable[[int], int] = lambda number: 200
    url: str = ""


def make_handler(seen: Seen, document: dict):
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            seen.keys.add(self.headers.get("authorization"))
            self.answer(200, document)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            many = body if isinstance(body, list) else [body]
            if self.path == "/feedback":
                with lock:
                    seen.labels += [(time.monotonic(), label) for label in many]
                self.answer(200, [{"id": label["id"], "outcome": "recorded"} for label in many])
                return
            with lock:
                number = len(seen.sizes)
                seen.sizes.append(len(many))
                seen.predictions += many
                seen.arrivals.append(time.monotonic())
            status = seen.behave(number)
            if status == 0:
                self.close_connection = True
                return
            answers = [{"id": record.get("order", f"made-{number}"), "score": 0.5} for record in many]
            self.answer(status, answers if isinstance(body, list) else answers[0])

        def answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request, client_address):
        """A client that is gone is no fault."""


@contextmanager
def serving(behave: Callable[[int], int] = lambda number: 200) -> Iterator[Seen]:
    settings = Settings(root="r", manifest="m", store="s", cache="c")
    seen = Seen(behave=behave)
    server = _Server(("127.0.0.1", 0), make_handler(seen, describe_api(SIGNATURE, 1, settings)))
    seen.url = f"http://127.0.0.1:{server.server_port}"
    with answering(server):
        yield seen


def make_project(folder: Path, rows: int = 100, months: int = 1, **sections) -> Path:
    """A project with orders of some months."""
    write_months(folder / "data", months, rows)
    params = toy_params(**sections).model_dump(mode="json", by_alias=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder
