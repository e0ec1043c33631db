"""Processes: what is set before anything is imported, how errors become an exit code, how programs are called."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mergeline.errors import MergelineError, ToolError
from mergeline.files import FolderError

_NOT_WRITABLE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EACCES, errno.EROFS)


def prepare() -> None:
    """Set what the numeric libraries and Python's garbage collector go by."""
    # Threads of a numeric library wait for each other asleep: spinning ones cost minutes on a busy machine. GNU's spin
    # for a few microseconds first: to fall asleep at once, thousands of times, takes twice as long on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Before its first model, pydantic would look through every installed package for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Importing scikit-learn makes a million objects that all stay: looking through them again and again for garbage
    # takes a fifth of the time.
    gc.set_threshold(200_000, 50, 50)


def end_after(action: Callable[[], object]) -> None:
    """Do something, and end the process with its exit code, as `sys.exit` would but for what it takes apart.

    Python looks through every object for garbage as it ends, and frees it: with numpy, DuckDB and pydantic imported
    that is a tenth of a second, for memory that goes back to the system in any case.
    """
    try:
        code: object = exit_code(action)
    except SystemExit as end:
        code = 0 if end.code is None else end.code
    if isinstance(code, int) and threading.active_count() == 1:
        atexit._run_exitfuncs()  # temporary folders, for one, are deleted there
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            sys.exit(code)  # Python has its own words for it
        os._exit(code & 0xFF)
    sys.exit(code)  # type: ignore[arg-type]


def exit_code(action: Callable[[], object]) -> int:
    """Do something; a known error is reported in one piece and gives 1, any other one is raised."""
    try:
        action()
    except MergelineError as error:
        sys.stderr.write(f"mergeline: {error}\n")
        return 1
    except BrokenPipeError:
        if not _is_unread(1):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is not written either, when Python ends
        return 128 + signal.SIGPIPE
    except OSError as error:
        # Any other file or folder that is missing is a bug, and its traceback says where.
        if error.errno not in _NOT_WRITABLE and not isinstance(error, FolderError):
            raise
        sys.stderr.write(f"mergeline: {error.filename or 'a file'}: cannot be written: {error.strerror}\n")
        sys.stderr.write(
            "  hint: make room, take the right to write there, or name another place; nothing was half written\n"
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _is_unread(stream: int) -> bool:
    """Whether whoever read what is written here is gone, as `head` is after its lines."""
    poll = select.poll()
    poll.register(stream, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def run_program(*command: str, hint: str, shown: bool = False, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        *command: the program and its arguments.
        hint: what to do if it fails.
        shown: let it write to the terminal by itself.
        **settings: those of `subprocess.run`.

    Raises:
        ToolError: it is not installed, or it failed; with what it said.
    """
    stream = None if shown else subprocess.PIPE
    try:
        done = subprocess.run(command, text=True, check=False, stdout=stream, stderr=stream, **settings)
    except FileNotFoundError:
        raise ToolError("it is not installed", where=command[0], hint=f"install {command[0]}") from None
    if done.returncode:
        words = (done.stderr or done.stdout or "").strip()[-3000:].removeprefix("mergeline: ")
        where = " ".join([Path(command[0]).name, *command[1:3]])
        raise ToolError(words or f"it ended with code {done.returncode}", where=where, hint=hint)
    return done
