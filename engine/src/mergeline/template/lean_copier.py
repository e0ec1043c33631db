"""Copier, without the files that no team gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import copier


class LeanWorker(copier.Worker):
    """Deletes them from copier's own clone first: it renders each part of the name of every file there, git's too.

    Of an upgrade copier makes three copies, each by a worker and with a clone of its own.
    """

    def run_copy(self) -> None:
        """Copy the template; one that is no git repository is read where it is, and left alone."""
        clone = self.template.local_abspath
        known = (self.template.commit, self.template.version)  # asked of git now, and kept by copier
        if known[0] is not None and clone.resolve() != Path(self.template.url).resolve():
            for name in (".git/objects", "engine", "store"):
                shutil.rmtree(clone / name, ignore_errors=True)
        super().run_copy()
