"""What may stand where a file should."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def make_odd(path: Path, kind: str) -> None:
    """Put something at the path that stands where a file should."""
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "holes":
            path.touch()
            os.truncate(path, 1 << 40)
        case "loop":
            path.symlink_to(path.name)
        case "socket":
            with socket.socket(socket.AF_UNIX) as place:
                place.bind(str(path))
        case _:
            path.symlink_to(kind)
