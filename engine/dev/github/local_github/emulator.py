"""Talks to the API emulator: as anybody with a token, and as the local GitHub itself."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from local_github.processes import ServerError, close, direct_opener
from local_github.tools import Tools

PROGRAM = Path(__file__).with_name("emulator.mjs")
CALL_SECONDS = 30


class Answer(NamedTuple):
    """What the API said: `body` is parsed JSON, or None where there is none."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Who(NamedTuple):
    """Whose token it is: `permissions` is None for a person, `app` is the slug of an App's token."""

    login: str | None
    permissions: Mapping[str, str] | None
    writes: bool
    app: str | None


class Emulator:
    """A running emulator at `url` (plain HTTP, loopback)."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self._key = url, key
        self._opener = direct_opener()

    def call(self, method: str, path: str, body: Any = None, *, token: str = "") -> Answer:
        """One request of the REST API; refusals are answers, not errors."""
        headers = {"Accept": "application/vnd.github+json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self._send(method, path, body, headers)

    def must(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """One request that has to succeed; its body.

        Raises:
            ServerError: it was refused.
        """
        answer = self.call(method, path, body, token=token)
        if answer.status >= 300:
            raise ServerError(f"{method} {path}: {answer.status} {answer.body}")
        return answer.body

    def pages(self, path: str, *, token: str = "") -> list[Any]:
        """All items of a list, whatever its number of pages."""
        found: list[Any] = []
        joint = "&" if "?" in path else "?"
        for page in range(1, 1000):
            part = self.must("GET", f"{path}{joint}per_page=100&page={page}", token=token)
            found += part
            if len(part) < 100:
                break
        return found

    def internal(self, name: str, body: Mapping[str, Any]) -> Any:
        """What only the local GitHub itself may do: objects, refs, states of pull requests.

        Raises:
            ServerError: it was refused.
        """
        answer = self._send("POST", f"/_local/{name}", body, {"X-Local-Key": self._key})
        if answer.status != 200:
            raise ServerError(f"/_local/{name}: {answer.status} {answer.body}")
        return answer.body

    def who(self, token: str, repository: str) -> Who:
        """Whose token it is, and whether it may write to the contents of `repository`."""
        found = self.internal("who", {"token": token, "repo": repository})
        if found["login"] is None:
            return Who(None, None, writes=False, app=None)
        return Who(found["login"], found["permissions"], writes=found["writes"], app=found["app"])

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {**headers, "Content-Type": "application/json"}, method=method
        )
        try:
            with self._opener.open(request, timeout=CALL_SECONDS) as answer:
                return Answer(answer.status, json.loads(answer.read() or b"null"), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
                return Answer(error.code, json.loads(text or b"null"), dict(error.headers))


@contextlib.contextmanager
def emulator(tools: Tools, folder: Path, seed: Mapping[str, Any], server_url: str) -> Iterator[Emulator]:
    """Run emulate with `seed` until the block ends; the links it shows lie under `server_url`.

    Raises:
        ServerError: it did not start.
    """
    key = secrets.token_hex(16)
    place, log = folder / "seed.json", folder / "emulate.log"
    place.touch(mode=0o600)
    place.write_text(json.dumps({**seed, "key": key}))
    command: Sequence[str] = (str(tools.node), str(PROGRAM), str(tools.emulate), str(place), server_url)
    with log.open("wb") as words:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, start_new_session=True
        )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise ServerError(f"emulate did not start; its last words:\n{log.read_text()[-2000:]}")
        yield Emulator(json.loads(line)["url"].replace("localhost", "127.0.0.1"), key)
    finally:
        close(process)
        if process.stdout:
            process.stdout.close()
