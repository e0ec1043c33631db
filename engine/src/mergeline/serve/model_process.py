"""Runs a model in a process of its own: whatever it does there, the server and the other models go on."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mergeline.errors import MergelineError, ModelError
from mergeline.model.artifact import LoadedModel, load_model
from mergeline.requests.problems import Value
from mergeline.scorer.signature import Column
from mergeline.serve.containment import adopt_orphans, contain, end_orphans
from mergeline.timing import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerContext, SpawnContext

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SHORT_LIFE_SECONDS = 5.0
"""A process that ends sooner after its first answer is started again after a pause, which doubles each time."""
LONGEST_PAUSE_SECONDS = 30.0
END_SECONDS = 2.0
"""How long to wait for the exit code of a process that has closed its connection."""
SCIKIT_LEARN = ("pandas", "skops.io", "sklearn.compose", "sklearn.ensemble", "sklearn.pipeline")
"""Imported once, in the process that the others are copies of: a model whose process ended is back in a moment."""
SHORT_TMPDIR, MAX_TMPDIR_BYTES = "/tmp", 64  # noqa: S108 - a folder of its own is made there
"""The path of a socket has 107 bytes at most."""
MAX_ERROR_BYTES = 8192
MAX_REASON_CHARACTERS = 500


class _Scores(msgspec.Struct, tag="scores"):
    number: int
    shape: tuple[int, ...]
    content: bytes


class _Failed(msgspec.Struct, tag="failed"):
    number: int
    what: str
    where: str = ""
    hint: str = ""


_read_reply = msgspec.msgpack.Decoder(_Scores | _Failed).decode
_write = msgspec.msgpack.Encoder().encode


class _Running(NamedTuple):
    process: BaseProcess
    connection: Connection
    lifeline: Connection


class ModelProcess:
    """One model's process, which is started when it is first needed and again when it has ended.

    Only numbers and texts come back from it, so a hostile model cannot reach the server through its answers.

    Args:
        model: what the process loads anew, by its folder and digest.
        trusted_types: as `load_model` takes them.
        compiled: whether the model has a compiled scorer, so that scikit-learn is not needed.
        load_seconds: that the first answer may take, with which it is loaded.
        most_seconds: that any other may take; a process that needs longer is ended, and the next request has another.
    """

    def __init__(
        self,
        model: LoadedModel,
        trusted_types: tuple[str, ...],
        *,
        compiled: bool,
        load_seconds: float = 60.0,
        most_seconds: float = 60.0,
    ) -> None:
        self._load_seconds, self._most_seconds, self._asked = load_seconds, most_seconds, 0
        self._arguments = str(model.folder), model.digest, trusted_types
        # What is compiled runs there once, on trial: a fork server would stay behind, and without scikit-learn.
        self._context: SpawnContext | ForkServerContext = (
            multiprocessing.get_context("spawn") if compiled else multiprocessing.get_context("forkserver")
        )
        self._most_bytes = 8 * max(1, len(model.signature.output.classes))
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._answers_since: float | None = None
        self._short_lives, self._start_at, self._ended = 0, 0.0, ""
        self._closed = False

    def score(self, rows: Sequence[tuple[Value, ...]]) -> NDArray[np.float64]:
        """What `score_rows` gives in that process. Calls from several threads wait for each other.

        Raises:
            ModelError: the model cannot be loaded, raised something, or ended its process.
        """
        import numpy as np

        with self._lock:
            running = self._running or self._start()
            self._asked += 1
            try:
                running.connection.send_bytes(_write((self._asked, rows)))
                content = running.connection.recv_bytes(MAX_ERROR_BYTES + self._most_bytes * len(rows))
                reply = _read_reply(content)
                if reply.number != self._asked:  # a model that forks may come back twice
                    raise OSError("this answers another request")  # noqa: TRY301 - told as what nobody understands
                if self._answers_since is None:
                    self._answers_since = time.monotonic()
                    _bound(running.connection, self._most_seconds)
            except (OSError, EOFError, msgspec.MsgspecError) as cause:
                raise self._end(running, cause) from cause
        if isinstance(reply, _Failed):
            raise ModelError(reply.what, where=reply.where, hint=reply.hint)
        try:
            return np.frombuffer(reply.content, dtype=np.float64).reshape(reply.shape)
        except (ValueError, OverflowError) as cause:
            raise ModelError(f"the model failed: its scores cannot be read: {cause}", where="predict") from cause

    def close(self) -> None:
        """End the process and all that it has started, and never start it again; a call that it is at fails."""
        self._closed = True
        if running := self._running:  # without the lock, and without its connection: a call that hangs has them
            _kill(running.process)

    def close_after(self, seconds: float) -> None:
        """Close once every request that may still need it is over."""
        timer = threading.Timer(seconds, self.close)
        timer.daemon = True
        timer.start()

    def _start(self) -> _Running:
        if self._closed:
            raise ModelError("the model is not in service any more", where="predict")
        now = time.monotonic()
        if now < self._start_at:
            raise self._error(f"{self._ended}; it starts again in {self._start_at - now:.0f} s")
        _make_room_for_sockets()
        adopt_orphans()
        self._context.set_forkserver_preload([__name__, *SCIKIT_LEARN])
        ours, theirs = self._context.Pipe()
        lifeline, end = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_run, args=(theirs, lifeline, *self._arguments), name="model", daemon=True
        )
        try:
            process.start()
        except (OSError, EOFError) as cause:
            raise ModelError(
                f"the model's process cannot be started: {cause}",
                where="predict",
                hint="make room for one process more: memory, `ulimit -u`, and TMPDIR for a socket",
            ) from cause
        finally:
            theirs.close()
            lifeline.close()
        _bound(ours, self._load_seconds)
        running = self._running = _Running(process, ours, end)
        self._finalizer = weakref.finalize(self, _give_up, running)
        if self._closed:  # while it was started
            _kill(process)
        return running

    def _end(self, running: _Running, cause: Exception) -> ModelError:
        """Note that the process has ended, hangs, or said what nobody understands; the error that tells."""
        if isinstance(cause, BlockingIOError):
            seconds = self._most_seconds if self._answers_since else self._load_seconds
            self._ended = f"the model did not answer in {seconds:g} seconds, and its process was ended"
        else:
            running.process.join(END_SECONDS)
            self._ended = f"the model ended its process: {_describe_end(running.process.exitcode)}"
        self._finalizer()
        now = time.monotonic()
        lived = now - (self._answers_since or now)
        self._running = self._answers_since = None
        self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE_SECONDS else 0
        if self._short_lives:
            self._start_at = now + backoff_seconds(self._short_lives - 1, first=1.0, longest=LONGEST_PAUSE_SECONDS)
        return self._error(self._ended)

    def _error(self, what: str) -> ModelError:
        return ModelError(what, where="predict", hint="load and predict once where it was trained; see its own code")


def _make_room_for_sockets() -> None:
    """Put the fork server's socket into /tmp where TMPDIR is too long for one, as Python itself does from 3.14 on."""
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if "tempdir" not in config and len(tempfile.gettempdir()) > MAX_TMPDIR_BYTES and os.access(SHORT_TMPDIR, os.W_OK):
        config["tempdir"] = tempfile.mkdtemp(prefix="pymp-", dir=SHORT_TMPDIR)
        atexit.register(shutil.rmtree, config["tempdir"], ignore_errors=True)


