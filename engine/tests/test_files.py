"""Files are written whole or not at all."""

import os

import pytest

from mergeline.files import FolderError, canonical_json, write_bytes, write_text


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as told:
        write_bytes(path, b"new")
    assert told.value.filename == str(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("place", ["taken", "taken/below", "/proc/mergeline", "/proc/self"])
def test_a_folder_that_cannot_be_is_told_from_a_file_that_is_missing(tmp_path, place):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FolderError) as error:
        write_text(tmp_path / place / "a.txt", "new")
    assert error.value.filename == str(tmp_path / place)


def test_a_file_keeps_its_mode(tmp_path):
    path = tmp_path / "run"
    path.write_text("x")
    path.chmod(0o755)
    write_text(path, "y")
    assert path.stat().st_mode & 0o777 == 0o755


def test_canonical_json_refuses_what_json_has_no_word_for():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
