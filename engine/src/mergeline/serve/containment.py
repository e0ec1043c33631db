"""Keeps a process and everything that it starts together, so that nothing of it outlives its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36
"""Of prctl(2), which Python does not name."""
MEMORY_SHARE, LEAST_MEMORY_SHARE = 0.9, 0.5
"""Of what is free when a model's process starts, and of all that there is: what others hold then they may give back."""
CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""Where Linux says what a container may take and takes: version 2, and 1."""
QUICK_ROUNDS, PAUSE_SECONDS = 1000, 0.01
"""What forks faster than it can be ended is met without a pause at first."""


def contain(lifeline: Connection, *connections: Connection) -> None:
    """Go on in a child of this process, which ends with all that it ever starts when `lifeline` closes.

    This process itself stays behind as the keeper: on Linux whoever loses its parent becomes the keeper's child, in
    whatever group or session it is. At SIGTERM, when the lifeline closes, and when the child ends, the keeper ends
    them all, and then itself as the child did. Elsewhere what has left its parent is not found.

    In the child the memory is bounded; where memory runs out nevertheless, it is the one to go. Ctrl-C in a terminal
    is the server's to obey.

    Args:
        lifeline: the other end is the server's, which keeps it open for as long as it lives and wants the child.
        connections: the child's, which the keeper closes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    _prctl(SET_CHILD_SUBREAPER, 1)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    keeper, child = os.getpid(), os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        lifeline.close()
        _bound_memory()
        return
    status: int = signal.SIGKILL  # should the keeper itself fail
    try:
        for connection in connections:
            connection.close()
        threading.Thread(target=_obey, args=(lifeline,), daemon=True).start()
        status = _wait_for(child)
    finally:
        _end_children()
        _end_as(status)


def adopt_orphans() -> None:
    """Let whoever has lost its keeper become a child of this process, the server; `end_orphans` finds it there."""
    _prctl(SET_CHILD_SUBREAPER, 1)


def end_orphans() -> None:
    """End what a model has left behind that killed its own keeper.

    It is known by the bound of its memory, which is not this process's and which it cannot raise: whoever it has
    started has the same, and the server's other children have none.
    """
    if sys.platform != "linux":
        return
    import psutil

    for _ in range(QUICK_ROUNDS):  # the children of one that ends come after it
        orphans = [child.pid for child in psutil.Process().children() if _is_bounded(child.pid)]
        if not orphans:
            return
        for number in orphans:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)


def _is_bounded(number: int) -> bool:
    with contextlib.suppress(OSError):
        return resource.prlimit(number, resource.RLIMIT_DATA) != resource.getrlimit(resource.RLIMIT_DATA)
    return False


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _obey(lifeline: Connection) -> None:
    """Nothing is ever written to a lifeline: that there is something to read means that it is closed."""
    with contextlib.suppress(OSError):
        lifeline.poll(None)
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for(child: int) -> int:
    """The status that the child has ended with, or that of one that was killed where the keeper is told to end it."""
    while True:
        if signal.sigwait({signal.SIGCHLD, signal.SIGTERM}) == signal.SIGTERM:
            return signal.SIGKILL
        for number, status in _ended():
            if number == child:
                return status


def _ended() -> Iterator[tuple[int, int]]:
    """The children that have ended since, and with what status.

    Raises:
        ChildProcessError: there are no children any more.
    """
    while (one := os.waitpid(-1, os.WNOHANG))[0]:
        yield one


def _end_children() -> None:
    """End every child, and whoever becomes one meanwhile, until there is none."""
    rounds = 0
    with contextlib.suppress(ChildProcessError):
        while True:
            for number in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            for _ in _ended():
                pass
            rounds += 1
            if rounds > QUICK_ROUNDS:
                time.sleep(PAUSE_SECONDS)


def _children() -> list[int]:
    try:
        tasks = Path("/proc/self/task").iterdir()
        return [int(number) for task in tasks for number in (task / "children").read_text("ascii").split()]
    except OSError:  # another system, or a kernel without this file
        import psutil

        return [child.pid for child in psutil.Process().children(recursive=True)]


def _end_as(status: int) -> None:
    """End as a child did whose status as of waitpid(2) this is."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has left what there is to see
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def _bound_memory() -> None:
    """Let a model that asks for ever more get a MemoryError, while there is some left for the others."""
    if sys.platform != "linux":
        return
    import psutil

    taken = psutil.Process().memory_info().data
    total, free = available_memory()
    bound = taken + int(max(LEAST_MEMORY_SHARE * total, MEMORY_SHARE * free))
    given = [limit - 1 for limit in resource.getrlimit(resource.RLIMIT_DATA) if limit != resource.RLIM_INFINITY]
    bound = min(bound, *given) if given else bound
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def available_memory() -> tuple[int, int]:
    """Bytes of memory that this machine or container has in all, and that are free in it."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for folder, maximum, current in CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max": there is no bound
            most = int(Path(folder, maximum).read_text("ascii"))
            taken = int(Path(folder, current).read_text("ascii")) - _cached(Path(folder, "memory.stat"))
            total, free = min(total, most), min(free, max(0, most - taken))
    return total, free


def _cached(statistics: Path) -> int:
    """Bytes of files in memory, which are given up where they are needed."""
    lines = (line.split() for line in statistics.read_text("ascii").splitlines())
    return sum(int(number) for name, number in lines if name in ("active_file", "inactive_file"))
