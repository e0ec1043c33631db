"""Answers, beside git, the parts of the REST API that the emulator lacks or does not do as GitHub does."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local_github.githttp import Reply, Request, basic_password, serve_git
from local_github.hub import Hub
from local_github.routes import ROUTES, Call

# GraphQL is asked by CML alone, to merge by itself what it opens; that is not asked for here.
_GRAPHQL = {"data": None, "errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]}


@contextlib.contextmanager
def edge_server(hub: Hub) -> Iterator[int]:
    """Serve until the block ends; yields the port, on the loopback interface only."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(lambda request: answer(hub, request), hub.errors.append))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def answer(hub: Hub, request: Request) -> Reply:
    """What git or the REST API has to say to a request."""
    path, _, query = request.target.partition("?")
    if path in {"/api/graphql", "/api/v3/graphql"}:
        return _json(200, _GRAPHQL)
    if not path.startswith("/api/v3/"):
        return serve_git(hub, request) or _json(404, {"message": "Not Found"})
    token = basic_password(request.headers.get("Authorization", ""))
    for method, pattern, route in ROUTES:
        found = re.fullmatch(pattern, path.removeprefix("/api/v3"))
        if not found or method != request.method:
            continue
        name = f"{found['owner']}/{found['name']}"
        if name not in hub.repositories:
            return _json(404, {"message": "Not Found"})
        who = hub.who(token, name)
        if token and who.login is None:
            return _json(401, {"message": "Bad credentials"})
        body = json.loads(request.body or b"null")
        status, told, headers = route(hub, Call(name, found.groupdict(), query, body or {}, token, who))
        return _json(status, told, **headers)
    forwarded = hub.emulator.call(
        request.method,
        request.target.removeprefix("/api/v3"),
        json.loads(request.body) if request.body else None,
        token=token,
    )
    kept = {name: value for name, value in forwarded.headers.items() if name.lower().startswith(("link", "x-"))}
    return _json(forwarded.status, forwarded.body, **kept)


def _json(status: int, body: Any, **headers: str) -> Reply:
    text = b"" if body is None else json.dumps(body).encode()
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **headers}, text)


def _handler(respond: Callable[[Request], Reply], failed: Callable[[str], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            request = Request(self.command, self.path, dict(self.headers.items()), self._body())
            try:
                reply = respond(request)
            except Exception as error:  # noqa: BLE001 - a server answers 500, and its owner is told the reason
                failed(f"{self.command} {self.path}: {''.join(traceback.format_exception(error))}")
                reply = _json(500, {"message": str(error)})
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815 - http.server's names

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while length := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(length))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """Stay silent: the tests' and the demo's own words count."""

    return Handler
