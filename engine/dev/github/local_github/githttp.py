"""Serves git over HTTP with git's own http-backend, as the user that a token stands for."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from local_github.bare import Change
from local_github.emulator import Who
from local_github.hub import BOT_APP, Hub


class Request(NamedTuple):
    """An HTTP request, its body unpacked."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def serve_git(hub: Hub, request: Request) -> Reply | None:
    """Answer a request of a git client, or None where it is none."""
    address = urlsplit(request.target)
    parts = address.path.strip("/").split("/")
    name, service = "/".join(parts[:2]).removesuffix(".git"), "/".join(parts[2:])
    if service not in {"info/refs", "git-upload-pack", "git-receive-pack"}:
        return None
    if name not in hub.repositories:
        return _words(HTTPStatus.NOT_FOUND, "Repository not found.")
    token = basic_password(request.headers.get("Authorization", ""))
    who = hub.who(token, name)
    pushes = "git-receive-pack" in service + address.query
    if who.login is None and (token or pushes):
        words = "Invalid username or token." if token else "Authentication is required to push."
        return Reply(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Basic realm="GitHub"'}, f"{words}\n".encode())
    if pushes and not who.writes:
        return _words(HTTPStatus.FORBIDDEN, f"Permission to {name}.git denied to {who.login}.")
    place = {"PATH_INFO": f"/{name}.git/{service}", "QUERY_STRING": address.query, "REMOTE_USER": who.login or ""}
    return _push(hub, name, who, request, place) if service == "git-receive-pack" else _backend(hub, request, place)


def _push(hub: Hub, name: str, who: Who, request: Request, place: Mapping[str, str]) -> Reply:
    with hub.lock:
        refused = hub.refusals(name, parse_commands(request.body))
        settings = {
            "LOCAL_GITHUB_REFUSED": "\n".join(f"{ref}\t{reason}" for ref, reason in refused.items()),
            "LOCAL_GITHUB_APP": BOT_APP if who.app == BOT_APP else "",
        }
        with hub.moving(name, who):
            return _backend(hub, request, {**place, **settings})


def parse_commands(body: bytes) -> list[Change]:
    """The refs that a push wants to move: the packet lines before the pack (git's pack-protocol)."""
    found, place = [], 0
    while (length := int(body[place : place + 4] or b"0", 16)) >= 4:
        line = body[place + 4 : place + length].split(b"\0")[0].decode().strip()
        old, new, ref = line.split(" ", 2)
        found.append(Change(ref, old, new))
        place += length
    return found


def basic_password(header: str) -> str:
    """The password of basic credentials, which is the token; or of a bearer, as REST has it."""
    kind, _, value = header.partition(" ")
    if kind.lower() in {"bearer", "token"}:
        return value.strip()
    if kind.lower() != "basic":
        return ""
    return base64.b64decode(value).decode(errors="replace").partition(":")[2]


def _backend(hub: Hub, request: Request, settings: Mapping[str, str]) -> Reply:
    body = request.body
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(hub.folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
        **settings,
    }
    done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment, check=False)
    head, _, out = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0])
    if done.returncode and not head:
        return _words(HTTPStatus.INTERNAL_SERVER_ERROR, done.stderr.decode(errors="replace"))
    return Reply(status, headers, out)


def _words(status: int, words: str) -> Reply:
    return Reply(status, {"Content-Type": "text/plain"}, f"{words}\n".encode())
