"""The command line: one verb, one function of the engine."""

from __future__ import annotations

import sys


def main() -> None:
    """Run one verb; a known error is reported in one piece and ends with code 1."""
    from mergeline.process import end_after, prepare
    from mergeline.release import stages

    prepare()
    if len(sys.argv) == 2 and sys.argv[1] in stages.STAGES:
        # DVC starts one process a stage: it reads no command line, and may find scikit-learn imported already.
        sys.exit(stages.run_by_dvc(sys.argv[1]))
    from mergeline.cli import verbs

    end_after(verbs.app)
