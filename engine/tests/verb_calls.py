"""Calls a verb in this process, which has imported already what takes a new one seconds."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from subprocess import CompletedProcess

from mergeline.process import exit_code


def call_verb(folder: Path, *arguments: object) -> CompletedProcess[str]:
    """What `mergeline` with these arguments does in `folder`: its exit code, and what it prints."""
    from mergeline.cli.verbs import app

    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = exit_code(lambda: app(words, prog_name="mergeline"))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())