def _bound(connection: Connection, seconds: float) -> None:
    """Let each reading and writing fail with BlockingIOError that goes on for so long without a byte."""
    length = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    with socket.socket(fileno=os.dup(connection.fileno())) as place:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            place.setsockopt(socket.SOL_SOCKET, option, length)


def _kill(process: BaseProcess) -> None:
    """Have the process end, with all that the model has started; see `contain`."""
    if process.is_alive():  # else its number may be another's by now
        process.terminate()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(process.pid), signal.SIGCONT)  # type: ignore[arg-type]  # it was started
    else:
        end_orphans()


def _give_up(running: _Running) -> None:
    _kill(running.process)
    for connection in (running.connection, running.lifeline):
        connection.close()


def _describe_end(code: int | None) -> str:
    if code is None:
        return "it closed its connection"
    if code == -signal.SIGKILL:
        return "killed by SIGKILL, as where memory runs out"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def score_rows(model: LoadedModel, rows: Sequence[tuple[Value, ...]]) -> NDArray[np.float64]:
    """Score rows by the compiled scorer, or by scikit-learn where there is none.

    Args:
        model: the model.
        rows: a value for each column of its signature.

    Returns:
        As `LoadedModel.predict`.
    """
    scorer = model.scorer
    if scorer is not None:
        return scorer.score(scorer.encode(rows))
    return model.predict(to_frame(rows, model.signature.columns))


def to_frame(rows: Sequence[tuple[Value, ...]], columns: Sequence[Column]) -> pd.DataFrame:
    """The rows of one request as one frame, a column each."""
    import pandas as pd

    return pd.DataFrame(dict(zip((column.name for column in columns), zip(*rows, strict=True), strict=True)))


def describe_exception(error: BaseException) -> str:
    """What a model raised, in one short text; an exception of its own may fail to say what it is."""
    return f"{_text(lambda: type(error).__name__, '(no name)')}: {_text(lambda: error, '(no text)')}"


def _text(give: Callable[[], object], otherwise: str) -> str:
    """What a model's own object says, short and fit to be sent."""
    try:
        return str(give())[:MAX_REASON_CHARACTERS].encode(errors="backslashreplace").decode()
    except BaseException:  # noqa: BLE001 - the model's class is not ours
        return otherwise


def describe_failure(error: BaseException) -> ModelError:
    """What a model raised while it scored, as the error that callers and operators see."""
    hint = "see what the records hold that training never saw"
    return ModelError(f"the model failed: {describe_exception(error)}", where="predict", hint=hint)


def _run(
    connection: Connection, lifeline: Connection, folder: str, digest: str, trusted_types: tuple[str, ...]
) -> None:
    """The process: load the model, then score until the server closes the connection."""
    contain(lifeline, connection)
    model: LoadedModel | None = None
    while True:
        try:
            content = connection.recv_bytes()
        except EOFError:
            return
        number, rows = msgspec.msgpack.decode(content)
        try:
            model = model or load_model(Path(folder), digest=digest, trusted_types=trusted_types, defer=True)
            reply: _Scores | _Failed = _score(model, number, rows)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, SystemExit too, is told and not obeyed
            told = error if isinstance(error, MergelineError) else describe_failure(error)
            reply = _Failed(number, *(_text(partial(getattr, told, part), "") for part in ("what", "where", "hint")))
        connection.send_bytes(_write(reply))


def _score(model: LoadedModel, number: int, rows: Any) -> _Scores:
    import numpy as np

    scores = np.ascontiguousarray(score_rows(model, rows), dtype=np.float64)
    return _Scores(number, scores.shape, scores.tobytes())
