"""Puts what the pipeline made into the store, and gives up early where the store takes nothing."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from mergeline.errors import ToolError
from mergeline.home import Home, find_homes
from mergeline.release.inputs import PIPELINE_FILE
from mergeline.release.reproduce import dvc_command, dvc_environment
from mergeline.store.config import resolved_url

FIRST_WORD_SECONDS, NEXT_WORD_SECONDS = 10, 30
SILENT_SECONDS = 120
"""How long nothing may be read, sent or computed: S3's client has no limit for a store that never says `continue`."""
_ERROR, _REFUSED = "ERROR: ", "ERROR: failed to transfer "
_TOLD_LINES = 20


def push(root: Path, say: Callable[[str], None]) -> None:
    """Copy new objects of this home, and the record of what each run made, into the store.

    DVC tries an object that a remote store refuses five times, for up to a minute and a half, and then all the others
    alike: the first one that fails ends it. So does a store that is silent.

    Args:
        root: the home.
        say: takes a line where it takes long.

    Raises:
        ToolError: the store is full, cannot be reached, or is not writable. What it has taken stays there.
        StoreError: there is no store.
    """
    url, reasons, told = resolved_url(root), list[str](), list[str]()
    process = subprocess.Popen(
        dvc_command("push", "--run-cache", *_own(root)),
        cwd=root,
        env=dvc_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    with process, _watched(process, url, say, reasons):
        assert process.stderr is not None  # noqa: S101 - Popen was given a pipe
        for line in process.stderr:
            told.append(line)
            if line.startswith(_ERROR) and " - " in line:
                reasons.append(line.partition(" - ")[2].strip())
            if line.startswith(_REFUSED) and "://" in url:
                process.terminate()
    if process.returncode:
        if not reasons:
            sys.stderr.writelines(told[-_TOLD_LINES:])
        raise ToolError(
            f"the store took no new objects{f': {reasons[0]}' if reasons else ', see above'}",
            where=f"{url} (dvc push)",
            hint="check that it answers, its room, and that your credentials may write there (dvc remote list); "
            "then propose again: the same model comes out, and what the store has taken stays",
        )


def _own(root: Path) -> list[str]:
    """The files of a home among several that name its objects: without them DVC looks at the whole repository."""
    if len(find_homes(Home.at(root).root)) < 2:
        return []
    return [PIPELINE_FILE, *sorted(path.name for path in root.glob("*.dvc") if path.is_file())]  # not the folder .dvc


@contextlib.contextmanager
def _watched(
    process: subprocess.Popen[str], url: str, say: Callable[[str], None], reasons: list[str]
) -> Iterator[None]:
    """Say after some seconds what is waited for, and end the process where nothing happens any more."""
    ended, started = threading.Event(), time.monotonic()

    def watch() -> None:
        said, moved, before = started + FIRST_WORD_SECONDS - NEXT_WORD_SECONDS, started, _activity(process.pid)
        while not ended.wait(1):
            now, activity = time.monotonic(), _activity(process.pid)
            if activity is None or activity != before or _is_sending(process.pid):
                moved, before = now, activity
            if now - moved >= SILENT_SECONDS and "://" in url:
                reasons.append(f"it has been silent for {SILENT_SECONDS} s")
                process.terminate()
                return
            if now - said >= NEXT_WORD_SECONDS:
                first, said = now - started < NEXT_WORD_SECONDS, now
                say(
                    f"{url} has not taken everything after {now - started:.0f} s; an object that it refuses is tried "
                    f"five times, up to a minute and a half, and after {SILENT_SECONDS} s of silence this ends"
                    if first
                    else f"still putting objects into {url}, {now - started:.0f} s"
                )

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _activity(number: int) -> tuple[int, int] | None:
    """Bytes that a process has read, and seconds that it has computed; None where the system does not tell."""
    try:
        process = psutil.Process(number)
        return process.io_counters().read_chars, int(sum(process.cpu_times()[:2]))
    except (AttributeError, psutil.Error):  # macOS counts no bytes
        return None


def _is_sending(number: int) -> bool:
    """Whether bytes of a process wait to be sent: a slow line is not a silent store."""
    try:
        folder = Path(f"/proc/{number}")
        own = {str(path.readlink()) for path in (folder / "fd").iterdir()}
        sockets = [
            line.split() for name in ("tcp", "tcp6") for line in (folder / "net" / name).read_text().splitlines()
        ]
    except OSError:  # it has just ended, or this is no Linux
        return True
    return any(
        f"socket:[{line[9]}]" in own and int(line[4].partition(":")[0], 16) for line in sockets if ":" in line[4]
    )
