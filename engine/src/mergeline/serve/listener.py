"""Opens the server's socket, and closes its door without cutting off who has just come in."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import sys

from mergeline.errors import MergelineError

BACKLOG = 2048


class AddressError(MergelineError):
    """The server cannot listen where it was asked to."""


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket; from now on connections wait instead of being refused.

    Raises:
        AddressError: with what to do about it.
    """
    where = f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as cause:
        reason = getattr(cause, "errno", None)
        if reason == errno.EADDRINUSE:
            raise AddressError(
                "the port is taken", where=where, hint="choose another with --port, or any free one with --port 0"
            ) from None
        if reason in (errno.EACCES, errno.EPERM):
            raise AddressError(
                "this user may not open the port", where=where, hint="choose one above 1023 with --port"
            ) from None
        raise AddressError(
            f"cannot listen there: {cause}", where=where, hint="give an address of this machine with --host"
        ) from None


def turn_away(listener: socket.socket) -> None:
    """Let no new connection in, while those that are in the queue can still be accepted.

    Closing a listening socket resets every connection that the kernel has accepted and the server has not yet, and
    its caller loses a request. So the kernel is first told to drop the packets that ask for a connection (SYN);
    callers try again after a second, and are refused then. Linux alone can do this; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    attach_filter = 26  # SO_ATTACH_FILTER, which Python does not name
    instructions = (
        (0x30, 0, 0, 13),  # load the TCP header's byte of flags
        (0x45, 0, 1, 0x02),  # if SYN is set,
        (0x06, 0, 0, 0),  # keep nothing of the packet,
        (0x06, 0, 0, 0xFFFFFFFF),  # else all of it
    )
    filters = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    program = ctypes.create_string_buffer(filters, len(filters))
    with contextlib.suppress(OSError):  # a kernel without filters: as elsewhere
        listener.setsockopt(
            socket.SOL_SOCKET, attach_filter, struct.pack("HP", len(instructions), ctypes.addressof(program))
        )
