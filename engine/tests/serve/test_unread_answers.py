"""A caller that asks and never reads its answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvicorn
from rollout_samples import make_served
from test_inference_protocol import Server
from uvicorn.server import ServerState

from mergeline.serve import protocol

REQUESTS = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * (protocol.MAX_PIPELINED - 1)


@pytest.mark.parametrize("reads", [False, True])
def test_its_connection_ends_and_that_of_one_who_reads_does_not(tmp_path, monkeypatch, reads):
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    server = Server(tmp_path, make_served(tmp_path))

    async def ask() -> int:
        """How many connections are left some time after the requests came."""
        config, state = uvicorn.Config(server.app, lifespan="off", ws="none"), ServerState()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # what is unread stays in the server
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: protocol.BoundedProtocol(config, state, {}), sock=listener)
        with socket.create_connection(listener.getsockname()) as caller:
            caller.setblocking(False)
            await loop.sock_sendall(caller, REQUESTS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.5 if reads else 20):
                    while reads:
                        await loop.sock_recv(caller, 1 << 20)
                    await asyncio.sleep(0.1)  # it has been accepted
                    while state.connections:
                        await asyncio.sleep(0.05)
            left = len(state.connections)
        listening.close()
        return left

    try:
        assert asyncio.run(ask()) == int(reads)
    finally:
        server.stop()
