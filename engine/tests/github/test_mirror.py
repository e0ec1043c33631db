"""The local GitHub copies the objects of a repository of any size."""

from __future__ import annotations

import subprocess
from pathlib import Path

from local_github.mirror import read_objects


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, input=stdin, check=True, capture_output=True, timeout=60).stdout.decode()


def test_five_thousand_objects_are_read_although_the_names_and_the_answers_fill_both_pipes(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare")
    blobs = [b"%d " % number + b"x" * 200 for number in range(5000)]
    stream = b"".join(b"blob\ndata %d\n%s\n" % (len(blob), blob) for blob in blobs)
    git(tmp_path, "fast-import", "--quiet", stdin=stream)
    names = git(tmp_path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()

    found = list(read_objects(tmp_path, names))

    assert [name for name, _, _ in found] == names
    assert sorted(content for _, _, content in found) == sorted(blobs)
