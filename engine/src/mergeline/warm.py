"""Runs stages and trials as forks of one process, so that scikit-learn is imported once and not for each of them.

`propose` starts DVC and waits for it anyway: meanwhile it listens on a socket. A stage that DVC starts finds the
socket's address in its environment, and hands over its working folder, environment and standard streams; the fork
does the work, and its exit code comes back. Who finds nobody there does the work itself, as after `dvc repro`.
For `try` a process that does nothing else stays for some minutes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mergeline.process import exit_code

ADDRESS_VARIABLE = "MERGELINE_WARM"
FORKS_WORK = hasattr(os, "pidfd_open")
"""Whether the system has what this needs: Linux has."""

_SIZE = struct.Struct("!I")
_CODE = struct.Struct("!i")
_REFUSED = -1
_LOST = 1
_READ_AT_IMPORT = ("GOMP_", "KMP_", "LD_", "MKL_", "OMP_", "OPENBLAS_", "PYTHON")
_STARTS_THREADS = frozenset({"duckdb", "pyarrow", "sklearn"})  # once they have worked: not when they are imported
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def hand_over(stage: str) -> int | None:
    """Let the process that listens run a stage.

    Returns:
        The exit code; None where nobody listens, or where the one who does has other libraries or settings.
    """
    address = os.environ.get(ADDRESS_VARIABLE)
    if not address:
        return None
    request = json.dumps(_request(stage)).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _short(Path(address)) as reached:
                connection.connect(reached)
        except OSError:
            return None
        try:
            socket.send_fds(connection, [_SIZE.pack(len(request))], [0, 1, 2])
            connection.sendall(request)
            answer = connection.recv(_CODE.size, socket.MSG_WAITALL)
        except OSError:
            answer = b""
        except KeyboardInterrupt:
            return 130
    if len(answer) < _CODE.size:
        # It was killed, and the fork with it. The work is not begun again here: whoever killed it meant it.
        sys.stderr.write(f"mergeline: {stage.split(maxsplit=1)[0]}: the process that ran it is gone\n")
        return _LOST
    code = int(_CODE.unpack(answer)[0])
    return None if code == _REFUSED else code


def can_fork() -> bool:
    """Whether this process may fork for others: before anything in it has started threads.

    A fork has none of its parent's threads, and waits for them for ever. Those of OpenBLAS, which NumPy starts, are
    stopped before a fork and started again after it; those of OpenMP, Arrow and DuckDB are not.
    """
    return FORKS_WORK and threading.active_count() == 1 and _STARTS_THREADS.isdisjoint(sys.modules)


class Forks:
    """The socket, and the forks that run stages for those who ask on it.

    Args:
        run: runs a stage in a fork.
        steps: what is done before the first fork, such as to import what all of them need.
        asked: called when the first one asks.
        address: where to listen, in place of whoever does; in a folder that nobody else can enter if not given.

    Raises:
        OSError: there is no listening there.
    """

    def __init__(
        self,
        run: Callable[[str], object],
        steps: Iterable[Callable[[], object]] = (),
        asked: Callable[[], object] | None = None,
        address: Path | None = None,
    ) -> None:
        self._run, self._steps, self._asked = run, iter(steps), asked
        self._warm = False
        self._settings = _settings()  # libraries add to them when they are imported
        self._running: dict[int, tuple[int, socket.socket]] = {}  # pidfd: the process, and who waits for it
        self._folder = contextlib.ExitStack()
        if address is None:
            address = Path(self._folder.enter_context(tempfile.TemporaryDirectory(prefix="mergeline-")), "warm")
        self._address = address
        self._listener = _listen(self._address)
        self._inode = self._address.stat().st_ino
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def __enter__(self) -> Self:
        """The socket is there already: a program that is to use it can be started first."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs."""
        for pidfd in list(self._running):
            self._kill(pidfd)
        self._selector.close()
        if self._reachable():
            self._address.unlink()
        self._listener.close()
        self._folder.close()

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of a stage must hold."""
        return {ADDRESS_VARIABLE: str(self._address)}

    def serve_until_end(self, stream: int, told: Callable[[bytes], object], *, early: bool = False) -> None:
        """Run what is asked for until the pipe `stream` is at its end; `told` takes what comes out of it.

        With `early` the steps begin before anybody asks. Who asks then waits for the one that has begun.
        """
        self._selector.register(stream, selectors.EVENT_READ, None)
        while True:
            found = self._selector.select(0 if early and not self._warm else None)
            if not found:
                self._step()
            for key, _ in found:
                if key.fd == stream:
                    content = os.read(stream, 1 << 16)
                    told(content)
                    if not content:
                        self._selector.unregister(stream)
                        return
                else:
                    key.data(key.fileobj)

    def _step(self) -> None:
        step = next(self._steps, None)
        if step is None:
            gc.freeze()  # a fork that looks for garbage would copy every page
            self._warm = True
        else:
            step()

    def serve_who_started(self) -> None:
        """Serve for the `OtherForks` that started this program, which waits for the address and ends it."""
        with contextlib.suppress(KeyboardInterrupt):  # it was meant for who started this program, which ends it
            sys.stdout.write(f"{self._address}\n")
            sys.stdout.flush()
            self.serve_until_end(sys.stdin.fileno(), len, early=True)

    def serve_while_used(self, idle_seconds: float) -> None:
        """Run what is asked for until nobody has asked for so long, or another process listens in this one's place."""
        while self._running or self._reachable():
            found = self._selector.select(None if self._running else idle_seconds)
            if not found and not self._running:
                return
            for key, _ in found:
                key.data(key.fileobj)

    def _reachable(self) -> bool:
        """Whether the socket's file is still this process's: not deleted, and no other's."""
        try:
            return self._address.stat().st_ino == self._inode
        except OSError:
            return False

    def _accept(self, _: Any) -> None:
        connection, _address = self._listener.accept()
        header, files, _flags, _sender = socket.recv_fds(connection, _SIZE.size, 3)
        content = connection.recv(_SIZE.unpack(header)[0], socket.MSG_WAITALL) if len(header) == _SIZE.size else b""
        try:
            asked: dict[str, Any] = json.loads(content) if content else {}
            if asked.get("settings") != self._settings:
                connection.sendall(_CODE.pack(_REFUSED))
                connection.close()
                return
            self._fork(asked, files, connection)
        except OSError:
            connection.close()  # who asked is gone
        finally:
            for file in files:
                os.close(file)

    def _fork(self, asked: dict[str, Any], files: list[int], connection: socket.socket) -> None:
        if self._asked is not None:
            self._asked()
            self._asked = None
        while not self._warm:
            self._step()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _work(self._run, asked, files, parent)
        pidfd = os.pidfd_open(child)
        self._running[pidfd] = (child, connection)
        self._selector.register(pidfd, selectors.EVENT_READ, self._ended)
        self._selector.register(connection, selectors.EVENT_READ, lambda _: self._kill(pidfd))  # it says nothing more

    def _ended(self, pidfd: int) -> None:
        child, connection = self._running.pop(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self._selector.unregister(pidfd)
        self._selector.unregister(connection)
        os.close(pidfd)
        with connection:
            # A signal's number as a shell tells it.
            connection.sendall(_CODE.pack(code if code >= 0 else 128 - code))

    def _kill(self, pidfd: int) -> None:
        """End a fork whose asker was killed."""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        try:
            self._ended(pidfd)
        except OSError:
            return  # nobody is left to be told


class OtherForks:
    """Forks of a process that is started for them, where this one must not fork.

    Args:
        module: the program of that process; it calls `serve_who_started`.
    """

    def __init__(self, module: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None  # noqa: S101 - Popen was given a pipe
        address = self.process.stdout.readline().rstrip("\n")
        self.variables = {ADDRESS_VARIABLE: address} if address else {}

    def __enter__(self) -> Self:
        """It has been started already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, and what still runs in it."""
        with self.process:  # it ends when its standard input does
            pass


def _work(run: Callable[[str], object], asked: dict[str, Any], files: list[int], parent: int) -> None:
    """In the fork: take the asker's place, run the stage, and end without what Python does at its end."""
    code = 70
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        code = exit_code(lambda: run(asked["stage"]))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
        traceback.print_exc()
        code = 1
    finally:
        # Locks and temporary folders are the parent's to give back.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)


@contextlib.contextmanager
def _short(address: Path) -> Iterator[str]:
    """The path of a socket in a form that always fits: a socket's address has room for 107 bytes."""
    folder = os.open(address.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{address.name}"
    finally:
        os.close(folder)


def _listen(address: Path) -> socket.socket:
    """A socket that only this user can reach, there at once and whole."""
    listener = socket.socket(socket.AF_UNIX)
    new = address.with_name(f"{address.name}.{os.getpid()}")
    mask = os.umask(0o077)
    try:
        with _short(new) as reached:
            listener.bind(reached)
        listener.listen()
        new.replace(address)
    except OSError:
        listener.close()
        new.unlink(missing_ok=True)
        raise
    finally:
        os.umask(mask)
    return listener


def _request(stage: str) -> dict[str, Any]:
    return {"stage": stage, "folder": str(Path.cwd()), "environment": dict(os.environ), "settings": _settings()}


def _settings() -> dict[str, Any]:
    """What must be the same on both sides: interpreter, installed libraries, engine, and what is read at an import."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(_READ_AT_IMPORT)}
    engine = Path(__file__).parent
    return {
        "prefix": sys.prefix,
        "installed": Path(sysconfig.get_path("purelib")).stat().st_mtime_ns,
        "engine": [str(engine), max(file.stat().st_mtime_ns for file in engine.rglob("*.py"))],
        "variables": variables,
    }
