"""Asks the other servers of a deployment whether one of them has aborted the rollout."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from mergeline.fetch import FetchError, fetch
from mergeline.serve.rollout.state import Phase

PERIOD_SECONDS = 2.0
ANSWER_SECONDS = 1.0
MOST_BYTES, MOST_CHARACTERS = 1_000_000, 300
PREFIX = "guard fleet: "

logger = logging.getLogger(__name__)


class Peers:
    """The other servers, asked in a thread while a rollout goes on.

    Only a failure travels: a server that does not answer, or says anything else, changes nothing.

    Args:
        places: `host:port` of each; a name with several addresses (a headless Service) is each of them.
        key: the API key that the servers ask for.
    """

    def __init__(self, places: Sequence[str], key: str = "") -> None:
        self._places, self._key = tuple(places), key
        self._identity = self._reason = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)

    def start(self) -> None:
        """Begin to ask, where there is anybody to ask."""
        if self._places:
            self._thread.start()

    def stop(self) -> None:
        """End after the question under way."""
        self._stopped.set()

    def failure(self, identity: str) -> str:
        """Why another server aborted this rollout, as far as is known; empty where none did."""
        if identity != self._identity:
            self._identity, self._reason = identity, ""
        return self._reason

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD_SECONDS):
            try:
                self.ask()
            except Exception:  # a fault of ours must not end the asking
                logger.exception("the other servers could not be asked")

    def ask(self) -> None:
        """Ask every server once, until one has aborted the rollout."""
        identity = self._identity
        if not identity or self._reason:
            return
        for address in self._addresses():
            reason = failure_of(self._status(address), identity)
            if reason and identity == self._identity:
                self._reason = reason if reason.startswith(PREFIX) else f"{PREFIX}{address}: {reason}"
                return

    def _addresses(self) -> Iterator[str]:
        for place in self._places:
            host, _, port = place.rpartition(":")
            with contextlib.suppress(OSError):
                found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
                yield from sorted(f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}" for ip in found)

    def _status(self, address: str) -> Any:
        secrets = {"x-api-key": self._key} if self._key else {}
        try:
            answer = fetch(f"http://{address}/status", seconds=ANSWER_SECONDS, max_bytes=MOST_BYTES, secrets=secrets)
            return json.loads(answer.body) if answer.status == HTTPStatus.OK else None
        except (FetchError, ValueError, RecursionError):
            return None


def failure_of(status: Any, identity: str) -> str:
    """Why the server with this `/status` aborted the rollout `identity`; empty where it did not."""
    rollout = status.get("rollout") if isinstance(status, dict) else None
    if not isinstance(rollout, dict) or rollout.get("identity") != identity or rollout.get("phase") != Phase.FAILED:
        return ""
    text = str(rollout.get("reason") or "the rollout failed")
    return "".join(each if each.isprintable() else " " for each in text)[:MOST_CHARACTERS]
