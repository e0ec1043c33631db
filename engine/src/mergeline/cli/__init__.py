"""The command line: one verb, one function of the engine."""

from __future__ import annotations

import errno
import gc
import os
import sys

from mergeline.cli import (  # noqa: F401 - each adds its verbs
    ci,
    doctor,
    image,
    new,
    pipeline,
    propose,
    release,
    retrain,
    rollout,
    serve,
    traffic,
    watch,
)
from mergeline.cli.app import app


def main() -> None:
    """Run one verb; a known error is told in one piece and ends with code 1."""
    from mergeline.errors import MergelineError
    from mergeline.files import FolderError

    # Threads of a numeric library that wait for each other asleep: spinning ones cost minutes on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Importing scikit-learn makes a million objects that all stay: looking through them again and again for garbage
    # takes a fifth of the time.
    gc.set_threshold(200_000, 50, 50)
    try:
        app()
    except MergelineError as error:
        sys.stderr.write(f"mergeline: {error}\n")
        sys.exit(1)
    except OSError as error:
        # Any other file or folder that is missing is a bug, and its traceback says where.
        known = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EACCES, errno.EROFS)
        if error.errno not in known and not isinstance(error, FolderError):
            raise
        sys.stderr.write(f"mergeline: {error.filename or 'a file'}: cannot be written: {error.strerror}\n")
        sys.stderr.write(
            "  hint: make room, take the right to write there, or name another place; nothing was half written\n"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
