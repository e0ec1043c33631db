"""Drains a server that is told to end: it answers on for a while, not ready, and then lets no new connection in."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mergeline.serve.settings import SUPERVISED_VARIABLE

if TYPE_CHECKING:
    from mergeline.serve.engine import Engine

LAST_SECONDS = 0.2
"""For who came in just before the socket was closed."""


async def drain(engine: Engine, listeners: Iterable[socket.socket], *, seconds: float) -> None:
    """Go on answering for `seconds`, not ready and closing each connection after its answer; then accept no more.

    So whoever balances the load looks elsewhere before the socket closes, and no connection is cut that a caller has
    just written to.
    """
    engine.draining = True
    await asyncio.sleep(seconds)
    if SUPERVISED_VARIABLE not in os.environ:  # else the socket is not ours alone
        for listener in listeners:
            stop_accepting(listener)
    await asyncio.sleep(LAST_SECONDS)


def stop_accepting(listener: socket.socket) -> bool:
    """Let no new connection in, while those that are in the queue can still be accepted.

    Closing a listening socket resets every connection that the kernel has accepted and the server has not yet, and
    its caller loses a request. So the kernel is first told to drop the packets that ask for a connection (SYN);
    callers try again after a second, and are refused then. Linux alone can do this, for users whom it lets attach a
    filter; elsewhere nothing happens.

    Returns:
        Whether it was done.
    """
    if sys.platform != "linux":
        return False
    attach_filter = 26  # SO_ATTACH_FILTER, which Python does not name
    instructions = (
        (0x30, 0, 0, 13),  # load the TCP header's byte of flags
        (0x45, 0, 1, 0x02),  # if SYN is set,
        (0x06, 0, 0, 0),  # keep nothing of the packet,
        (0x06, 0, 0, 0xFFFFFFFF),  # else all of it
    )
    filters = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    program = ctypes.create_string_buffer(filters, len(filters))
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, attach_filter, struct.pack("HP", len(instructions), ctypes.addressof(program))
        )
    except OSError:
        return False
    return True
