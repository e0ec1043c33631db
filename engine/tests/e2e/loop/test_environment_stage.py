"""What a new linter, engine or library means for a released model, with real DVC."""

import json
import re
import shutil

import pytest
import yaml
from loop_project import ROOT

from mergeline.model.artifact import folder_digest

pytestmark = pytest.mark.slow


def lock_version(project, name, version):
    """Let uv.lock name this version of a library, as `uv lock --upgrade-package` does."""
    path = project.root / "uv.lock"
    text, count = re.subn(
        rf'(\[\[package\]\]\nname = "{name}"\nversion = )"[^"]+"', rf'\g<1>"{version}"', path.read_text()
    )
    assert count == 1
    path.write_text(text)


def pretend_installed(project, name, version):
    """Put the record of an installed library before the real one on the path of the project's tools."""
    folder = project.root / "src" / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def edit_engine(project, file, before, after):
    """Let the project use an engine of its own with this change in it."""
    shutil.copytree(ROOT / "engine" / "src" / "mergeline", project.root / "src" / "mergeline", dirs_exist_ok=True)
    path = project.root / "src" / "mergeline" / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def stages_run(project):
    done = project.run("dvc", "repro", "--pull")
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall("^Running stage '(.+)':$", done.stdout, flags=re.MULTILINE)


def changed(project):
    return {line for line in project.run("dvc", "status").stdout.splitlines() if not line.startswith((" ", "\t"))}


def locked(project, stage):
    outs = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"][stage]["outs"]
    return {out["path"]: out["md5"] for out in outs}


def test_a_new_linter_or_engine_reruns_and_changes_nothing(released):
    digest, made = folder_digest(released.root / "model"), locked(released, "environment")
    lock_version(released, "ruff", "99.0")
    lock_version(released, "mergeline", "9.9.9")
    pretend_installed(released, "mergeline", "9.9.9")
    assert stages_run(released) == ["environment"]
    assert changed(released) == {"Data and pipelines are up to date."}
    assert "unchanged" in released.mergeline("propose").stdout
    assert locked(released, "environment") == made
    assert folder_digest(released.root / "model") == digest


def test_another_scikit_learn_trains_again(released):
    lock_version(released, "scikit-learn", "9.9.9")
    refused = released.mergeline("environment", code=1)
    assert "is installed, the lock names 9.9.9" in refused.stderr
    assert "make install" in refused.stderr
    pretend_installed(released, "scikit-learn", "9.9.9")
    assert released.run("dvc", "repro", "environment").returncode == 0
    assert changed(released) == {"train:"}


def test_a_library_that_was_not_installed_after_a_pull_stops_the_training(released):
    path = released.root / "build" / "environment.json"
    written = json.loads(path.read_text())
    written["libraries"]["scikit-learn"] = "9.9.9"
    path.unlink()
    path.write_text(json.dumps(written))
    refused = released.mergeline("train", code=1)
    assert "expected 9.9.9" in refused.stderr
    assert "make install" in refused.stderr


def test_an_engine_that_trains_other_bytes_trains_again(released):
    digest = folder_digest(released.root / "model")
    edit_engine(released, "model/environment.py", "TRAINING_FORMAT = 1", "TRAINING_FORMAT = 2")
    assert "equivalent" in released.mergeline("propose").stdout
    assert json.loads((released.root / "model" / "lineage.json").read_text())["training_format"] == 2
    assert folder_digest(released.root / "model") != digest


def test_an_engine_that_measures_more_evaluates_again_and_trains_nothing(released):
    edit_engine(released, "evaluate/__init__.py", "EVALUATION_FORMAT = 2", "EVALUATION_FORMAT = 3")
    done = released.mergeline("propose")
    assert "unchanged" in done.stdout
    assert "evaluated: " in done.stderr
    assert "trained: " not in done.stderr


def test_a_lock_that_still_holds_the_stages_of_before_is_read_and_loses_them(released):
    path = released.root / "dvc.lock"
    before = path.read_text()
    outs = "    outs:\n    - path: build/old.json\n      hash: md5\n      md5: c0ea0ca26012ee6c90ea42348e03c93d\n"
    path.write_text(before.replace("\n  train:\n", f"\n  split:\n    cmd: mergeline split\n{outs}  train:\n"))
    assert "unchanged" in released.mergeline("propose").stdout
    assert path.read_text() == before
